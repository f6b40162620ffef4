// watch in a running daemon: over several loops, by frames and lines, until it stops, and in a
// storm of changes.

import Foundation
import Testing
import TestSupport

@Suite("Watches in the daemon", .timed(seconds: 120))
struct WatchTests {
    private func watch(
        _ cookie: UInt64, _ prefix: String = "", from cursor: UInt64 = 0,
        milliseconds: UInt64 = .max
    ) -> [UInt8] {
        TestFrame(24, cookie: cookie, name: prefix, offset: cursor, size: milliseconds).bytes
    }

    /// The names of a reply's events, each behind its kind's number.
    private func events(_ reply: TestFrame) -> [String] {
        var events: [String] = []
        var rest = reply.payload[...]
        while rest.count >= 3 {
            let head = Array(rest.prefix(3))
            let names = rest.dropFirst(3).prefix(Int(head[1]) + Int(head[2]))
            var name = String(decoding: names.prefix(Int(head[1])), as: UTF8.self)
            if head[2] > 0 {
                name += " " + String(decoding: names.dropFirst(Int(head[1])), as: UTF8.self)
            }
            events.append("\(head[0]) \(name)")
            rest = rest.dropFirst(3 + names.count)
        }
        return events
    }

    /// Asks for nothing, so that all that was sent before it has begun to wait.
    private func settle(_ client: FrameClient) throws {
        try client.socket.send(TestFrame(2, cookie: 1 << 50).bytes)
        #expect(try client.socket.receiveFrame().cookie == 1 << 50)
    }

