// Several loops at once on the same few names: nothing is lost, torn, or kept.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Races in the registry", .timed)
struct RegistryRaceTests {
    private struct Shared: @unchecked Sendable {
        let registry: Registry
        let seed: UInt64
    }

    @Test("threads that alloc, rename, open, write and dispose of the same names leave nothing")
    func churn() {
        let seed = SplitMix(for: "registry races").seed
        let registry = Registry(
            limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 1 << 20)!
        let shared = Shared(registry: registry, seed: seed)
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            RegistryRaceTests.churn(shared, thread)
        }
        let peer = TestPeer(LoopContext(registry: registry, index: 0))
        peer.feed(frame(.hello))
        for name in ["a", "b", "c", "d", RegistryRaceTests.long] {
            peer.call(.dispose, name: name)
        }
        let left = peer.call(.list)
        #expect(left.header.size == 0)
        registry.mappings.drain()
        #expect(registry.budget.allocationCount == 0)
        #expect(registry.budget.usedSize == 0)
    }

    private static let long = String(repeating: "l", count: 40)

    private static func churn(_ shared: Shared, _ thread: Int) {
        var random = SplitMix(seed: shared.seed &+ UInt64(thread) &* 1_000_003)
        let loop = LoopContext(registry: shared.registry, index: thread)
        var peer = TestPeer(loop)
        peer.feed(frame(.hello))
        let names = ["a", "b", "c", "d", long]
        let sizes: [UInt64] = [64, 64, 4096, 65_536, 70_000]
        for step in 0..<Scale.count(2500) {
            let name = names[Int(random.next() % 5)]
            let other = names[Int(random.next() % 5)]
            let handle = UInt32(random.next() % 6 + 1)
            let byte = UInt8(truncatingIfNeeded: random.next())
            // The larger ones are done after their answer.
            let moved: UInt64 = random.next() % 3 == 0 ? 65_536 : 64
            switch random.next() % 12 {
            case 0, 1:
                let size = sizes[Int(random.next() % 5)]
                peer.call(.alloc, flags: step % 2 == 0 ? 2 : 0, type: 2, name: name, size: size)
            case 2: peer.call(.alloc, type: 2, size: sizes[Int(random.next() % 5)])
            case 3: peer.call(.dispose, name: name)
            case 4: peer.call(.dispose, handle: handle)
            case 5:
                peer.call(
                    .rename, flags: UInt8(step % 2), name: name, payload: Array(other.utf8))
            case 6:
                peer.call(
                    .rename, flags: UInt8(step % 2), handle: handle, payload: Array(other.utf8))
            case 7: peer.call(.open, name: name)
            case 8: peer.call(.close, handle: handle)
            case 9: peer.call(.fill, name: name, size: moved, payload: [byte])
            case 10:
                peer.call(.copy, name: name, size: moved, payload: copyDest(0, name: other))
            default:
                // What is 64 bytes wide is written as a whole, so it is read as a whole.
                let seen = peer.call(.read, name: name, size: 64)
                if seen.status == .ok {
                    let first = seen.payload.first
                    if !seen.payload.allSatisfy({ $0 == first }) { Issue.record("torn read") }
                } else if seen.status != .noData {
                    Issue.record("\(seen)")
                }
            }
            if step % 500 == 499 {
                peer.session.end(loop)
                peer.isClosed = true
                peer = TestPeer(loop)
                peer.feed(frame(.hello))
            }
        }
    }

    @Test("writes up to the atomic size are seen whole or not at all", arguments: [4096, 65_536])
    func atomic(_ size: Int) {
        let registry = Registry(limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 0)!
        let shared = Shared(registry: registry, seed: 0)
        let first = TestPeer(LoopContext(registry: registry, index: 0))
        first.feed(frame(.hello))
        for name in ["x", "y"] {
            first.call(.alloc, flags: 2, type: 2, name: name, size: UInt64(size))
        }
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let peer = TestPeer(LoopContext(registry: shared.registry, index: thread))
            peer.feed(frame(.hello))
            let (mine, other) = thread % 2 == 0 ? ("x", "y") : ("y", "x")
            for step in 0..<200 {
                switch (step + thread) % 3 {
                case 0:
                    let data = [UInt8](repeating: UInt8(truncatingIfNeeded: step), count: size)
                    let range = numbers(0, UInt64(size))
                    peer.call(
                        step % 2 == 0
                            ? frame(.write, name: mine, size: UInt64(size), payload: data)
                            : frame(.write, flags: 1, name: mine, size: 1, payload: range + data))
                case 1:
                    // Both directions at once: neither may wait for the other for ever.
                    peer.call(
                        .copy, name: mine, size: UInt64(size), payload: copyDest(0, name: other))
                default:
                    let seen = peer.call(.read, name: mine, size: UInt64(size)).payload
                    let byte = seen.first
                    if seen.count != size || !seen.allSatisfy({ $0 == byte }) {
                        Issue.record("torn: \(seen.count) bytes")
                    }
                }
            }
        }
    }

    @Test("reads of the atomic size never see half of a fill, of one range or of many")
    func unbrokenReads() {
        let registry = Registry(limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 0)!
        let shared = Shared(registry: registry, seed: 0)
        let first = TestPeer(LoopContext(registry: registry, index: 0))
        first.feed(frame(.hello))
        first.call(.alloc, flags: 2, type: 2, name: "x", size: 65_536)
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let peer = TestPeer(LoopContext(registry: shared.registry, index: thread))
            peer.feed(frame(.hello))
            let handle = peer.call(.open, name: "x").header.handle
            // Half of the threads write, in many steps each, so that a fill takes its time.
            let fills = (0..<16).map {
                frame(
                    .fill, handle: handle, size: 65_536,
                    payload: [UInt8](repeating: UInt8($0), count: 4))
            }
            let whole = frame(.read, handle: handle, size: 65_536)
            let ends = frame(
                .read, flags: 1, handle: handle, size: 3,
                payload: numbers(0, 8, 30_000, 8, 65_528, 8))
            for step in 0..<Scale.count(6000) {
                peer.output = []
                peer.feed(thread % 2 == 0 ? fills[step % 16] : step % 2 == 0 ? whole : ends)
                guard thread % 2 != 0 else { continue }
                let bytes = peer.output
                if bytes[40] != bytes[bytes.count - 1] || bytes[40] != bytes[40 + 8] {
                    Issue.record("torn at step \(step)")
                    return
                }
            }
        }
    }

    @Test("of many threads that alloc one name, exactly one succeeds each time")
    func oneWinner() {
        let registry = Registry(limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 0)!
        let shared = Shared(registry: registry, seed: 0)
        let wins = UnsafeMutablePointer<Int>.allocate(capacity: 4)
        wins.initialize(repeating: 0, count: 4)
        defer { wins.deallocate() }
        nonisolated(unsafe) let counted = wins
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let peer = TestPeer(LoopContext(registry: shared.registry, index: thread))
            peer.feed(frame(.hello))
            for number in 0..<1000 {
                let reply = peer.call(.alloc, flags: 2, type: 2, name: "n\(number)", size: 8)
                if reply.status == .ok { counted[thread] += 1 }
            }
        }
        #expect((0..<4).reduce(0) { $0 + wins[$1] } == 1000)
        #expect(registry.budget.allocationCount == 1000)
    }

    @Test("of many threads that dispose of one name, exactly one succeeds each time")
    func oneDisposer() {
        let registry = Registry(limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 0)!
        let shared = Shared(registry: registry, seed: 0)
        let first = TestPeer(LoopContext(registry: registry, index: 0))
        first.feed(frame(.hello))
        for number in 0..<1000 {
            first.call(.alloc, flags: 2, type: 2, name: "n\(number)", size: 8)
        }
        let wins = UnsafeMutablePointer<Int>.allocate(capacity: 4)
        wins.initialize(repeating: 0, count: 4)
        defer { wins.deallocate() }
        nonisolated(unsafe) let counted = wins
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let peer = TestPeer(LoopContext(registry: shared.registry, index: thread))
            peer.feed(frame(.hello))
            for number in 0..<1000 {
                let reply =
                    thread % 2 == 0
                    ? peer.call(.dispose, name: "n\(number)")
                    : peer.call(
                        .dispose, handle: peer.call(.open, name: "n\(number)").header.handle)
                if reply.status == .ok { counted[thread] += 1 }
            }
        }
        #expect((0..<4).reduce(0) { $0 + wins[$1] } == 1000)
        #expect(registry.budget.allocationCount == 0)
        #expect(registry.budget.usedSize == 0)
    }
}
