// From when the time of a request counts. Only least times are measured: a busy machine may take
// longer, never shorter.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct DeadlineTests {
    @Test("a request has all its time from its first byte on, however long the silence before it")
    func fromItsBeginning() throws {
        let timeout = 1.0
        let daemon = try DaemonProcess(["--request-timeout", "1"])
        let onlooker = try daemon.text()
        #expect(try onlooker.ask("alloc a 1048576") == "OK")
        let binary = try (0..<3).map { _ in try daemon.frames().socket }
        let text = try daemon.text().socket
        try text.send(line: "ping")
        #expect(try text.receiveLine() == "OK pong")
        let sockets = binary + [text]
        // Longer than a request may take, which is no fault of who asks nothing.
        let silence = Date()
        while Date().timeIntervalSince(silence) < 2 * timeout { usleep(50_000) }
        for socket in sockets { #expect(!socket.isReadable) }
        var large = TestFrame(9, name: "a", size: 1_048_576)
        large.payloadSize = 1_048_577
        let beginnings: [[UInt8]] = [
            Array(TestFrame(2).bytes.prefix(20)),
            large.bytes + [1, 2, 3],
            Array(TestFrame(200, payload: [UInt8](repeating: 1, count: 1000)).bytes.prefix(500)),
            Array("read a 0".utf8),
        ]
        var begun: [Date] = []
        for (socket, bytes) in zip(sockets, beginnings) {
            begun.append(Date())
            try socket.send(bytes)
        }
        for (socket, start) in zip(sockets, begun) {
            // Blocks until the error comes.
            let first = try socket.receive(1)
            let seconds = Date().timeIntervalSince(start)
            #expect(!first.isEmpty && seconds > 0.9 * timeout, "ended after \(seconds) s")
        }
        #expect(try onlooker.stats()["request_timeouts"] == "4")
    }

    @Test("each request has its own time: those before it, and the time between, do not count")
    func eachItsOwn() throws {
        let daemon = try DaemonProcess(["--request-timeout", "3"])
        let socket = try daemon.frames().socket
        let ping = TestFrame(2, cookie: 5).bytes
        // In all far longer than one request may take; the half that waits is always a fresh one.
        let start = Date()
        while Date().timeIntervalSince(start) < 6 {
            try socket.send(Array(ping.prefix(20)))
            usleep(100_000)
            try socket.send(Array(ping.suffix(20)) + ping.prefix(20))
            #expect(try socket.receiveFrame().cookie == 5)
            usleep(100_000)
            try socket.send(Array(ping.suffix(20)))
            #expect(try socket.receiveFrame().cookie == 5)
        }
    }
}
