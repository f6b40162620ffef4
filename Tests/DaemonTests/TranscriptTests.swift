// protocol/transcripts through the built daemon: line by line, in one piece, byte by byte.

import Testing
import TestSupport

@Suite(.timed) struct TranscriptTests {
    @Test("a session typed line by line", arguments: Transcript.all)
    func lineByLine(transcript: Transcript) throws {
        let daemon = try DaemonProcess()
        let socket = try daemon.connect()
        var pending: String?
        func next() throws -> String {
            defer { pending = nil }
            return try pending ?? socket.receiveLine()
        }
        for step in transcript.steps {
            switch step {
            case .send(let bytes): try socket.send(bytes)
            case .endOfInput: socket.endOutput()
            case .line(let pattern):
                let line = try next()
                try #require(Transcript.matches(line, pattern), "expected \(pattern), got \(line)")
            case .lines(let pattern):
                let line = try next()
                try #require(Transcript.matches(line, pattern), "expected \(pattern), got \(line)")
                repeat {
                    pending = try socket.receiveLine()
                } while Transcript.matches(
                    pending ?? "", pattern)
            case .closed:
                #expect(pending == nil)
                #expect(try socket.receiveToEnd() == [])
            }
        }
    }

    @Test("the same session in one piece", arguments: Transcript.all)
    func onePiece(transcript: Transcript) throws {
        let daemon = try DaemonProcess(tcp: true)
        for socket in [try daemon.connect(), try daemon.connectTCP()] {
            try socket.send(transcript.input)
            if transcript.endsInput { socket.endOutput() }
            let output = String(decoding: try socket.receiveToEnd(), as: UTF8.self)
            let fault = transcript.fault(in: output)
            #expect(fault == nil, "\(fault ?? "")")
            // The second time is on a fresh daemon's worth of state.
            try clear(daemon)
        }
    }

    @Test("the same session byte by byte", arguments: Transcript.all)
    func byteByByte(transcript: Transcript) throws {
        let daemon = try DaemonProcess()
        let socket = try daemon.connect()
        try? socket.drip(transcript.input)
        if transcript.endsInput { socket.endOutput() }
        let output = String(decoding: try socket.receiveToEnd(), as: UTF8.self)
        let fault = transcript.fault(in: output)
        #expect(fault == nil, "\(fault ?? "")")
    }

    @Test("a line of a transcript matches its pattern")
    func patterns() {
        #expect(Transcript.matches("OK 4 6", "OK 4 6"))
        #expect(!Transcript.matches("OK 4 6 2", "OK 4 6"))
        #expect(Transcript.matches("ERR a B: c", "ERR a *"))
        #expect(Transcript.matches("created=20Z", "created=*Z"))
        #expect(!Transcript.matches("created=20", "created=*Z"))
        #expect(!Transcript.matches("OKX", "OK*OKX"))
    }

    private func clear(_ daemon: DaemonProcess) throws {
        let text = try daemon.text()
        try text.socket.send(line: "list")
        var names: [String] = []
        while true {
            let words = try text.socket.receiveLine().split(separator: " ").map(String.init)
            guard words.first == "ITEM" else { break }
            names.append(words[1])
        }
        for name in names { #expect(try text.ask("dispose \(name)") == "OK") }
    }
}
