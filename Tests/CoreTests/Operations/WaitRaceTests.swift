// Waits and notifies of several loops at once, each on a thread of its own: no wake-up is lost, none
// is answered twice, and nothing is left.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore
import SmallocSystem

@Suite("Races of waits", .timed(seconds: 120))
struct WaitRaceTests {
    /// A loop as the daemon has it: sleeps until others have ended a wait of its connections.
    private final class TestLoop {
        let context: LoopContext
        private let bell = DispatchSemaphore(value: 0)

        init(_ registry: Registry, _ index: Int) {
            context = LoopContext(registry: registry, index: index)
            context.waits.wake = { [bell] in bell.signal() }
        }

        func connect() -> TestPeer {
            let peer = TestPeer(context)
            peer.feed(frame(.hello))
            peer.output = []
            return peer
        }

        /// Sleeps until something has ended, and has it answered.
        ///
        /// - Returns: False: nothing came, which in these tests is a wake-up that was lost.
        func turn() -> Bool {
            guard bell.wait(timeout: .now() + 20) == .success else { return false }
            context.tellWaits()
            return true
        }
    }

    private struct Shared: @unchecked Sendable { let registry: Registry }

    private func registry(_ loops: Int) -> Registry {
        Registry(limits: SharedLimits(Limits()), loops: loops, warmSizeMax: 0)!
    }

    private static func load(_ peer: TestPeer, _ offset: UInt64) -> UInt64 {
        peer.call(.atomic, name: "c", offset: offset, payload: numbers(1, 0, 0)).number(0)
    }

    @Test("two that take turns by waiting for each other never stand still")
    func turns() {
        let registry = registry(3)
        let shared = Shared(registry: registry)
        let control = TestLoop(registry, 2).connect()
        control.call(.alloc, flags: 2, type: 6, name: "c", size: 8)
        let rounds = Scale.count(20_000)
        DispatchQueue.concurrentPerform(iterations: 2) { thread in
            let loop = TestLoop(shared.registry, thread)
            let peer = loop.connect()
            // Thread 0 makes even numbers odd, thread 1 the other way round.
            while true {
                let value = WaitRaceTests.load(peer, 0)
                if value >= UInt64(2 * rounds) { break }
                if value % 2 == UInt64(thread) {
                    peer.call(.atomic, name: "c", payload: numbers(3, 1, 0))
                    peer.call(.notify, name: "c", size: 1)
                    continue
                }
                peer.feed(
                    frame(
                        .wait, name: "c", size: .max,
                        payload: Array(numbers(value).prefix(4))))
                while peer.output.isEmpty {
                    guard loop.turn() else {
                        Issue.record("a wake-up was lost at \(value)")
                        return
                    }
                }
                peer.output = []
            }
            // The other one may wait for the last step.
            peer.call(.notify, name: "c", size: .max)
            peer.session.end(loop.context)
            peer.isClosed = true
        }
        #expect(WaitRaceTests.load(control, 0) == UInt64(2 * rounds))
        #expect(registry.waits.checkInvariants() == 0)
    }

