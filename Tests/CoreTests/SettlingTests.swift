// Large memory that is handed out before it was wiped: nobody sees what was in it, and nothing that
// was written to it since is lost.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Settling")
struct SettlingTests {
    private static let size = 3_000_000
    private static let secret: UInt8 = 0xEE

    /// Long enough for all that a test does; nothing here waits for it.
    private static let rest: UInt64 = 60_000_000_000

    /// A connection with `b`, whose memory was full of `secret` a moment ago, as its handle 1.
    private static func soiled(_ daemon: TestDaemon) -> TestPeer {
        let peer = daemon.greeted()
        soil(peer)
        #expect(peer.call(.alloc, type: 2, name: "b", size: UInt64(size)).header.handle == 1)
        #expect(isUnsettled(peer))
        return peer
    }

    private static func soil(_ peer: TestPeer) {
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
        peer.call(.fill, name: "a", size: UInt64(size), payload: [secret])
        peer.call(.dispose, name: "a")
    }

    private static func isUnsettled(_ peer: TestPeer) -> Bool {
        peer.session.holdings.handles[1]?.flags.contains(.unsettled) == true
    }

    private static func whole(_ peer: TestPeer) -> [UInt8] {
        peer.call(.read, handle: 1, size: UInt64(size)).payload
    }

    /// Where two memories differ first; nil: nowhere.
    ///
    /// To show millions of bytes that are not equal takes minutes.
    private static func difference(
        _ left: some Collection<UInt8>, _ right: some Collection<UInt8>
    ) -> Int? {
        // As arrays they are compared by the library's own code, not by a debug build's.
        if Array(left) == Array(right) { return nil }
        return zip(left, right).enumerated().first { $1.0 != $1.1 }?.offset ?? -1
    }

    /// A request to `b`, at its beginning, its middle and its end, small and large.
    enum Way: CaseIterable, Sendable {
        case read, readByName, largeRead, ranges, textRead
        case write, writeByName, largeWrite, writeRanges, largeRanges, textWrite
        case fill, largeFill, copyFrom, copyOnto, largeCopyFrom, largeCopyOnto, copyWithin

        /// Does it, and changes `model` as it should have changed `b`.
        func run(_ peer: TestPeer, _ model: inout [UInt8], at offset: Int) {
            let isLarge =
                [.largeRead, .largeWrite, .largeRanges, .largeFill, .largeCopyFrom, .largeCopyOnto]
                .contains(self)
            let count = min(isLarge ? 1_500_000 : 5000, model.count - offset)
            let start = UInt64(offset)
            let end = offset + count
            let data = [UInt8](repeating: 7, count: count)
            var reply: Reply?
            switch self {
            case .read, .largeRead:
                reply = peer.call(.read, handle: 1, offset: start, size: UInt64(count))
                #expect(SettlingTests.difference(reply?.payload ?? [], model[offset..<end]) == nil)
            case .readByName:
                reply = peer.call(.read, name: "b", offset: start, size: UInt64(count))
                #expect(SettlingTests.difference(reply?.payload ?? [], model[offset..<end]) == nil)
            case .ranges:
                reply = peer.call(
                    .read, flags: 1, handle: 1, size: 2,
                    payload: numbers(start, UInt64(count), 10, 20))
                #expect(
                    SettlingTests.difference(
                        reply?.payload ?? [], model[offset..<end] + model[10..<30]) == nil)
            case .textRead:
                let answer = TestPeer(peer.loop).line("read b \(offset) \(min(count, 20)) hex")
                let shown = model[offset..<min(end, offset + 20)]
                    .map { String(format: "%02x", $0) }.joined()
                #expect(answer.contains(shown), "\(answer)")
            case .write, .largeWrite:
                reply = peer.call(
                    .write, handle: 1, offset: start, size: UInt64(count), payload: data)
                model.replaceSubrange(offset..<end, with: data)
            case .writeByName:
                reply = peer.call(
                    .write, name: "b", offset: start, size: UInt64(count), payload: data)
                model.replaceSubrange(offset..<end, with: data)
            case .writeRanges, .largeRanges:
                reply = peer.call(
                    .write, flags: 1, handle: 1, size: 2,
                    payload: numbers(start, UInt64(count), 10, 20) + data
                        + [UInt8](repeating: 9, count: 20))
                model.replaceSubrange(offset..<end, with: data)
                model.replaceSubrange(10..<30, with: repeatElement(9, count: 20))
            case .textWrite:
                _ = TestPeer(peer.loop).line("write b \(offset) 7 7 7")
                model.replaceSubrange(offset..<offset + 3, with: [7, 7, 7])
            case .fill, .largeFill:
                reply = peer.call(
                    .fill, handle: 1, offset: start, size: UInt64(count), payload: [7])
                model.replaceSubrange(offset..<end, with: data)
            case .copyFrom, .largeCopyFrom:
                peer.call(.alloc, flags: 2, type: 2, name: "c", size: UInt64(count))
                peer.call(.fill, name: "c", size: UInt64(count), payload: [5])
                reply = peer.call(
                    .copy, handle: 1, offset: start, size: UInt64(count),
                    payload: copyDest(0, name: "c"))
                let copied = peer.call(.read, name: "c", size: UInt64(count)).payload
                #expect(SettlingTests.difference(copied, model[offset..<end]) == nil)
                peer.call(.dispose, name: "c")
            case .copyOnto, .largeCopyOnto:
                peer.call(.alloc, flags: 2, type: 2, name: "c", size: UInt64(count))
                peer.call(.fill, name: "c", size: UInt64(count), payload: [7])
                reply = peer.call(
                    .copy, name: "c", size: UInt64(count), payload: copyDest(start, handle: 1))
                model.replaceSubrange(offset..<end, with: data)
                peer.call(.dispose, name: "c")
            case .copyWithin:
                reply = peer.call(
                    .copy, handle: 1, size: UInt64(count), payload: copyDest(start, handle: 1))
                model.replaceSubrange(offset..<end, with: Array(model[0..<count]))
            }
            if let reply { #expect(reply.status == .ok, "\(self): \(reply)") }
        }
    }

