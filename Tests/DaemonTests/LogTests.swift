// What peers send must not forge or flood the log.

import Foundation
import Testing
import TestSupport

/// Test 22 of the reliability bar.
@Suite(.timed) struct LogTests {
    @Test("hostile names and words leave a log of valid single lines")
    func injection() throws {
        let daemon = try DaemonProcess(["--log-level", "trace"])
        let hostile: [String] = [
            "x\u{1B}[2J\u{1B}[31mFAKE", "x\rFAKE", "x\0FAKE", "\u{202E}FAKE\u{2066}", "\u{85}FAKE",
            "\u{2028}FAKE", "x\u{7}\u{8}FAKE", "né",
        ]
        for word in hostile {
            for line in [
                "alloc \(word) 4", "\(word) a b", "read \(word)", "alloc a 4 \(word)",
                "help \(word)",
            ] {
                // A first byte over 0x7f would not be text at all.
                guard line.utf8.first ?? 0 < 0x80 else { continue }
                let socket = try daemon.connect()
                try socket.send(line: line)
                socket.endOutput()
                let output = try socket.receiveToEnd()
                try expectHarmless(output, "reply to \(line.debugDescription)")
            }
            let socket = try daemon.connect()
            try socket.send(TestFrame(1, payload: Array(word.utf8)).bytes)
            _ = try socket.receiveFrame()
            try socket.send(TestFrame(4, name: word).bytes)
            #expect(FrameClient.statusName(try socket.receiveFrame()) == "invalidName")
            try socket.send([0x80])
            _ = try? socket.receiveFrame()
        }
        let raw = try daemon.connect()
        try raw.send([0x61, 0x80, 0xFF, 0xFE, 0xC0, 0x20, 0x0A])
        try expectHarmless(Array(try raw.receiveLine().utf8) + [0x0A], "reply to raw bytes")
        #expect(daemon.stop() == 0)
        try expectHarmless(daemon.logBytes, "log")
    }

    @Test("at debug it tells of each connection, and why it ended")
    func connections() throws {
        let daemon = try DaemonProcess(["--log-level", "debug"], tcp: true)
        let binary = try daemon.connect()
        try binary.send([1, 2, 3])
        #expect(try binary.receiveLine().hasPrefix("ERR notSmalloc "))
        binary.close()
        try daemon.connectTCP().close()
        for wanted in [
            "connection opened fd=", "socket=unix", "socket=tcp", "reason=its input ended",
            "status=notSmalloc",
        ] {
            #expect(eventually { daemon.log.contains(wanted) }, "\(wanted): \(daemon.log)")
        }
    }

    @Test("at debug it tells what a client calls itself, at its hello and at its end")
    func clients() throws {
        let daemon = try DaemonProcess(["--log-level", "debug"])
        let plain = try daemon.frames()
        #expect(eventually { daemon.log.contains("client said hello client=\"tests/1\" fd=") })
        plain.socket.close()
        #expect(eventually { daemon.log.contains("connection closed client=\"tests/1\" fd=") })
        let most = Array("\n\u{1B}[2J fd=9 \"\\".utf8) + [0, 0x80, 0xFF]
        let hostile = most + [UInt8](repeating: 0x41, count: 64 - most.count)
        let socket = try daemon.connect()
        // In two pieces, and the beginning of another request behind them.
        let frame = TestFrame(1, payload: hostile).bytes
        try socket.drip(Array(frame.prefix(60)))
        try socket.send(Array(frame.dropFirst(60)) + [0xE5])
        #expect(try socket.receiveFrame().status == 0)
        let shown =
            #""\n\x1b[2J fd=9 \"\\\x00\x80\xff"# + String(repeating: "A", count: 64 - most.count)
            + "\""
        #expect(eventually { daemon.log.contains("client said hello client=\(shown) fd=") })
        // Too long a name is a malformed hello, and nobody's.
        let longer = try daemon.connect()
        try longer.send(TestFrame(1, payload: [UInt8](repeating: 0x42, count: 65)).bytes)
        #expect(FrameClient.statusName(try longer.receiveFrame()) == "malformedRequest")
        longer.close()
        socket.close()
        #expect(eventually { daemon.log.contains("connection closed client=\(shown) fd=") })
        #expect(!daemon.log.contains("BBBB"))
        #expect(daemon.stop() == 0)
        try expectHarmless(daemon.logBytes, "log")
    }

