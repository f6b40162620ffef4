// Names change on four threads while four loops watch: no event is lost, told twice, or out of
// order, and no loop sleeps on.

import Foundation
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Races of watches", .timed(seconds: 120))
struct WatchRaceTests {
    private struct Shared: @unchecked Sendable { let registry: Registry }

    /// Events of each of the threads that change names: fewer in all than the ring holds.
    private static let rounds = 1300

    private static func expected(_ thread: Int) -> [ToldEvent] {
        (0..<rounds).flatMap { round in
            [
                ToldEvent(kind: .allocated, name: "t\(thread)/\(round)"),
                ToldEvent(
                    kind: .renamed, name: "t\(thread)/\(round)", newName: "t\(thread)/x\(round)"),
                ToldEvent(kind: .disposed, name: "t\(thread)/x\(round)"),
            ]
        }
    }

    @Test("each watch is told a sequence without a gap")
    func sequences() {
        let registry = Registry(limits: SharedLimits(Limits()), loops: 8, warmSizeMax: 0)!
        let shared = Shared(registry: registry)
        let control = LoopContext(registry: registry, index: 0)
        let peer = TestPeer(control)
        peer.feed(frame(.hello))
        let start = peer.call(.watch).header.offset
        let faults = Locked<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 8) { thread in
            let fault =
                thread < 4
                ? WatchRaceTests.change(shared, thread)
                : WatchRaceTests.watch(shared, thread, start)
            if let fault { faults.withLock { $0.append(fault) } }
        }
        #expect(faults.withLock { $0 } == [])
        #expect(peer.call(.watch).header.offset == start + UInt64(4 * 3 * WatchRaceTests.rounds))
        #expect(registry.waits.checkInvariants() == 0)
        peer.session.end(control)
        peer.isClosed = true
        registry.mappings.drain()
        #expect(registry.budget.usedSize == EventRing.charge)
    }

    private static func change(_ shared: Shared, _ thread: Int) -> String? {
        let loop = LoopContext(registry: shared.registry, index: thread)
        let peer = TestPeer(loop)
        peer.feed(frame(.hello))
        for round in 0..<rounds {
            let name = "t\(thread)/\(round)"
            peer.call(.alloc, flags: 2, type: 2, name: name, size: 1)
            peer.call(.rename, name: name, payload: Array("t\(thread)/x\(round)".utf8))
            peer.call(.dispose, name: "t\(thread)/x\(round)")
            if round % 100 == 0 { usleep(1000) }
        }
        peer.session.end(loop)
        peer.isClosed = true
        return nil
    }

    /// One loop with a watch of all, and one of the events of one thread.
    private static func watch(_ shared: Shared, _ thread: Int, _ start: UInt64) -> String? {
        let loop = LoopContext(registry: shared.registry, index: thread)
        let bell = DispatchSemaphore(value: 0)
        loop.waits.wake = { bell.signal() }
        let peer = TestPeer(loop)
        peer.feed(frame(.hello))
        peer.output = []
        let prefixes = ["", "t\(thread - 4)/"]
        var told: [[ToldEvent]] = [[], []]
        func ask(_ index: Int, _ cursor: UInt64) {
            peer.feed(
                frame(
                    .watch, cookie: UInt64(index), name: prefixes[index], offset: cursor,
                    size: .max))
        }
        ask(0, start)
        ask(1, start)
        let whole = [4 * 3 * rounds, 3 * rounds]
        while told[0].count < whole[0] || told[1].count < whole[1] {
            let output = peer.output
            peer.output = []
            for reply in replies(in: output) ?? [] {
                let index = Int(reply.header.cookie)
                guard let events = reply.events, reply.header.size == 0, !events.isEmpty else {
                    return "\(reply)"
                }
                told[index] += events
                if told[index].count < whole[index] { ask(index, reply.header.offset) }
            }
            loop.waits.deadlines.checkInvariants()
            _ = loop.waits.watches.checkInvariants()
            if !peer.output.isEmpty || !output.isEmpty { continue }
            guard bell.wait(timeout: .now() + 20) == .success else {
                return "a wake-up was lost at \(told.map(\.count))"
            }
            loop.tellWaits()
        }
        peer.session.end(loop)
        peer.isClosed = true
        guard told[1] == expected(thread - 4) else { return "\(prefixes[1]): another sequence" }
        for other in 0..<4 where told[0].filter({ $0.matches("t\(other)/") }) != expected(other) {
            return "all: another sequence of \(other)"
        }
        return nil
    }
}