    @Test(
        "every request sees zeros in memory that was not wiped, and leaves zeros around",
        arguments: Way.allCases)
    func first(_ way: Way) {
        for offset in [0, 1, 200_000, 300_000, 1_400_000, SettlingTests.size - 5000] {
            let daemon = TestDaemon(warmSizeMax: 64 << 20, restTime: SettlingTests.rest)
            let peer = SettlingTests.soiled(daemon)
            var model = [UInt8](repeating: 0, count: SettlingTests.size)
            way.run(peer, &model, at: offset)
            #expect(
                SettlingTests.difference(SettlingTests.whole(peer), model) == nil, "at \(offset)")
            #expect(!SettlingTests.isUnsettled(peer))
        }
    }

    @Test("what is written from the first byte to the last is not wiped before")
    func ahead() {
        let daemon = TestDaemon(warmSizeMax: 64 << 20, restTime: SettlingTests.rest)
        let peer = SettlingTests.soiled(daemon)
        let size = SettlingTests.size
        let request = frame(
            .write, handle: 1, size: UInt64(size), payload: [UInt8](repeating: 7, count: size))
        peer.feed(Array(request[..<1_000_040]))
        // Nobody else asked, so nothing behind what arrived is touched.
        #expect(peer.session.holdings.handles[1]?.settledSize == 1_000_000)
        #expect(SettlingTests.isUnsettled(peer))
        // Another connection looks at all of it in the midst of that.
        let other = daemon.greeted()
        other.call(.open, name: "b")
        let seen = SettlingTests.whole(other)
        #expect(seen.count == size)
        #expect(seen[..<1_000_000].allSatisfy { $0 == 7 })
        #expect(seen[1_000_000...].allSatisfy { $0 == 0 })
        peer.feed(Array(request[1_000_040...]))
        #expect(SettlingTests.whole(other).allSatisfy { $0 == 7 })
    }

    @Test("a write that breaks off leaves zeros behind what arrived", arguments: [false, true])
    func brokenOff(_ receivesDirectly: Bool) {
        let daemon = TestDaemon(warmSizeMax: 64 << 20, restTime: SettlingTests.rest)
        let peer = SettlingTests.soiled(daemon)
        let other = daemon.greeted()
        other.call(.open, name: "b")
        peer.receivesDirectly = receivesDirectly
        let request = frame(
            .write, handle: 1, size: UInt64(SettlingTests.size),
            payload: [UInt8](repeating: 7, count: SettlingTests.size))
        peer.feed(Array(request[..<700_040]), in: { 90_000 })
        peer.session.end(peer.loop)
        peer.isClosed = true
        let seen = SettlingTests.whole(other)
        #expect(seen[..<700_000].allSatisfy { $0 == 7 })
        #expect(seen[700_000...].allSatisfy { $0 == 0 })
    }

    @Test("truncated, and given back again half settled, it shows nothing either")
    func again() {
        let daemon = TestDaemon(warmSizeMax: 64 << 20, restTime: SettlingTests.rest)
        let peer = SettlingTests.soiled(daemon)
        let size = UInt64(SettlingTests.size)
        // Some of it settled; then the same memory for the next.
        peer.call(.write, handle: 1, size: 4, payload: [7, 7, 7, 7])
        #expect(SettlingTests.isUnsettled(peer))
        peer.call(.dispose, handle: 1)
        #expect(peer.call(.alloc, type: 2, name: "b", size: size).header.handle == 1)
        #expect(SettlingTests.isUnsettled(peer))
        #expect(peer.call(.truncate, handle: 1, size: 1_000_001).status == .ok)
        let seen = peer.call(.read, handle: 1, size: 1_000_001).payload
        #expect(seen.count == 1_000_001 && seen.allSatisfy { $0 == 0 })
        // To where all is settled.
        peer.call(.dispose, handle: 1)
        SettlingTests.soil(peer)
        peer.call(.alloc, type: 2, name: "b", size: size)
        #expect(SettlingTests.isUnsettled(peer))
        #expect(peer.call(.write, handle: 1, size: 2, payload: [7, 7]).status == .ok)
        #expect(peer.call(.truncate, handle: 1, size: 2).status == .ok)
        #expect(peer.call(.read, handle: 1, size: 2).payload == [7, 7])
    }

    @Test("nothing is settled for nothing, and no more than is asked for")
    func asked() {
        let daemon = TestDaemon(warmSizeMax: 64 << 20, restTime: SettlingTests.rest)
        let peer = SettlingTests.soiled(daemon)
        let size = UInt64(SettlingTests.size)
        func settled() -> Int { peer.session.holdings.handles[1]?.settledSize ?? -1 }
        #expect(peer.call(.read, handle: 1, offset: size).status == .ok)
        #expect(peer.call(.write, handle: 1, offset: size).status == .ok)
        #expect(
            peer.call(.read, flags: 1, handle: 1, size: 1, payload: numbers(size, 0)).status == .ok)
        #expect(
            peer.call(.write, flags: 1, handle: 1, size: 1, payload: numbers(size, 0)).status
                == .ok)
        #expect(
            peer.call(.copy, handle: 1, offset: size, payload: copyDest(size, handle: 1)).status
                == .ok)
        #expect(settled() == 0)
        #expect(peer.call(.read, handle: 1, offset: 1_000_000, size: 9).status == .ok)
        #expect(settled() == 1_000_009)
        #expect(
            peer.call(.write, handle: 1, offset: 2_000_000, size: 1, payload: [1]).status == .ok)
        #expect(settled() == 2_000_001)
    }

    @Test("whoever waits for it to be settled does not pin it: it would be done without the lock")
    func unpinned() throws {
        let daemon = TestDaemon(warmSizeMax: 64 << 20, restTime: SettlingTests.rest)
        let peer = SettlingTests.soiled(daemon)
        let allocation = try #require(peer.session.holdings.handles[1])
        let size = UInt64(SettlingTests.size)
        peer.moves = false
        for request in [
            frame(.read, handle: 1, offset: size - 9, size: 9),
            frame(.write, name: "b", offset: size - 1, size: 1, payload: [1]),
        ] {
            let other = daemon.greeted()
            other.call(.open, name: "b")
            other.moves = false
            other.feed(request)
            #expect(other.pause == .work)
            #expect(allocation.pins == 0)
            other.session.end(other.loop)
            other.isClosed = true
            #expect(allocation.pins == 0)
        }
        #expect(allocation.referenceCount == 2)
    }

    @Test("memory that is taken as it is costs no more than it did, and is charged once")
    func charged() {
        let size = UInt64(SettlingTests.size)
        // Two of them would not fit.
        let daemon = TestDaemon(warmSizeMax: 64 << 20, restTime: SettlingTests.rest) {
            $0.memorySizeMax = 2 * size - 1
        }
        let peer = SettlingTests.soiled(daemon)
        let before = daemon.registry.budget.usedSize
        for _ in 0..<20 {
            _ = SettlingTests.whole(peer)
            peer.call(.dispose, handle: 1)
            #expect(peer.call(.alloc, type: 2, name: "b", size: size).status == .ok)
            #expect(daemon.registry.budget.usedSize == before)
        }
    }

    @Test("any sequence of requests by two connections agrees with a model")
    func model() {
        var random = SplitMix(for: "settling")
        let daemon = TestDaemon(warmSizeMax: 64 << 20, restTime: SettlingTests.rest)
        for _ in 0..<Scale.count(20) {
            let peers = [SettlingTests.soiled(daemon), daemon.greeted()]
            peers[1].call(.open, name: "b")
            peers[1].receivesDirectly = false
            var model = [UInt8](repeating: 0, count: SettlingTests.size)
            for _ in 0..<6 {
                let way = Way.allCases.randomElement(using: &random) ?? .read
                let offset =
                    Bool.random(using: &random)
                    ? Int.random(in: 0..<20_000, using: &random)
                    : Int.random(in: 0..<SettlingTests.size - 5000, using: &random)
                let peer = peers[Int.random(in: 0...1, using: &random)]
                way.run(peer, &model, at: offset)
            }
            #expect(SettlingTests.difference(SettlingTests.whole(peers[1]), model) == nil)
            peers[0].call(.dispose, handle: 1)
            peers[1].call(.close, handle: 1)
        }
    }

    private struct Shared: @unchecked Sendable {
        let registry: Registry
        let seed: UInt64
    }

    @Test("threads that write and read at once see zeros or what was written")
    func threads() {
        let seed = SplitMix(for: "settling threads").seed
        let registry = Registry(
            limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 64 << 20, nameHash: NameHash(),
            restTime: SettlingTests.rest)
        let shared = Shared(registry: registry, seed: seed)
        let first = TestPeer(LoopContext(registry: registry, index: 0))
        first.feed(frame(.hello))
        for round in 0..<Scale.count(10) {
            SettlingTests.soil(first)
            first.call(.alloc, type: 2, name: "b", size: UInt64(SettlingTests.size))
            DispatchQueue.concurrentPerform(iterations: 3) { thread in
                SettlingTests.write(shared, thread, round)
            }
            let seen = SettlingTests.whole(first)
            for thread in 0..<3 {
                // Each wrote its own part from end to end.
                let part = seen[thread * 1_000_000..<(thread + 1) * 1_000_000]
                #expect(part.allSatisfy { $0 == UInt8(thread + 1) }, "round \(round)")
            }
            first.call(.dispose, handle: 1)
        }
    }

    /// Writes a part of its own in pieces, from its end or its beginning, and looks around.
    private static func write(_ shared: Shared, _ thread: Int, _ round: Int) {
        var random = SplitMix(seed: shared.seed &+ UInt64(round * 3 + thread))
        let peer = TestPeer(LoopContext(registry: shared.registry, index: thread + 1))
        peer.feed(frame(.hello))
        peer.call(.open, name: "b")
        let data = [UInt8](repeating: UInt8(thread + 1), count: 50_000)
        var pieces = Array(0..<20)
        if round % 2 == 1 { pieces.reverse() }
        for piece in pieces {
            let offset = UInt64(thread * 1_000_000 + piece * 50_000)
            peer.call(.write, handle: 1, offset: offset, size: 50_000, payload: data)
            let place = UInt64.random(in: 0..<UInt64(size - 60_000), using: &random)
            let seen = peer.call(.read, handle: 1, offset: place, size: 60_000).payload
            if seen.count != 60_000 || !seen.allSatisfy({ $0 <= 3 }) {
                Issue.record("saw what was never written")
            }
        }
    }
}