    @Test("ten thousand errors a second do not fill the log")
    func flood() throws {
        let daemon = try DaemonProcess()
        let text = try daemon.text()
        let frames = try daemon.frames()
        let start = Date()
        for _ in 0..<10 {
            let lines = String(
                repeating: "alloc n\u{1} 4\nread nothing\nfoo\nalloc a -1\n", count: 500)
            try text.socket.send(Array(lines.utf8))
            for _ in 0..<2000 { #expect(try text.socket.receiveLine().hasPrefix("ERR ")) }
            try frames.socket.send((0..<500).flatMap { _ in TestFrame(99).bytes })
            for _ in 0..<500 { #expect(try frames.socket.receiveFrame().status != 0) }
        }
        for _ in 0..<200 {
            let socket = try daemon.connect()
            try socket.send([0xFF])
            _ = try socket.receiveToEnd()
        }
        let seconds = Int(Date().timeIntervalSince(start)) + 1
        let lines = daemon.log.split(separator: "\n").count
        #expect(lines < 30 + 30 * seconds, "\(lines) lines in \(seconds) s")
    }

    @Test("a reader of the log that goes away takes nothing with it")
    func readerGone() throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        #expect(mkfifo(folder + "/log", 0o600) == 0)
        let reader = open(folder + "/log", O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        #expect(reader >= 0)
        let daemon = try DaemonProcess(["--log-level", "trace"], folder: folder)
        let text = try daemon.text()
        #expect(try text.ask("ping") == "OK pong")
        close(reader)
        // Each of these is worth a line.
        for _ in 0..<20 {
            let socket = try daemon.connect()
            try socket.send([0xFF])
            _ = try socket.receiveToEnd()
        }
        daemon.signal(SIGHUP)
        #expect(try text.ask("ping") == "OK pong")
        #expect(daemon.stop() == 0)
    }

    @Test(
        "a reader of the log that reads nothing does not stop the daemon", .timeLimit(.minutes(2)))
    func readerStuck() throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        #expect(mkfifo(folder + "/log", 0o600) == 0)
        let reader = open(folder + "/log", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        defer { close(reader) }
        #expect(fcntl(reader, Kernel.setPipeSize, 4096) == 4096)
        let daemon = try DaemonProcess(["--log-level", "trace", "--loops", "2"], folder: folder)
        // Ten a second of each cause are logged: the pipe is full long before the end.
        let end = Date().addingTimeInterval(3)
        while Date() < end {
            let socket = try daemon.connect(seconds: 5)
            try socket.send([0xFF])
            _ = try socket.receiveToEnd()
            daemon.signal(SIGHUP)
            #expect(try TextClient(daemon.connect(seconds: 5)).ask("ping") == "OK pong")
        }
        var log: [UInt8] = []
        #expect(
            eventually {
                var chunk = [UInt8](repeating: 0, count: 4096)
                let count = read(reader, &chunk, chunk.count)
                if count > 0 { log += chunk[..<count] }
                return String(decoding: log, as: UTF8.self).contains(
                    /dropped [1-9][0-9]* lines of the log/)
            }, "\(String(decoding: log, as: UTF8.self))")
        // It is full again, and the daemon stops all the same.
        #expect(daemon.stop() == 0)
    }

    private func expectHarmless(_ bytes: [UInt8], _ what: String) throws {
        let text = try #require(String(validating: bytes, as: UTF8.self), "\(what) is no UTF-8")
        for scalar in text.unicodeScalars where scalar != "\n" {
            let category = scalar.properties.generalCategory
            let harmful: [Unicode.GeneralCategory] = [
                .control, .format, .lineSeparator, .paragraphSeparator,
            ]
            #expect(!harmful.contains(category), "\(what): \(text.debugDescription)")
        }
        #expect(!text.split(separator: "\n").contains { $0.hasPrefix("FAKE") }, "\(what)")
        #expect(text.isEmpty || text.hasSuffix("\n"), "\(what)")
    }
}