    @Test("clients of both loops are told, by frames and by lines")
    func acrossLoops() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let clients = try (0..<8).map { _ in try daemon.frames() }
        for client in clients {
            #expect(client.greeting["features"].map { $0 & 8 } == 8)
            try client.socket.send(watch(1, "cam/") + watch(2, "mic/"))
            try settle(client)
        }
        let line = try daemon.text()
        let now = try line.ask("watch 0")
        let cursor = UInt64(now.split(separator: " ")[1]) ?? 0
        try line.socket.send(line: "watch \(cursor) cam/ wait=-1\nping")
        let maker = try daemon.text()
        #expect(try maker.ask("alloc new 4") == "OK")
        #expect(try maker.ask("rename new cam/1") == "OK")
        for client in clients {
            let reply = try client.socket.receiveFrame()
            #expect(reply.operation == 24 && reply.cookie == 1 && reply.size == 0)
            #expect(events(reply) == ["3 new cam/1"])
        }
        #expect(try line.socket.receiveLine() == "EVENT renamed new cam/1")
        #expect(try line.socket.receiveLine() == "OK \(cursor + 2) 0")
        #expect(try line.socket.receiveLine() == "OK pong")
        #expect(try maker.ask("dispose cam/1") == "OK")
        #expect(try maker.ask("alloc mic/1 1") == "OK")
        for client in clients {
            let reply = try client.socket.receiveFrame()
            #expect(reply.cookie == 2 && events(reply) == ["1 mic/1"])
            #expect(reply.offset == cursor + 4)
        }
    }

    @Test("a time is kept, and a cancel, an end of input and a stop end a watch as they end a wait")
    func ends() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let client = try daemon.frames()
        let start = Date()
        try client.socket.send(watch(1, milliseconds: 100) + watch(2) + watch(3, "x"))
        let late = try client.socket.receiveFrame()
        #expect(late.cookie == 1 && late.payload == [] && late.offset != 0)
        #expect(Date().timeIntervalSince(start) >= 0.1)
        try client.socket.send(TestFrame(17, cookie: 9, payload: littleEndian(2)).bytes)
        let replies = try (0..<2).map { _ in try client.socket.receiveFrame() }
        #expect(Set(replies.map(\.cookie)) == [2, 9])
        let cancelled = try #require(replies.first { $0.cookie == 2 })
        #expect(FrameClient.statusName(cancelled) == "cancelled" && cancelled.operation == 24)

        let half = try daemon.frames()
        try half.socket.send(watch(4))
        half.socket.endOutput()
        usleep(100_000)
        #expect(try daemon.text().ask("alloc y 1") == "OK")
        #expect(events(try half.socket.receiveFrame()) == ["1 y"])
        #expect(try half.socket.isEnded())

        let line = try daemon.text()
        try line.socket.send(line: "watch 0 wait=-1")
        usleep(100_000)
        daemon.signal(SIGTERM)
        #expect(FrameClient.statusName(try client.socket.receiveFrame()) == "cancelled")
        #expect(FrameClient.statusName(try client.socket.receiveFrame()) == "shuttingDown")
        #expect(try line.socket.receiveLine().hasPrefix("ERR cancelled Error: "))
        #expect(try line.socket.receiveLine().hasPrefix("ERR shuttingDown Error: "))
        #expect(daemon.waitForExit(seconds: 10) == 0)
    }

    @Test("clients that are killed while they watch leave nothing behind")
    func killed() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let control = try daemon.text()
        _ = try control.ask("watch 0")
        let before = try control.stats()["memory_used_bytes"]
        let clients = try (0..<10).map { _ in try daemon.frames() }
        for client in clients {
            for cookie in UInt64(1)...300 {
                try client.socket.send(watch(cookie, "none/\(cookie)", milliseconds: 1 << 30))
            }
            try settle(client)
        }
        #expect(try control.stats()["memory_used_bytes"] != before)
        for client in clients { client.socket.close() }
        #expect(try eventually { try control.stats()["memory_used_bytes"] == before })
        #expect(try control.ask("alloc none/1 1") == "OK")
    }

    @Test("a client that does not read is told how many it missed, and holds up no other")
    func slow() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let slow = try daemon.frames()
        let cursor = try slow.call("watch").offset
        let quick = try daemon.frames()
        try quick.socket.send(watch(1, "last"))
        try settle(quick)
        let maker = try daemon.frames()
        let count = 20_000
        for first in stride(from: 0, to: count, by: 100) {
            var bytes: [UInt8] = []
            for index in first..<first + 100 {
                bytes += TestFrame(3, flags: 2, type: 2, name: "n\(index)", size: 1).bytes
            }
            try maker.socket.send(bytes)
            for _ in 0..<100 { _ = try maker.socket.receiveFrame() }
        }
        #expect(try maker.call("alloc", type: 2, name: "last", size: 1).status == 0)
        #expect(events(try quick.socket.receiveFrame()) == ["1 last"])
        let reply = try slow.call("watch", offset: cursor)
        #expect(reply.size == UInt64(count + 1 - 16_384))
        let told = events(reply)
        #expect(told.count == 1024 && told.first == "1 n\(count + 1 - 16_384)")
        #expect(reply.offset == cursor + reply.size + 1024)
    }

    @Test("a storm of changes wakes a hundred that watch, and no turn of a loop is long")
    func storm() throws {
        let daemon = try DaemonProcess(["--loops", "2"])
        let clients = try (0..<100).map { _ in try daemon.frames() }
        for (index, client) in clients.enumerated() {
            try client.socket.send(watch(1, index % 2 == 0 ? "" : "none/"))
            try settle(client)
        }
        let maker = try daemon.frames()
        let count = Scale.count(20_000) / 100 * 100
        for first in stride(from: 0, to: count, by: 100) {
            var bytes: [UInt8] = []
            for index in first..<first + 100 {
                bytes += TestFrame(3, flags: 2, type: 2, name: "n\(index)", size: 1).bytes
            }
            try maker.socket.send(bytes)
            for _ in 0..<100 { _ = try maker.socket.receiveFrame() }
            for (index, client) in clients.enumerated()
            where index % 2 == 0 && client.socket.isReadable {
                let reply = try client.socket.receiveFrame()
                #expect(FrameClient.statusName(reply) == "ok" && !events(reply).isEmpty)
                try client.socket.send(watch(1, from: reply.offset))
            }
        }
        let longest = UInt64(try daemon.text().stats()["loop_longest_turn_us"] ?? "") ?? .max
        print("longest turn with 100 watches: \(longest) us")
        #expect(longest < 5000 || DaemonProcess.isSanitized)
    }
}
