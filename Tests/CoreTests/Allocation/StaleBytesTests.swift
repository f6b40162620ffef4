// Memory that is handed out before it is wiped: no request ever reads an old byte, and no byte that
// the overwriting request put there is wiped.

import Foundation
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Stale bytes", .timed)
struct StaleBytesTests {
    private static let old: UInt8 = 0xEE

    /// A pool without its thread, so that what is given back stays unwiped.
    private static func pool() -> (MappingPool, MemoryBudget) {
        var limits = Limits()
        limits.memorySizeMax = 1 << 40
        let budget = MemoryBudget(limits: SharedLimits(limits))
        return (MappingPool(budget: budget, cleanSizeMax: 64 << 20), budget)
    }

    private static func make(_ pool: MappingPool, _ size: Int) -> Allocation {
        if size >= Thresholds.outOfLineSizeMin {
            _ = pool.budget.charge(UInt64(pool.capacity(for: size)) + MappingPool.recordCharge)
        }
        return Array("n".utf8).withUnsafeBytes {
            Allocation.make(
                name: $0, type: .uint8, size: size, created: 0, owner: 7, mappings: pool)!
        }
    }

    /// Leaves memory of that size in the queue that is full of old bytes.
    private static func leave(_ pool: MappingPool, _ size: Int, written: Int? = nil) {
        let allocation = make(pool, size)
        let count = written ?? size
        if case .here(let start) = allocation.access(Extent(offset: 0, size: count), .modify) {
            memset(start, Int32(old), count)
        }
        _ = allocation.destroy(mappings: pool)
    }

    private static func bytes(
        _ allocation: Allocation, _ offset: Int, _ size: Int, _ intent: Intent
    ) -> UnsafeMutableRawBufferPointer? {
        allocation.checkInvariants()
        defer { allocation.checkInvariants() }
        guard case .here(let start) = allocation.access(Extent(offset: offset, size: size), intent)
        else { return nil }
        return UnsafeMutableRawBufferPointer(start: start, count: size)
    }

    @Test("a whole overwrite is given unwiped memory, and goes on piece by piece without waiting")
    func whole() throws {
        let (pool, budget) = StaleBytesTests.pool()
        let size = 1 << 20
        StaleBytesTests.leave(pool, size)
        #expect(pool.pendingSize == size)
        let allocation = StaleBytesTests.make(pool, size)
        var at = 0
        while at < size {
            let count = min(100_000, size - at)
            let piece = try #require(StaleBytesTests.bytes(allocation, at, count, .overwrite))
            #expect(pool.pendingSize == 0)
            // No other request while a piece is under way.
            #expect(StaleBytesTests.bytes(allocation, 0, 1, .read) == nil)
            #expect(StaleBytesTests.bytes(allocation, size - 1, 1, .modify) == nil)
            #expect(StaleBytesTests.bytes(allocation, 0, 1000, .overwrite) == nil)
            memset(piece.baseAddress!, 1, 60_000 > count ? count : 60_000)
            at += min(60_000, count)
            allocation.overwritten(upTo: at)
            allocation.checkInvariants()
        }
        let all = try #require(StaleBytesTests.bytes(allocation, 0, size, .read))
        #expect(all.allSatisfy { $0 == 1 })
        _ = allocation.destroy(mappings: pool)
        pool.drain()
        #expect(budget.usedSize == 0 && budget.mappingCount == pool.sharedMappings)
    }

    @Test("what is left of a request that does not finish is wiped, on the spot if it is little")
    func unfinished() throws {
        for size in [65_536, 1 << 20, 3 << 20] {
            for end in [0, 1, size / 2, size - 65_536, size - 1] {
                let (pool, budget) = StaleBytesTests.pool()
                StaleBytesTests.leave(pool, size)
                // What needs no wiping in the queue is wiped on the spot.
                let allocation = StaleBytesTests.make(pool, size)
                let piece = try #require(StaleBytesTests.bytes(allocation, 0, size, .overwrite))
                memset(piece.baseAddress!, 1, end)
                allocation.overwritten(upTo: end)
                let left = allocation.record?.isStale == true ? size - end : 0
                let first = StaleBytesTests.bytes(allocation, 0, size, .read)
                #expect((first != nil) == (left <= Thresholds.wipedAtOnceMax), "\(size) \(end)")
                if first == nil {
                    var steps = 1
                    while !allocation.wipeStale(Yielding.stepSize) { steps += 1 }
                    let wanted = (left + Yielding.stepSize - 1) / Yielding.stepSize
                    #expect(steps == wanted, "\(size) \(end)")
                }
                let all = try #require(StaleBytesTests.bytes(allocation, 0, size, .read))
                #expect(all[..<end].allSatisfy { $0 == 1 } && all[end...].allSatisfy { $0 == 0 })
                _ = allocation.destroy(mappings: pool)
                pool.drain()
                #expect(budget.usedSize == 0 && budget.mappingCount == pool.sharedMappings)
            }
        }
    }