    @Test("random waits, notifies, cancels, disposes and ends of four loops leave nothing behind")
    func churn() {
        let seed = SplitMix(for: "races of waits").seed
        let registry = registry(4)
        let shared = Shared(registry: registry)
        let faults = Locked<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            let fault = WaitRaceTests.churn(shared, seed, thread)
            if let fault { faults.withLock { $0.append(fault) } }
        }
        #expect(faults.withLock { $0 } == [])
        let peer = TestLoop(registry, 0).connect()
        for name in ["a", "b", "c"] { peer.call(.dispose, name: name) }
        peer.session.end(peer.loop)
        peer.isClosed = true
        registry.mappings.drain()
        #expect(registry.waits.checkInvariants() == 0)
        #expect(registry.budget.allocationCount == 0)
        #expect(registry.budget.usedSize == 0)
        registry.checkInvariants()
    }

    private static func churn(_ shared: Shared, _ seed: UInt64, _ thread: Int) -> String? {
        var random = SplitMix(seed: seed &+ UInt64(thread) &* 1_000_003)
        let loop = TestLoop(shared.registry, thread)
        var peers = (0..<3).map { _ in loop.connect() }
        /// Requests of each that wait.
        var asked = [Set<UInt64>](repeating: [], count: 3)
        var cookie: UInt64 = 0
        for _ in 0..<Scale.count(6000) {
            let index = Int(random.next() % 3)
            let peer = peers[index]
            let name = ["a", "b", "c"][Int(random.next() % 3)]
            let offset = random.next() % 4 * 4
            cookie += 1
            switch random.next() % 16 {
            case 0...5:
                asked[index].insert(cookie)
                let time: UInt64 = random.next() % 3 == 0 ? random.next() % 3 : .max
                peer.feed(
                    frame(
                        .wait, cookie: cookie, name: name, offset: offset, size: time,
                        payload: [0, 0, 0, 0]))
            case 6...8:
                peer.feed(
                    frame(.notify, name: name, offset: offset, size: random.next() % 4))
            case 9, 10:
                peer.feed(frame(.alloc, flags: 2, type: 5, name: name, size: 16))
            case 11: peer.feed(frame(.dispose, name: name))
            case 12: peer.feed(frame(.truncate, name: name, size: 8))
            case 13:
                let old = asked[index].randomElement(using: &random) ?? 0
                peer.feed(frame(.cancel, payload: numbers(old)))
            case 14:
                while !loop.context.waits.expire(now: Clock.now) {}
            default:
                peer.session.end(loop.context)
                peer.isClosed = true
                asked[index] = []
                peers[index] = loop.connect()
            }
            loop.context.tellWaits()
            for index in 0..<3 {
                if let fault = answered(peers[index], &asked[index]) { return fault }
            }
        }
        for peer in peers {
            peer.session.end(loop.context)
            peer.isClosed = true
        }
        loop.context.waits.deadlines.checkInvariants()
        return nil
    }

    /// Looks at what has been answered: each wait once, and all that does not wait.
    private static func answered(_ peer: TestPeer, _ asked: inout Set<UInt64>) -> String? {
        peer.session.checkInvariants()
        for reply in replies(in: peer.output) ?? []
        where reply.header.operation == Operation.wait.rawValue {
            guard asked.remove(reply.header.cookie) != nil else {
                return "answered twice: \(reply)"
            }
        }
        peer.output = []
        let left = peer.session.caller.waits?.count ?? 0
        return left == asked.count ? nil : "\(left) wait, \(asked.count) are not answered"
    }

    @Test("sums that many wait for come to their end, with connections that are cut off meanwhile")
    func sums() {
        let registry = registry(4)
        let shared = Shared(registry: registry)
        let control = TestLoop(registry, 3).connect()
        control.call(.alloc, flags: 2, type: 6, name: "c", size: 64)
        let rounds = UInt64(Scale.count(3000))
        DispatchQueue.concurrentPerform(iterations: 3) { thread in
            var random = SplitMix(seed: UInt64(thread) + 77)
            let loop = TestLoop(shared.registry, thread)
            var peer = loop.connect()
            if thread == 0 {
                // Adds, and wakes one waiting thread after the other.
                for round in 1...rounds {
                    peer.call(.atomic, name: "c", offset: 8, payload: numbers(3, 1, 0))
                    peer.call(.notify, name: "c", offset: 8, size: .max)
                    if round % 64 == 0 { usleep(50) }
                }
                peer.session.end(loop.context)
                peer.isClosed = true
                return
            }
            var seen: UInt64 = 0
            while seen < rounds {
                seen = WaitRaceTests.load(peer, 8)
                peer.feed(
                    frame(
                        .wait, name: "c", offset: 8, size: .max,
                        payload: Array(numbers(seen).prefix(4))))
                if seen == rounds { break }
                if random.next() % 16 == 0 {
                    // As a client that is killed while it waits.
                    peer.session.end(loop.context)
                    peer.isClosed = true
                    peer = loop.connect()
                    continue
                }
                while peer.output.isEmpty {
                    guard loop.turn() else {
                        Issue.record("a wake-up was lost at \(seen) of \(rounds)")
                        return
                    }
                }
                peer.output = []
            }
            peer.session.end(loop.context)
            peer.isClosed = true
        }
        #expect(WaitRaceTests.load(control, 8) == rounds)
        #expect(registry.waits.checkInvariants() == 0)
    }
}
