// protocol/vectors through the built daemon: whole, split at every byte, and all in one piece.

import Testing
import TestSupport

/// frames.json: every request gets the reply that follows it.
@Suite(.timed) struct FrameVectorTests {
    @Test("each request gets its reply")
    func oneByOne() throws {
        let daemon = try DaemonProcess()
        let socket = try daemon.connect()
        for (request, reply) in Vectors.pairs {
            try socket.send(request.frame)
            guard check(try socket.receiveFrame(), reply) else { return }
        }
        #expect(try socket.isEnded(), "quit closes the connection")
    }

    @Test("frames that arrive byte by byte get the same replies")
    func byteByByte() throws {
        let daemon = try DaemonProcess()
        let socket = try daemon.connect()
        for (request, reply) in Vectors.pairs {
            // The two of 16 KiB are many wake-ups for little news.
            if request.frame.count > 1000 {
                try socket.drip(Array(request.frame.prefix(100)))
                try socket.send(Array(request.frame.dropFirst(100)))
            } else {
                try socket.drip(request.frame)
            }
            guard check(try socket.receiveFrame(), reply) else { return }
        }
        #expect(try socket.isEnded())
    }

    @Test("all frames in one piece get the same replies, over TCP too", arguments: [false, true])
    func allAtOnce(tcp: Bool) throws {
        let daemon = try DaemonProcess(tcp: tcp)
        let socket = try tcp ? daemon.connectTCP() : daemon.connect()
        let pairs = Vectors.pairs.filter { !tcp || $0.request.unixSocket != true }
        try socket.send(pairs.flatMap(\.request.frame))
        for (_, reply) in pairs {
            guard check(try socket.receiveFrame(), reply) else { return }
        }
        #expect(try socket.isEnded())
    }

    @Test("every frame followed by the start of the next gets its reply at once")
    func withTrailingBytes() throws {
        let daemon = try DaemonProcess()
        let socket = try daemon.connect()
        var carried = 0
        for (index, (request, reply)) in Vectors.pairs.enumerated() {
            let next = index + 1 < Vectors.pairs.count ? Vectors.pairs[index + 1].request.frame : []
            let trailing = min(next.count - 1, 1 + index % 60)
            try socket.send(Array(request.frame.dropFirst(carried) + next.prefix(max(0, trailing))))
            carried = max(0, trailing)
            guard check(try socket.receiveFrame(), reply) else { return }
        }
    }

    private func check(_ frame: TestFrame, _ reply: FrameVector) -> Bool {
        let got = hex(reply.comparable(frame.bytes))
        let expected = hex(reply.comparable(reply.frame))
        #expect(got == expected, "\(reply.name): \(frame) \(frame.status == 0 ? "" : frame.text)")
        return got == expected
    }
}

/// malformed.json: one error with the right status, and the connection goes on or ends.
@Suite(.timed) struct MalformedFrameTests {
    enum Way: CaseIterable {
        case whole, byteByByte, withTrailingPing
    }

    @Test("malformed input gets the error that the specification names", arguments: Way.allCases)
    func malformed(way: Way) throws {
        let daemon = try DaemonProcess()
        let ping = TestFrame(2, cookie: 77).bytes
        for vector in Vectors.malformed {
            let socket = try daemon.connect()
            if vector.hello {
                try socket.send(TestFrame(1).bytes)
                #expect(try socket.receiveFrame().status == 0, "\(vector.name)")
            }
            switch way {
            case .whole: try socket.send(vector.frame)
            case .byteByByte where vector.frame.count < 1000: try? socket.drip(vector.frame)
            case .byteByByte: try socket.send(vector.frame)
            case .withTrailingPing:
                try socket.send(vector.frame + (vector.end == true || vector.closes ? [] : ping))
            }
            if vector.end == true { socket.endOutput() }
            do {
                try check(socket, vector)
                if vector.closes {
                    #expect(try socket.isEnded(), "\(vector.name): not closed")
                } else if vector.hello {
                    if way != .withTrailingPing { try socket.send(ping) }
                    let pong = try socket.receiveFrame()
                    #expect(pong.cookie == 77 && pong.status == 0, "\(vector.name): \(pong)")
                } else {
                    try socket.send(TestFrame(1, cookie: 78).bytes)
                    if way == .withTrailingPing {
                        #expect(try socket.receiveFrame().status != 0)
                    } else {
                        #expect(try socket.receiveFrame().cookie == 78, "\(vector.name)")
                    }
                }
            } catch {
                Issue.record("\(vector.name): \(error)")
            }
        }
        #expect(daemon.isRunning)
        #expect(try daemon.text().ask("list") == "OK 0", "something was allocated")
    }

    private func check(_ socket: RawSocket, _ vector: MalformedVector) throws {
        guard let name = vector.status else { return }
        let reply = try socket.receiveFrame()
        #expect(FrameClient.statusName(reply) == name, "\(vector.name): \(reply.text)")
        #expect(reply.magic == 0xE6 && reply.version == 1, "\(vector.name)")
        let values = Vectors.values
        let wantedClass = values.statuses.first { $0.name == name }?.class
        let got = values.errorClasses.first { $0.number == Int(reply.type) }?.name
        #expect(got == wantedClass, "\(vector.name)")
        #expect(!reply.payload.isEmpty, "\(vector.name): no message")
        #expect(reply.flags == 0 && reply.nameSize == 0 && reply.handle == 0, "\(vector.name)")
        #expect(reply.offset == 0 && reply.size == 0, "\(vector.name)")
        guard vector.frame.count >= TestFrame.headerSize else { return }
        let sent = TestFrame(header: Array(vector.frame.prefix(TestFrame.headerSize)))
        let broken = sent.magic != 0xE5
        #expect(reply.operation == (broken ? 0 : sent.operation), "\(vector.name)")
        #expect(reply.cookie == (broken ? 0 : sent.cookie), "\(vector.name)")
    }
}
