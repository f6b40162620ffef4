// Waits in a running daemon: over several loops, with half-closed, killed and slow clients, deadlines
// and a stop.

import Foundation
import Testing
import TestSupport

@Suite("Waits in the daemon", .timed(seconds: 120))
struct WaitTests {
    private static let zero: [UInt8] = [0, 0, 0, 0]

    /// Two loops, and a cell: `c`, 16 elements of Uint32.
    private func daemon(_ options: String...) throws -> DaemonProcess {
        let daemon = try DaemonProcess(["--loops", "2"] + options)
        #expect(try daemon.frames().alloc("c", size: 64, type: 6).status == 0)
        return daemon
    }

    private func wait(
        _ cookie: UInt64, offset: UInt64 = 0, milliseconds: UInt64 = .max
    ) -> [UInt8] {
        TestFrame(
            21, cookie: cookie, name: "c", offset: offset, size: milliseconds,
            payload: WaitTests.zero
        ).bytes
    }

    /// Waits until so many requests wait on a cell, and ends their waits.
    private func notify(_ daemon: DaemonProcess, _ count: UInt64, offset: UInt64 = 0) throws {
        let client = try daemon.frames()
        var left = count
        let isDone = try eventually {
            left -= try client.call("notify", name: "c", offset: offset, size: left).size
            return left == 0
        }
        #expect(isDone, "\(left) of \(count) do not wait")
    }

    @Test("clients of both loops are notified, out of order, and each once")
    func acrossLoops() throws {
        let daemon = try daemon()
        let clients = try (0..<8).map { _ in try daemon.frames() }
        for client in clients {
            let ping = TestFrame(2, cookie: 9).bytes
            try client.socket.send(wait(1) + wait(2, offset: 4) + ping)
            #expect(try client.socket.receiveFrame().cookie == 9)
        }
        try notify(daemon, 8, offset: 4)
        for client in clients {
            let reply = try client.socket.receiveFrame()
            #expect(reply.cookie == 2 && reply.size == 1 && reply.operation == 21)
        }
        try notify(daemon, 8)
        for client in clients { #expect(try client.socket.receiveFrame().cookie == 1) }
    }

    @Test("a time is kept: never too short, and not much too long")
    func deadlines() throws {
        let daemon = try daemon()
        let client = try daemon.frames()
        let line = try daemon.text()
        let isSoon = try mostly { _ in
            let times: [UInt64] = [150, 20, 80, 1, 300]
            let start = Date()
            for time in times { try client.socket.send(wait(time, milliseconds: time)) }
            var isSoon = true
            for time in times.sorted() {
                let reply = try client.socket.receiveFrame()
                let taken = Date().timeIntervalSince(start) * 1000
                #expect(reply.cookie == time && reply.size == 2)
                #expect(taken >= Double(time), "\(time) ms took \(taken)")
                isSoon = isSoon && taken < Double(time) + 60
            }
            let begun = Date()
            #expect(try line.ask("wait c 0 0 50") == "OK timeout")
            let taken = Date().timeIntervalSince(begun)
            #expect(taken >= 0.05)
            return isSoon && taken < 0.15
        }
        #expect(isSoon)
    }

    @Test("a client that ends its side gets its answers first, in frames and in lines")
    func halfClosed() throws {
        let daemon = try daemon()
        let client = try daemon.frames()
        try client.socket.send(wait(1) + wait(2, milliseconds: 100) + wait(3).dropLast())
        client.socket.endOutput()
        #expect(try client.socket.receiveFrame().cookie == 2)
        let line = try daemon.text()
        try line.socket.send(line: "wait c 0 0 -1\nping\nwait c 0 0 20")
        line.socket.endOutput()
        usleep(1_200_000)
        try notify(daemon, 2)
        let last = try client.socket.receiveFrame()
        #expect(last.cookie == 1 && last.size == 1)
        #expect(try client.socket.isEnded())
        #expect(try line.socket.receiveLine() == "OK notified")
        #expect(try line.socket.receiveLine() == "OK pong")
        #expect(try line.socket.receiveLine() == "OK timeout")
        #expect(try line.socket.isEnded())
    }

    @Test("clients that are killed while they wait leave nothing behind")
    func killed() throws {
        let daemon = try daemon()
        let control = try daemon.text()
        func figures() throws -> (connections: String?, memory: String?) {
            let stats = try control.stats()
            return (stats["connections"], stats["memory_used_bytes"])
        }
        // The connection that made the cell may not have ended yet.
        #expect(try eventually { try figures().connections == "1" })
        let before = try figures().memory
        for way in 0..<4 {
            let sockets = try (0..<10).map { _ -> RawSocket in
                if way == 0 {
                    let client = try daemon.frames()
                    for cookie in UInt64(1)...300 {
                        try client.socket.send(
                            wait(cookie, offset: cookie % 16 * 4, milliseconds: 1 << 30))
                    }
                    #expect(try client.call("ping").status == 0)
                    return client.socket
                }
                if way == 3 {
                    let client = try FrameClient(daemon.connect())
                    try client.socket.send(wait(1))
                    client.socket.endOutput()
                    return client.socket
                }
                let text = try daemon.text()
                try text.socket.send(line: "wait c 0 0 -1")
                // Half-closed, and closed altogether later.
                if way == 2 { text.socket.endOutput() }
                return text.socket
            }
            #expect(
                try eventually { try control.stats()["requests_wait"] != nil })
            usleep(50_000)
            #expect(try figures().connections == "11")
            for socket in sockets { socket.close() }
            #expect(try eventually { try figures().connections == "1" }, "way \(way)")
            #expect(try eventually { try figures().memory == before }, "way \(way)")
        }
    }

