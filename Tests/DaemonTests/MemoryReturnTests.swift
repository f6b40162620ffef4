// Memory that comes back: of the smallest allocations, of truncated ones, of handles.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct MemoryReturnTests {
    private func used(_ text: TextClient) throws -> Int {
        Int(try text.stats()["memory_used_bytes"] ?? "") ?? -1
    }

    /// Sends `count` frames, a batch at a time, until one of their replies is not ok.
    ///
    /// - Returns: Replies that were ok.
    private func flood(
        _ client: FrameClient, _ count: Int, _ frame: (Int) -> TestFrame
    ) throws -> Int {
        var good = 0
        for start in stride(from: 0, to: count, by: 1000) {
            let batch = start..<min(count, start + 1000)
            try client.socket.send(batch.flatMap { frame($0).bytes })
            var isRefused = false
            for _ in batch {
                let reply = try client.socket.receiveFrame()
                if reply.status == 0 {
                    good += 1
                } else {
                    isRefused = true
                    #expect(FrameClient.statusName(reply) == "memoryLimit")
                }
            }
            if isRefused { break }
        }
        return good
    }

    /// The second half of test 12 of the reliability bar.
    @Test("allocations of one byte until the memory limit refuses: kept within 2 %, all given back")
    func oneByteEach() throws {
        let limit = Scale.count(8) << 20
        let daemon = try DaemonProcess(["--memory-max", "\(limit)"])
        let client = try daemon.frames()
        let text = try daemon.text()
        let before = try used(text)
        let resident = try daemon.figures().residentSize
        var counts: [Int] = []
        for round in 0..<2 {
            let count = try flood(client, 2_000_000) {
                TestFrame(3, flags: 2, type: 2, name: "n\($0)", size: 1)
            }
            counts.append(count)
            let full = try used(text)
            #expect(full <= limit && full > limit / 100 * 98, "\(full) of \(limit)")
            // What is really taken: the daemon's own growth aside, no more than is counted.
            let grown = try daemon.figures().residentSize - resident
            #expect(grown < DaemonProcess.growth(limit / 100 * 102 + (6 << 20)), "\(grown)")
            #expect(try text.stats()["allocations"] == "\(count)")
            #expect(try text.ask("read n0 0 1") == "OK 0")
            let gone = try flood(client, count) { TestFrame(12, name: "n\($0)") }
            #expect(gone == count)
            #expect(try used(text) - before < limit / 100, "round \(round)")
        }
        #expect(counts[0] > limit / 256 && abs(counts[0] - counts[1]) * 50 < counts[0], "\(counts)")
        var left = 0
        let isBack = try eventually {
            left = try daemon.figures().residentSize - resident
            return left < DaemonProcess.growth(10 << 20)
        }
        #expect(isBack, "\(left) bytes more than at first")
    }

    @Test(
        "what is free between small allocations counts against the limit, until it comes back",
        .enabled(if: !DaemonProcess.isSanitized, "every block is malloc's own"))
    func scattered() throws {
        let limit = 96 << 20
        let daemon = try DaemonProcess(["--memory-max", "\(limit)"])
        let client = try daemon.frames()
        let text = try daemon.text()
        let resident = try daemon.figures().residentSize
        let count = try flood(client, 200_000) {
            TestFrame(3, flags: 2, type: 2, name: "n\($0)", size: 900)
        }
        #expect(count > 90_000)
        // One of each slab stays, and with it the slab.
        let kept = (count + 59) / 60
        let gone = try flood(client, count) {
            // A ping in the place of those that stay.
            let isKept = $0 % 60 == 0
            return TestFrame(isKept ? 2 : 12, name: isKept ? "" : "n\($0)")
        }
        #expect(gone == count)
        #expect(try used(text) < 8 << 20)
        let large = 64 << 20
        let refused = try client.call("alloc", type: 2, name: "large", size: UInt64(large))
        #expect(FrameClient.statusName(refused) == "memoryLimit")
        #expect(Int(try text.stats()["memory_scattered_bytes"] ?? "") ?? 0 > limit / 2)
        // There is room for other sizes all the same, within the limit.
        let others = try flood(client, 200_000) {
            TestFrame(3, flags: 2, type: 2, name: "o\($0)", size: 500)
        }
        let grown = try daemon.figures().residentSize - resident
        #expect(grown < DaemonProcess.growth(limit + (16 << 20)), "\(grown)")
        for (name, many) in [("n", count), ("o", others)] {
            for start in stride(from: 0, to: many, by: 1000) {
                let batch = start..<min(many, start + 1000)
                try client.socket.send(
                    batch.flatMap { TestFrame(12, name: "\(name)\($0)").bytes })
                for _ in batch { _ = try client.socket.receiveFrame() }
            }
        }
        #expect(kept > 1000)
        #expect(try client.call("alloc", type: 2, name: "large", size: UInt64(large)).status == 0)
        let filled = try client.call("fill", name: "large", size: UInt64(large), payload: [1])
        #expect(filled.status == 0)
    }

    @Test("a truncated large allocation gives its memory back, and a fresh one shows none of it")
    func truncated() throws {
        let size: UInt64 = 192 << 20
        let daemon = try DaemonProcess(["--memory-max", "256M"])
        let client = try daemon.frames()
        let text = try daemon.text()
        #expect(try client.alloc("a", size: size).status == 0)
        #expect(try client.call("fill", handle: 1, size: size, payload: [0xAB]).status == 0)
        #expect(FrameClient.statusName(try client.alloc("b", size: size)) == "memoryLimit")
        #expect(try client.call("truncate", handle: 1, size: 100_000).status == 0)
        // The allocation waits for what is on its way back.
        let fresh = try client.alloc("b", size: size)
        #expect(fresh.status == 0)
        for offset in stride(from: UInt64(0), to: size, by: 32 << 20) {
            let seen = try client.call("read", name: "b", offset: offset, size: 8192).payload
            #expect(seen.count == 8192 && seen.allSatisfy { $0 == 0 })
        }
        #expect(try client.call("read", handle: 1, offset: 99_999, size: 1).payload == [0xAB])
        #expect(
            FrameClient.statusName(try client.call("read", handle: 1, offset: 100_000, size: 1))
                == "outOfRange")
        #expect(try client.call("dispose", name: "b").status == 0)
        #expect(try client.call("close", handle: fresh.handle).status == 0)
        #expect(try eventually { try used(text) < 1 << 20 })
        #expect(
            try eventually {
                try daemon.figures().residentSize < DaemonProcess.growth(64 << 20)
            })
    }

    @Test("truncates under large reads, writes and copies of other connections harm nobody")
    func truncatedMeanwhile() throws {
        let daemon = try DaemonProcess(["--loops", "2", "--memory-max", "512M"])
        let size: UInt64 = 4 << 20
        let text = try daemon.text()
        let before = try used(text)
        #expect(try text.ask("alloc kept \(size)") == "OK")
        let rounds = Scale.count(20)
        let data = [UInt8](repeating: 0x5A, count: Int(size))
        let movers = try (0..<3).map { index in
            let client = try daemon.frames()
            return Thread {
                for _ in 0..<rounds * 4 {
                    switch index {
                    case 0:
                        _ = try? client.call("write", name: "t", size: size, payload: data)
                    case 1:
                        _ = try? client.call("read", name: "t", size: size)
                    default:
                        _ = try? client.call(
                            "copy", name: "kept", size: size,
                            payload: copyTarget(offset: 0, name: "t"))
                    }
                }
            }
        }
        let owner = try daemon.frames()
        for mover in movers { mover.start() }
        for round in 0..<rounds {
            let fresh = try owner.alloc("t", size: size)
            #expect(fresh.status == 0)
            for cut in [size / 2, size / 4, 70_000, UInt64(round)] {
                #expect(try owner.call("truncate", name: "t", size: cut).status == 0)
            }
            #expect(try owner.call("dispose", name: "t").status == 0)
            #expect(try owner.call("close", handle: fresh.handle).status == 0)
            let other = try owner.alloc("o", size: size)
            let seen = try owner.call("read", handle: other.handle, size: size).payload
            #expect(seen.count == Int(size) && seen.allSatisfy { $0 == 0 })
            #expect(try owner.call("dispose", handle: other.handle).status == 0)
        }
        while !movers.allSatisfy(\.isFinished) { usleep(1000) }
        #expect(try text.ask("dispose kept") == "OK")
        #expect(try eventually { try used(text) <= before + 4096 })
        #expect(daemon.isRunning)
    }

    @Test("handles count against the memory limit, and give their memory back")
    func handles() throws {
        let daemon = try DaemonProcess(["--memory-max", "2M"])
        let text = try daemon.text()
        #expect(try text.ask("alloc a 1") == "OK")
        let before = try used(text)
        var clients: [FrameClient] = []
        var count = 0
        for _ in 0..<8 {
            let client = try daemon.frames()
            clients.append(client)
            count += try flood(client, 200_000) { _ in TestFrame(4, name: "a") }
            #expect(try used(text) <= 2 << 20)
        }
        // Doubled tables are at least half full.
        #expect(count >= 1 << 16 && count * 8 <= 2 << 20, "\(count)")
        for client in clients { client.socket.close() }
        #expect(try eventually { try used(text) <= before })
    }
}
