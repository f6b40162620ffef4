// Looking ahead changes nothing but the time that requests take.

import Dispatch
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Name prefetch", .timed)
struct NamePrefetchTests {
    /// A batch of requests, nearly all by name, on a few names.
    private static func batch(_ random: inout SplitMix, count: Int) -> [UInt8] {
        let names = ["a", "bb", "name/10", "name/100", String(repeating: "n", count: 255)]
        var bytes: [UInt8] = []
        for cookie in 0..<UInt64(count) {
            let name = names[Int(random.next() % 5)]
            let byte = UInt8(truncatingIfNeeded: random.next())
            switch random.next() % 12 {
            case 0, 1:
                bytes += frame(.alloc, flags: 2, type: 2, cookie: cookie, name: name, size: 64)
            case 2: bytes += frame(.alloc, type: 4, cookie: cookie, name: name, size: 64)
            case 3, 4: bytes += frame(.dispose, cookie: cookie, name: name)
            case 5:
                bytes += frame(
                    .write, cookie: cookie, name: name, offset: 8, size: 8,
                    payload: [UInt8](repeating: byte, count: 8))
            case 6: bytes += frame(.ping, cookie: cookie)
            case 7: bytes += frame(.read, cookie: cookie, handle: 1, size: 8)
            case 8: bytes += frame(.open, cookie: cookie, name: name)
            case 9: bytes += frame(.stat, cookie: cookie, name: "not there")
            default: bytes += frame(.read, cookie: cookie, name: name, size: 64)
            }
        }
        return bytes
    }

    private static func peer(lookingAhead: Bool) -> TestPeer {
        let daemon = TestDaemon()
        daemon.loop.prefetch.pointee.countMin = lookingAhead ? 0 : .max
        return daemon.greeted()
    }

    @Test("batches are answered as without it, however they are cut up")
    func same() {
        var random = SplitMix(for: "names ahead")
        for _ in 0..<Scale.count(40) {
            let plain = NamePrefetchTests.peer(lookingAhead: false)
            let ahead = NamePrefetchTests.peer(lookingAhead: true)
            for _ in 0..<10 {
                let count = 1 + Int(random.next() % 40)
                let bytes = NamePrefetchTests.batch(&random, count: count)
                plain.feed(bytes)
                if random.next() % 2 == 0 {
                    ahead.feed(bytes)
                } else {
                    var sizes = random
                    ahead.feed(bytes) { 1 + Int(sizes.next() % 200) }
                }
                #expect(plain.output == ahead.output)
            }
        }
    }

    @Test("what was looked ahead for one name is not taken for another in its place")
    func stale() {
        let peer = NamePrefetchTests.peer(lookingAhead: true)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
        defer { memory.deallocate() }
        // Each in the same place as the one before, in turn by the short way and by the general one.
        let requests = [
            frame(.alloc, flags: 2, type: 2, name: "first", size: 8),
            frame(.alloc, flags: 2, type: 2, name: "other", size: 8),
            frame(.stat, name: "first"), frame(.read, name: "first", size: 8),
            frame(.stat, name: "other"), frame(.open, name: "first"),
            frame(.write, name: "first", size: 1, payload: [1]), frame(.open, name: "other"),
        ]
        for bytes in requests {
            memory.copyBytes(from: bytes)
            peer.output = []
            let consumed = peer.session.serve(
                UnsafeRawBufferPointer(rebasing: memory[..<bytes.count]), peer.loop)
            #expect(consumed == bytes.count)
            peer.take()
            #expect(replies(in: peer.output)?.map(\.outcome) == ["ok"])
        }
    }

    @Test("requests by name and by handle take effect in their order, with large reads among them")
    func order() {
        for lookingAhead in [false, true] {
            let peer = NamePrefetchTests.peer(lookingAhead: lookingAhead)
            #expect(peer.call(.alloc, type: 2, name: "a", size: 8192).outcome == "ok")
            let read = frame(.read, handle: 1, size: 8192)
            let batch =
                read + frame(.write, name: "a", size: 2, payload: [7, 7]) + read
                + frame(.read, name: "a", size: 2) + read + frame(.dispose, name: "a") + read
            peer.output = []
            peer.feed(batch)
            let found = replies(in: peer.output) ?? []
            #expect(found.map { $0.status == .ok } == [true, true, true, true, true, true, false])
            #expect(found.first?.payload.first == 0)
            #expect(found[2...4].allSatisfy { $0.payload.first == 7 })
        }
    }

    @Test("loops may look ahead while others grow and shrink the tables")
    func races() {
        let registry = Registry(limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 0)!
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let loop = LoopContext(registry: registry, index: thread)
            loop.prefetch.pointee.countMin = 0
            let peer = TestPeer(loop)
            peer.feed(frame(.hello))
            func each(_ operation: Operation, _ name: (Int) -> String) {
                for start in stride(from: 0, to: Scale.count(12_000), by: 16) {
                    peer.output = []
                    peer.feed(
                        (start..<start + 16).flatMap {
                            frame(
                                operation, flags: operation == .alloc ? 2 : 0,
                                type: operation == .alloc ? 2 : 0, name: name($0),
                                size: operation == .dispose ? 0 : 8)
                        })
                    let found = replies(in: peer.output) ?? []
                    if found.count != 16 || !found.allSatisfy({ $0.status == .ok }) {
                        Issue.record("\(operation) at \(start): \(found)")
                        return
                    }
                }
            }
            for _ in 0..<2 {
                each(.alloc) { "\(thread)/\($0)" }
                each(.read) { "\(thread)/\($0)" }
                each(.dispose) { "\(thread)/\($0)" }
            }
        }
        #expect(registry.budget.allocationCount == 0 && registry.budget.usedSize == 0)
    }
}