    @Test("a connection that waits is not idle, and a line that waits is not late")
    func notIdle() throws {
        let daemon = try daemon("--idle-timeout", "1", "--request-timeout", "1")
        let client = try daemon.frames()
        let line = try daemon.text()
        try client.socket.send(wait(1, milliseconds: 2500))
        try line.socket.send(line: "wait c 0 0 2500\nping")
        let reply = try client.socket.receiveFrame()
        #expect(reply.cookie == 1 && reply.size == 2)
        #expect(try line.socket.receiveLine() == "OK timeout")
        #expect(try line.socket.receiveLine() == "OK pong")
        #expect(FrameClient.statusName(try client.socket.receiveFrame()) == "idleTimeout")
        #expect(try line.socket.receiveLine().hasPrefix("ERR idleTimeout"))
    }

    @Test("a stop cancels what waits, then says goodbye")
    func stop() throws {
        let daemon = try daemon()
        let client = try daemon.frames()
        let half = try daemon.frames()
        let line = try daemon.text()
        try client.socket.send(wait(7) + wait(8, milliseconds: 1_000_000))
        try half.socket.send(wait(9))
        half.socket.endOutput()
        try line.socket.send(line: "wait c 0 0 -1")
        usleep(100_000)
        daemon.signal(SIGTERM)
        let replies = try (0..<2).map { _ in try client.socket.receiveFrame() }
        #expect(Set(replies.map(\.cookie)) == [7, 8])
        for reply in replies { #expect(FrameClient.statusName(reply) == "cancelled") }
        #expect(FrameClient.statusName(try client.socket.receiveFrame()) == "shuttingDown")
        #expect(try client.socket.isEnded())
        #expect(FrameClient.statusName(try half.socket.receiveFrame()) == "cancelled")
        #expect(try line.socket.receiveLine().hasPrefix("ERR cancelled Error: "))
        #expect(try line.socket.receiveLine().hasPrefix("ERR shuttingDown Error: "))
        #expect(daemon.waitForExit(seconds: 10) == 0)
    }

    @Test("waits that end while a client does not read come between its replies, none within one")
    func slowReader() throws {
        let daemon = try daemon()
        let client = try daemon.frames()
        let size: UInt64 = 4 << 20
        #expect(try client.alloc("large", size: size).status == 0)
        #expect(
            try client.call("fill", name: "large", size: size, payload: [0xE6]).status == 0)
        let waits = UInt64(500)
        for cookie in 1...waits { try client.socket.send(wait(cookie)) }
        for cookie in 1001...UInt64(1003) {
            try client.socket.send(TestFrame(8, cookie: cookie, name: "large", size: size).bytes)
        }
        // A large reply is under way, and stuck.
        usleep(100_000)
        try notify(daemon, waits)
        usleep(50_000)
        var seen: [UInt64] = []
        for _ in 0..<Int(waits) + 3 {
            let reply = try client.socket.receiveFrame()
            seen.append(reply.cookie)
            if reply.cookie > 1000 {
                #expect(reply.payload.count == Int(size))
                #expect(reply.payload.allSatisfy { $0 == 0xE6 })
            } else {
                #expect(reply.size == 1 && reply.payload.isEmpty)
            }
        }
        #expect(Set(seen) == Set(1...waits).union([1001, 1002, 1003]))
        #expect(seen.filter { $0 > 1000 } == [1001, 1002, 1003])
        #expect(seen.filter { $0 <= 1000 } == Array(1...waits))
        // A line that comes to an end while what was before it is stuck.
        let line = try daemon.text()
        try line.socket.send(line: "read large 0 400000 hex\nwait c 0 0 1\nping")
        usleep(150_000)
        #expect(try line.socket.receiveLine().count == 800_007)
        #expect(try line.socket.receiveLine() == "OK timeout")
        #expect(try line.socket.receiveLine() == "OK pong")
    }

