import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Mapping pool")
struct MappingPoolTests {
    private static func pool(
        _ cleanSizeMax: Int, warmTime: UInt64 = MappingPool.warmTime
    ) -> (MappingPool, MemoryBudget) {
        let budget = MemoryBudget(limits: SharedLimits(Limits()))
        let pool = MappingPool(budget: budget, cleanSizeMax: cleanSizeMax, warmTime: warmTime)
        return (pool, budget)
    }

    private static func bytes(_ mapping: Mapping) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: mapping.base, count: mapping.capacity)
    }

    @Test("a capacity is the size in whole pages")
    func capacity() {
        let (pool, _) = MappingPoolTests.pool(0)
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        #expect(pool.capacity(for: 65_536) == 65_536)
        #expect(pool.capacity(for: 65_537) == 65_536 + page)
        #expect(pool.capacity(for: 65_536 + page) == 65_536 + page)
    }

    @Test("a mapping given back soiled is clean when it is handed out again")
    func wiped() throws {
        let (pool, budget) = MappingPoolTests.pool(64 << 20)
        for size in [65_536, 200_000, 262_144, 300_000, 3 << 20] {
            for dirtySize in [0, 1, size / 2, size] {
                let capacity = UInt64(pool.capacity(for: size))
                #expect(budget.charge(capacity))
                var mapping = try #require(pool.take(size))
                #expect(firstNonZero(MappingPoolTests.bytes(mapping)) == nil)
                memset(mapping.base, 0xFF, dirtySize)
                mapping.dirtySize = dirtySize
                pool.give(mapping)
                #expect(eventually { pool.pendingSize == 0 })
                #expect(budget.usedSize == 0)
                #expect(pool.warmSize > 0)
                #expect(budget.pooledSize == UInt64(pool.warmSize))
                #expect(budget.charge(capacity))
                let again = try #require(pool.take(size))
                #expect(again.base == mapping.base)
                #expect(again.dirtySize == 0)
                #expect(firstNonZero(MappingPoolTests.bytes(again)) == nil)
                pool.give(again)
            }
            pool.drain()
            #expect(budget.usedSize == 0 && budget.pooledSize == 0 && pool.warmSize == 0)
        }
    }

    @Test("warm memory stays within its bounds of size and number, and every byte is accounted for")
    func bounded() throws {
        let (pool, budget) = MappingPoolTests.pool(1 << 20)
        var random = SplitMix(for: "mapping pool")
        var held: [Mapping] = []
        for _ in 0..<3000 {
            if held.count < 20, random.next() % 2 == 0 {
                let size = 65_536 + Int(random.next() % 400_000)
                #expect(budget.charge(UInt64(pool.capacity(for: size))))
                var mapping = try #require(pool.take(size))
                #expect(mapping.capacity == pool.capacity(for: size))
                #expect(mapping.base.load(as: UInt64.self) == 0)
                mapping.dirtySize = Int(random.next() % UInt64(mapping.capacity))
                memset(mapping.base, 0xFF, mapping.dirtySize)
                held.append(mapping)
            } else if !held.isEmpty {
                pool.give(held.remove(at: Int(random.next() % UInt64(held.count))))
            }
            #expect(pool.warmSize <= 1 << 20)
        }
        for mapping in held { pool.give(mapping) }
        // What is evicted meanwhile is queued behind what one call waits for.
        for _ in 0..<1000 where pool.pendingSize > 0 { pool.drain() }
        pool.drain()
        #expect(budget.usedSize == 0)
        #expect(budget.pooledSize == 0)
        #expect(pool.warmSize == 0 && pool.pendingSize == 0)
    }

    @Test("warm memory that nobody asks for goes back in time, and not before")
    func cooled() throws {
        for warmTime in [MappingPool.warmTime, 1] {
            let (pool, budget) = MappingPoolTests.pool(64 << 20, warmTime: warmTime)
            for size in [100_000, 1_000_000] {
                #expect(budget.charge(UInt64(pool.capacity(for: size))))
                var mapping = try #require(pool.take(size))
                mapping.dirtySize = size
                memset(mapping.base, 0xFF, size)
                pool.give(mapping)
            }
            #expect(eventually { pool.pendingSize == 0 })
            let warm = pool.warmSize
            #expect(warm > 1_000_000)
            pool.returnMemory()
            #expect(eventually { pool.pendingSize == 0 })
            #expect(pool.warmSize == (warmTime == 1 ? 0 : warm))
            #expect(budget.usedSize == 0)
            #expect(budget.pooledSize == UInt64(pool.warmSize))
            pool.drain()
        }
    }

    @Test("what is taken before it was wiped does not stand for what is waited for")
    func order() throws {
        let budget = MemoryBudget(limits: SharedLimits(Limits()))
        let pool = MappingPool(budget: budget, cleanSizeMax: 0, restTime: 60_000_000_000)
        func soiled(_ size: Int) throws -> Mapping {
            #expect(budget.charge(UInt64(size)))
            var mapping = try #require(pool.take(size))
            mapping.dirtySize = size
            return mapping
        }
        for size in [8 << 20, 1 << 20] { pool.give(try soiled(size)) }
        let used = try #require(pool.takeUsed(1 << 20))
        #expect(pool.pendingSize == 8 << 20)
        #expect(!pool.hasDone(MappingPool.Tally(mappings: 2)))
        // What is waited for does not rest.
        let tally = pool.hurry()
        #expect(eventually { pool.hasDone(tally) })
        #expect(pool.pendingSize == 0)
        pool.give(used)
        #expect(pool.hasDone(tally))
        let next = pool.hurry()
        #expect(eventually { pool.hasDone(next) })
        #expect(budget.usedSize == 0)
    }

    @Test("what becomes warm while others are looked at is younger than now")
    func young() {
        let (pool, budget) = MappingPoolTests.pool(64 << 20)
        DispatchQueue.concurrentPerform(iterations: 3) { thread in
            for _ in 0..<Scale.count(100_000) {
                if thread == 0 {
                    pool.returnMemory()
                } else if budget.charge(65_536), let mapping = pool.take(65_536) {
                    pool.give(mapping)
                }
            }
        }
        pool.drain()
        #expect(budget.usedSize == 0 && budget.pooledSize == 0)
    }

    @Test("threads that take and give at once see clean memory of their own")
    func threads() {
        let (pool, budget) = MappingPoolTests.pool(2 << 20)
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            for step in 0..<150 {
                let size = 65_536 * (1 + (thread + step) % 6)
                guard budget.charge(UInt64(size)), var mapping = pool.take(size) else {
                    Issue.record("no memory")
                    return
                }
                #expect(firstNonZero(MappingPoolTests.bytes(mapping)) == nil)
                memset(mapping.base, Int32(thread + 1), size)
                mapping.dirtySize = size
                pool.give(mapping)
            }
        }
        pool.drain()
        #expect(budget.usedSize == 0 && budget.pooledSize == 0)
    }

    @Test("mappings come back in the middle of a sweep of small memory, which is waited for too")
    func meanwhile() throws {
        let budget = MemoryBudget(limits: SharedLimits(Limits()))
        let blocks = BlockPool(isPlain: false)
        let pool = MappingPool(budget: budget, cleanSizeMax: 0, blocks: blocks, restTime: 0)
        let count = 2_000_000
        var held: [UnsafeMutableRawPointer] = []
        var cameFirst = false
        // A machine that stops the test for a moment may hide what comes first.
        for _ in 0..<5 where !cameFirst {
            while held.count < count { held.append(try #require(blocks.take(8))) }
            while let block = held.popLast() { blocks.give(block, 8) }
            pool.noteScattered()
            pool.gather()
            let trim = pool.hurry()
            #expect(budget.charge(4 << 20))
            var mapping = try #require(pool.take(4 << 20))
            mapping.dirtySize = mapping.capacity
            pool.give(mapping)
            #expect(eventually { pool.pendingSize == 0 })
            cameFirst = !pool.hasDone(trim)
            #expect(eventually { pool.hasDone(trim) })
        }
        #expect(cameFirst)
        #expect(budget.usedSize == 0)
    }

    @Test("mappings of 2 MiB and more are aligned for huge pages and of their exact capacity")
    func huge() throws {
        let (pool, budget) = MappingPoolTests.pool(0)
        for size in [2 << 20, (2 << 20) + 1, 10_000_000] {
            #expect(budget.charge(UInt64(pool.capacity(for: size))))
            var mapping = try #require(pool.take(size))
            #expect(Int(bitPattern: mapping.base) % (2 << 20) == 0)
            memset(mapping.base, 1, mapping.capacity)
            mapping.dirtySize = mapping.capacity
            pool.give(mapping)
        }
        pool.drain()
        #expect(budget.usedSize == 0)
    }
}

@Suite("Memory budget")
struct MemoryBudgetTests {
    @Test("what is over the limit is refused and not counted, warm memory included")
    func limits() {
        var limits = Limits()
        limits.memorySizeMax = 1000
        limits.allocationsMax = 2
        let budget = MemoryBudget(limits: SharedLimits(limits))
        #expect(budget.charge(600))
        #expect(!budget.charge(401))
        #expect(budget.usedSize == 600)
        #expect(budget.charge(400))
        budget.pool(400)
        #expect(budget.usedSize == 600 && budget.pooledSize == 400)
        #expect(!budget.charge(1))
        budget.unpool(400)
        #expect(budget.charge(400))
        budget.correct(from: 400, to: 100)
        #expect(budget.usedSize == 700)
        budget.correct(from: 100, to: 300)
        #expect(budget.usedSize == 900)
        budget.uncharge(900)
        #expect(budget.usedSize == 0)
        #expect(budget.addAllocation() && budget.addAllocation())
        #expect(!budget.addAllocation())
        #expect(budget.allocationCount == 2)
        budget.removeAllocation()
        #expect(budget.addAllocation())
    }
}