    @Test("wiping comes from the back, and stops at the piece under way")
    func fromTheBack() throws {
        let (pool, _) = StaleBytesTests.pool()
        let size = 1 << 20
        StaleBytesTests.leave(pool, size)
        let allocation = StaleBytesTests.make(pool, size)
        let piece = try #require(StaleBytesTests.bytes(allocation, 0, 300_000, .overwrite))
        var isDone = false
        for _ in 0..<20 { isDone = allocation.wipeStale(Yielding.stepSize) }
        #expect(!isDone)
        #expect(StaleBytesTests.has(piece, StaleBytesTests.old, 300_000))
        let rest = UnsafeRawBufferPointer(
            start: UnsafeRawPointer(piece.baseAddress! + 300_000), count: size - 300_000)
        #expect(rest.allSatisfy { $0 == 0 })
        memset(piece.baseAddress!, 1, 200_000)
        allocation.overwritten(upTo: 200_000)
        #expect(allocation.wipeStale(Yielding.stepSize))
        let all = try #require(StaleBytesTests.bytes(allocation, 0, size, .read))
        #expect(all[..<200_000].allSatisfy { $0 == 1 } && all[200_000...].allSatisfy { $0 == 0 })
        _ = allocation.destroy(mappings: pool)
        pool.drain()
    }