    @Test("a line behind one whose wait ends while a reply is stuck is answered")
    func heldLine() throws {
        let daemon = try daemon()
        #expect(try daemon.frames().alloc("large", size: 200_000).status == 0)
        // Where the socket takes all but the end of the reply depends on the system.
        for count in stride(from: 100_000, through: 160_000, by: 4000) {
            let line = try daemon.text()
            try line.socket.send(line: "read large 0 \(count) hex\nwait c 0 0 1\nping")
            usleep(40_000)
            #expect(try line.socket.receiveLine().count == 2 * count + 7)
            #expect(try line.socket.receiveLine() == "OK timeout")
            #expect(try line.socket.receiveLine() == "OK pong")
        }
    }

    @Test("cancel answers what waits, and a wait over the limit is refused")
    func cancel() throws {
        let daemon = try daemon()
        let client = try daemon.frames()
        for _ in 0..<4096 { try client.socket.send(wait(5)) }
        try client.socket.send(wait(6))
        #expect(FrameClient.statusName(try client.socket.receiveFrame()) == "waitLimit")
        try client.socket.send(TestFrame(17, cookie: 1, payload: littleEndian(5)).bytes)
        var cancelled = 0
        var count: UInt64 = 0
        for _ in 0..<4097 {
            let reply = try client.socket.receiveFrame()
            if reply.cookie == 1 { count = reply.size }
            if FrameClient.statusName(reply) == "cancelled", reply.cookie == 5 { cancelled += 1 }
        }
        #expect(cancelled == 4096 && count == 4096)
        #expect(try client.call("ping").status == 0)
    }

    @Test("no addition of many clients is lost, and each that waits for the sum sees it")
    func sums() throws {
        let daemon = try daemon()
        let rounds = Scale.count(3000)
        let failed = Counter()
        let waiting = try (0..<4).map { _ in try daemon.frames() }
        DispatchQueue.concurrentPerform(iterations: 8) { index in
            do {
                if index < 4 { return try add(daemon, rounds) }
                try awaitSum(waiting[index - 4], UInt64(4 * rounds))
            } catch {
                failed.note("\(index): \(error)")
            }
        }
        #expect(failed.notes == [])
        let sum = try daemon.text().ask("atomic c 1 load")
        #expect(sum == "OK \(4 * rounds)")
    }

    private func add(_ daemon: DaemonProcess, _ rounds: Int) throws {
        let client = try daemon.frames()
        let handle = try client.call("open", name: "c").handle
        for round in 0..<rounds {
            let payload = littleEndian(3, 1, 0)
            _ = try client.call("atomic", handle: handle, offset: 4, payload: payload)
            if round % 8 == 0 || round == rounds - 1 {
                _ = try client.call("notify", handle: handle, offset: 4, size: .max)
            }
        }
    }

    private func awaitSum(_ client: FrameClient, _ sum: UInt64) throws {
        while true {
            let reply = try client.call(
                "atomic", name: "c", offset: 4, payload: littleEndian(1, 0, 0))
            let seen = reply.payload.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            if seen == sum { return }
            // Those that add notify now and then, so the sum may have grown since; at last they do.
            _ = try client.call(
                "wait", name: "c", offset: 4, size: .max,
                payload: Array(littleEndian(seen).prefix(4)))
        }
    }

    /// What went wrong on other threads.
    private final class Counter: @unchecked Sendable {
        private let lock = NSLock()
        private var kept: [String] = []
        var notes: [String] { lock.withLock { kept } }
        func note(_ text: String) { lock.withLock { kept.append(text) } }
    }
}
