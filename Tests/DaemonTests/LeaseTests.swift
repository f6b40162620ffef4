// Leases in a running daemon: its own timer, connections that end in any way, and its turns.

import Foundation
import Testing
import TestSupport

@Suite("Leases in the daemon", .timed(seconds: 120))
struct LeaseTests {
    private func lease(_ name: String, _ milliseconds: UInt64, cookie: UInt64 = 1) -> TestFrame {
        TestFrame(
            3, flags: 50, type: 2, cookie: cookie, name: name, size: 8,
            payload: littleEndian(.max, milliseconds) + [0, 0])
    }

    /// Makes one, and gives the status.
    private func make(_ client: FrameClient, _ name: String, _ milliseconds: UInt64) throws
        -> UInt16
    {
        try client.socket.send(lease(name, milliseconds).bytes)
        return try client.socket.receiveFrame().status
    }

    private func isThere(_ client: FrameClient, _ name: String) throws -> Bool {
        try client.call("stat", name: name).status == 0
    }

    @Test("what is not used ends by itself, what is used does not, over several loops")
    func ends() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let clients = try (0..<4).map { _ in try daemon.frames() }
        for (index, client) in clients.enumerated() {
            #expect(try make(client, "short/\(index)", 40) == 0)
            #expect(try make(client, "long/\(index)", 3_600_000) == 0)
            #expect(try make(client, "open/\(index)", 40) == 0)
            #expect(try client.call("open", name: "open/\(index)").status == 0)
        }
        let begin = Date()
        for index in 0..<4 {
            let isGone = try eventually { try !isThere(clients[3 - index], "short/\(index)") }
            #expect(isGone)
        }
        #expect(Date().timeIntervalSince(begin) < 10)
        for index in 0..<4 {
            #expect(try isThere(clients[0], "long/\(index)"))
            #expect(try isThere(clients[0], "open/\(index)"))
        }
        // A shorter one than those that are waited for, and one after the last.
        #expect(try make(clients[1], "new", 20) == 0)
        #expect(try eventually { try !isThere(clients[1], "new") })
        #expect(try make(clients[2], "newer", 20) == 0)
        #expect(try eventually { try !isThere(clients[1], "newer") })
        _ = daemon.stop()
    }

    @Test("a connection's leases end with it: half-closed, killed or quit, in text, too")
    func connections() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let watcher = try daemon.frames()
        for way in 0..<3 {
            let client = try daemon.frames()
            for index in 0..<200 {
                #expect(try make(client, "c/\(index)", 0) == 0)
            }
            #expect(try watcher.call("open", name: "c/7").status == 0)
            switch way {
            case 0: client.socket.endOutput()
            case 1: client.socket.close()
            default: try client.socket.send(TestFrame(16, cookie: 9).bytes)
            }
            #expect(try eventually { try !isThere(watcher, "c/199") && !isThere(watcher, "c/0") })
        }
        let text = try daemon.connect()
        try text.send(line: "alloc t 1 uint8 lease=0")
        #expect(try text.receiveLine() == "OK")
        #expect(try isThere(watcher, "t"))
        text.close()
        #expect(try eventually { try !isThere(watcher, "t") })
        _ = daemon.stop()
    }

    @Test("thousands that end at once, by their time or with their connection, let others go on")
    func many() throws {
        let daemon = try DaemonProcess(["--loops", "1"])
        let watcher = try daemon.frames()
        let count = Scale.count(20_000)
        for time in [UInt64(400), 0] {
            let client = try daemon.frames()
            for start in stride(from: 0, to: count, by: 100) {
                let frames = (start..<start + 100).map { lease("m/\(time)/\($0)", time).bytes }
                try client.socket.send(frames.flatMap { $0 })
                for _ in 0..<100 { #expect(try client.socket.receiveFrame().status == 0) }
            }
            client.socket.close()
            var longest = 0.0
            let isGone = try eventually {
                let begin = Date()
                let stats = try watcher.call("stats").payload
                longest = max(longest, Date().timeIntervalSince(begin))
                return String(decoding: stats, as: UTF8.self).contains("\nallocations 0\n")
            }
            #expect(isGone)
            print("thousands of leases of \(time): a client waited for \(longest) s at most")
        }
        _ = daemon.stop()
    }
}