    @Test("no other intent, place or size is given unwiped memory")
    func others() throws {
        let (pool, _) = StaleBytesTests.pool()
        let size = 1 << 20
        let choices: [(Int, Int, Intent)] = [
            (0, size, .read), (0, size, .modify), (1, size - 1, .overwrite),
        ]
        for (offset, count, intent) in choices {
            StaleBytesTests.leave(pool, size)
            let pending = pool.pendingSize
            let allocation = StaleBytesTests.make(pool, size)
            let seen = try #require(StaleBytesTests.bytes(allocation, offset, count, intent))
            #expect(seen.allSatisfy { $0 == 0 })
            #expect(pool.pendingSize == pending)
            let other = StaleBytesTests.make(pool, size + 4096)
            let more = try #require(
                StaleBytesTests.bytes(other, 0, size + 4096, .overwrite))
            #expect(more.allSatisfy { $0 == 0 })
            _ = allocation.destroy(mappings: pool)
            _ = other.destroy(mappings: pool)
        }
        pool.drain()
    }

    @Test("a truncate in the middle leaves nothing stale behind, and nothing of it to others")
    func truncated() throws {
        for cut in [0, 1, 5000, 200_000, 500_000] {
            let (pool, budget) = StaleBytesTests.pool()
            let size = 1 << 20
            StaleBytesTests.leave(pool, size)
            let allocation = StaleBytesTests.make(pool, size)
            let piece = try #require(StaleBytesTests.bytes(allocation, 0, 100_000, .overwrite))
            memset(piece.baseAddress!, 1, 100_000)
            allocation.overwritten(upTo: 100_000)
            allocation.size = UInt64(cut)
            if let tail = allocation.takeTail(pool) { pool.give(forGood: tail) }
            while !allocation.wipeStale(Yielding.stepSize) {}
            let seen = try #require(StaleBytesTests.bytes(allocation, 0, cut, .read))
            let end = min(cut, 100_000)
            #expect(seen[..<end].allSatisfy { $0 == 1 } && seen[end...].allSatisfy { $0 == 0 })
            _ = allocation.destroy(mappings: pool)
            pool.reclaimAll()
            let next = StaleBytesTests.make(pool, size)
            let fresh = try #require(StaleBytesTests.bytes(next, 0, size, .read))
            #expect(firstNonZero(fresh) == nil)
            _ = next.destroy(mappings: pool)
            pool.drain()
            #expect(budget.usedSize == 0)
        }
    }

    /// Whether a byte is among the first ones.
    private static func has(
        _ bytes: UnsafeMutableRawBufferPointer, _ byte: UInt8, _ count: Int
    ) -> Bool {
        bytes.baseAddress.map { memchr($0, Int32(byte), count) != nil } ?? false
    }

    /// What the threads of one round share.
    private struct Round: @unchecked Sendable {
        let allocation: Allocation
        let pool: MappingPool
        let size: Int
        let seed: UInt64
        let reached: UnsafeMutablePointer<Int>
    }

    @Test("readers, writers and a whole overwrite cut at random bytes never show an old byte")
    func threads() throws {
        let seed = SplitMix(for: "stale bytes").seed
        let (pool, budget) = StaleBytesTests.pool()
        let sizes = [65_536, 100_000, 200_000, 1 << 20, (2 << 20) - 4096, 2 << 20, 3_000_000]
        let reached = UnsafeMutablePointer<Int>.allocate(capacity: 1)
        defer { reached.deallocate() }
        for step in 0..<Scale.count(200) {
            let size = sizes[step % sizes.count]
            StaleBytesTests.leave(pool, size)
            let allocation = StaleBytesTests.make(pool, size)
            reached.initialize(to: 0)
            let round = Round(
                allocation: allocation, pool: pool, size: size,
                seed: seed &+ UInt64(step) &* 7919, reached: reached)
            DispatchQueue.concurrentPerform(iterations: 3) { thread in
                var random = SplitMix(seed: round.seed &+ UInt64(thread) &* 104_729)
                switch thread {
                case 0: StaleBytesTests.overwrite(round, &random)
                default: StaleBytesTests.touch(round, &random, writes: thread == 2)
                }
            }
            while !allocation.wipeStale(Yielding.stepSize) {}
            let all = try #require(StaleBytesTests.bytes(allocation, 0, size, .read))
            let areOld = StaleBytesTests.has(all, StaleBytesTests.old, size)
            let areWiped = StaleBytesTests.has(all, 0, reached.pointee)
            #expect(!areOld, "an old byte, seed \(seed), step \(step)")
            #expect(!areWiped, "a wiped byte, seed \(seed), step \(step)")
            _ = allocation.destroy(mappings: pool)
            if step % 10 == 0 { pool.drain() }
        }
        pool.drain()
        #expect(budget.usedSize == 0 && budget.mappingCount == pool.sharedMappings)
    }

    /// Overwrites with 1, in pieces that are cut short, to the end or to somewhere.
    private static func overwrite(_ round: Round, _ random: inout SplitMix) {
        let allocation = round.allocation
        let end = random.next() % 2 == 0 ? round.size : Int(random.next() % UInt64(round.size))
        var at = 0
        while at < end {
            let count = min(1 + Int(random.next() % 300_000), round.size - at)
            allocation.lock.lock()
            allocation.checkInvariants()
            let access = allocation.access(Extent(offset: at, size: count), .overwrite)
            guard case .here(let start) = access else {
                allocation.lock.unlock()
                Issue.record("the overwriting request waits, seed \(round.seed)")
                return
            }
            allocation.pin(writes: true)
            allocation.lock.unlock()
            let arrived = min(Int(random.next() % UInt64(count + 1)), end - at)
            memset(start, 1, arrived)
            allocation.lock.lock()
            at += arrived
            allocation.overwritten(upTo: at)
            allocation.checkInvariants()
            allocation.lock.unlock()
            _ = allocation.unpin(round.pool, writes: true)
        }
        round.reached.pointee = at
    }

    /// Reads, or writes 2, here and there, as requests do.
    private static func touch(_ round: Round, _ random: inout SplitMix, writes: Bool) {
        let allocation = round.allocation
        for _ in 0..<20 {
            let offset = Int(random.next() % UInt64(round.size))
            let count = min(1 + Int(random.next() % 60_000), round.size - offset)
            // As `Registry.later` has it done; a piece under way ends soon.
            for _ in 0..<1_000_000 {
                allocation.lock.lock()
                defer { allocation.lock.unlock() }
                let access = allocation.access(
                    Extent(offset: offset, size: count), writes ? .modify : .read)
                if case .here(let start) = access {
                    if writes {
                        memset(start, 2, count)
                    } else {
                        let seen = UnsafeMutableRawBufferPointer(start: start, count: count)
                        if has(seen, old, count) { Issue.record("an old byte, \(round.seed)") }
                    }
                    break
                }
                _ = allocation.wipeStale(Yielding.stepSize)
            }
        }
    }
}
