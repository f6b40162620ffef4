import CFaults
import CSmalloc
import Foundation
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

extension MappingPool {
    /// Kernel mappings that are not a record's own.
    var sharedMappings: UInt64 {
        UInt64(arenas.regionCount + blocks.slabs.mappedSize / Region.size)
    }

    /// A record with its memory, charged as the registry does it.
    func take(_ size: Int, unwiped: Bool = false) -> StorageRecord? {
        guard budget.charge(UInt64(capacity(for: size)) + MappingPool.recordCharge),
            let record = makeRecord(size, owner: 0)
        else { return nil }
        return record.kind != .none || attach(record, unwiped: unwiped, size: UInt64(size))
            ? record : nil
    }
}

extension StorageRecord {
    var bytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: base, count: capacity)
    }

    /// Writes to the first bytes.
    func soil(_ size: Int, _ byte: Int32 = 0xFF) {
        if let base { memset(base, byte, size) }
        writtenSize = max(writtenSize, size)
    }
}

@Suite("Mapping pool", .timed)
struct MappingPoolTests {
    private static func pool(
        _ cleanSizeMax: Int, warmTime: UInt64 = MappingPool.warmTime, isStarted: Bool = true
    ) -> (MappingPool, MemoryBudget) {
        let budget = MemoryBudget(limits: SharedLimits(Limits()))
        let pool = MappingPool(budget: budget, cleanSizeMax: cleanSizeMax, warmTime: warmTime)
        if isStarted { #expect(pool.start()) }
        return (pool, budget)
    }

    @Test("a capacity is the size in whole pages")
    func capacity() {
        let (pool, _) = MappingPoolTests.pool(0)
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        #expect(pool.capacity(for: 65_536) == 65_536)
        #expect(pool.capacity(for: 65_537) == 65_536 + page)
        #expect(pool.capacity(for: 65_536 + page) == 65_536 + page)
    }

    @Test("memory given back soiled is clean when it is handed out again")
    func wiped() throws {
        let (pool, budget) = MappingPoolTests.pool(64 << 20)
        defer { pool.stop() }
        for size in [65_536, 200_000, 262_144, 300_000, 3 << 20] {
            for writtenSize in [0, 1, size / 2, size] {
                let record = try #require(pool.take(size))
                #expect(firstNonZero(record.bytes) == nil)
                let base = record.base
                record.soil(writtenSize)
                pool.give(record)
                #expect(eventually { pool.pendingSize == 0 })
                #expect(budget.usedSize == MappingPool.recordCharge)
                #expect(pool.warmSize > 0)
                #expect(budget.pooledSize == UInt64(pool.warmSize))
                let again = try #require(pool.take(size))
                #expect(again.base == base)
                #expect(again.writtenSize == 0)
                #expect(firstNonZero(again.bytes) == nil)
                pool.give(again)
                #expect(eventually { pool.pendingSize == 0 })
                pool.checkInvariants()
            }
            pool.drain()
            #expect(budget.usedSize == 0 && budget.pooledSize == 0 && pool.warmSize == 0)
            #expect(budget.mappingCount == pool.sharedMappings)
        }
    }

    @Test("warm memory stays within its bounds of size and number, and every byte is accounted for")
    func bounded() throws {
        let (pool, budget) = MappingPoolTests.pool(1 << 20)
        defer { pool.stop() }
        var random = SplitMix(for: "mapping pool")
        var held: [StorageRecord] = []
        for _ in 0..<3000 {
            if held.count < 20, random.next() % 2 == 0 {
                let size = 65_536 + Int(random.next() % 400_000)
                let record = try #require(pool.take(size))
                #expect(record.capacity == pool.capacity(for: size))
                #expect(record.base?.load(as: UInt64.self) == 0)
                record.soil(Int(random.next() % UInt64(record.capacity)))
                held.append(record)
            } else if !held.isEmpty {
                pool.give(held.remove(at: Int(random.next() % UInt64(held.count))))
            }
            #expect(pool.warmSize <= 1 << 20)
            pool.checkInvariants()
        }
        for record in held { pool.give(record) }
        pool.drain()
        #expect(budget.usedSize == 0)
        #expect(budget.pooledSize == 0)
        #expect(pool.warmSize == 0 && pool.pendingSize == 0)
        #expect(budget.mappingCount == pool.sharedMappings)
    }

    @Test("warm memory that is not asked for goes back in time, and not before")
    func cooled() throws {
        for warmTime in [MappingPool.warmTime, 1] {
            let (pool, budget) = MappingPoolTests.pool(64 << 20, warmTime: warmTime)
            defer { pool.stop() }
            for size in [100_000, 1_000_000] {
                let record = try #require(pool.take(size))
                record.soil(size)
                pool.give(record)
            }
            #expect(eventually { pool.pendingSize == 0 })
            let warm = pool.warmSize
            #expect(warm > 1_000_000)
            pool.returnMemory()
            #expect(eventually { pool.pendingSize == 0 })
            #expect(pool.warmSize == (warmTime == 1 ? 0 : warm))
            #expect(budget.pooledSize == UInt64(pool.warmSize))
            pool.drain()
            #expect(budget.usedSize == 0)
        }
    }

    @Test("what is taken before it was wiped does not stand for what is waited for")
    func order() throws {
        let (pool, budget) = MappingPoolTests.pool(64 << 20, isStarted: false)
        for size in [8 << 20, 1 << 20] {
            let record = try #require(pool.take(size))
            record.soil(size)
            pool.give(record)
        }
        let number = pool.beginDrain()
        let used = try #require(pool.take(1 << 20, unwiped: true))
        #expect(used.writtenSize == 1 << 20)
        #expect(pool.pendingSize == 8 << 20)
        #expect(!pool.isDrained(number))
        let calls = Locked<[Int]>([])
        pool.onDrained(number) { calls.withLock { $0.append(1) } }
        #expect(calls.withLock { $0 } == [])
        pool.reclaimAll()
        #expect(pool.isDrained(number) && pool.pendingSize == 0)
        #expect(calls.withLock { $0 } == [1])
        // What is waited for is not kept warm; what comes later is.
        #expect(pool.warmSize == 0)
        pool.give(used)
        #expect(pool.isDrained(number))
        pool.onDrained(number) { calls.withLock { $0.append(2) } }
        #expect(calls.withLock { $0 } == [1, 2])
        pool.reclaimAll()
        #expect(pool.warmSize == 1 << 20)
        pool.checkInvariants()
        pool.drain()
        #expect(budget.usedSize == 0)
    }

    @Test("many waiters are called once each, when what they wait for is free")
    func waiters() throws {
        let (pool, budget) = MappingPoolTests.pool(64 << 20)
        defer { pool.stop() }
        let called = Locked<[Int]>([])
        let count = 500
        for index in 0..<count {
            if index % 5 == 0 {
                let record = try #require(pool.take(300_000))
                record.soil(300_000)
                pool.give(record)
            }
            pool.onDrained(pool.beginDrain()) { called.withLock { $0.append(index) } }
        }
        #expect(eventually { called.withLock { $0.count } == count })
        #expect(called.withLock { Set($0).count } == count)
        pool.drain()
        #expect(budget.usedSize == 0)
    }

    @Test("jobs are done in steps, among the memory that comes back, and waited for")
    func jobs() throws {
        let (pool, _) = MappingPoolTests.pool(0, isStarted: false)
        var order: [String] = []
        for name in ["a", "b"] {
            var left = 3
            pool.enqueue(
                ReclaimJob {
                    order.append(name)
                    left -= 1
                    return left == 0
                })
        }
        let number = pool.beginDrain()
        let record = try #require(pool.take(4 << 20))
        record.soil(4 << 20)
        pool.give(record)
        #expect(!pool.isDrained(number))
        pool.reclaimAll()
        #expect(order == ["a", "a", "a", "b", "b", "b"])
        #expect(pool.isDrained(number) && pool.pendingSize == 0)
    }

    @Test("what becomes warm while others are looked at is younger than now")
    func young() {
        let (pool, budget) = MappingPoolTests.pool(64 << 20)
        defer { pool.stop() }
        DispatchQueue.concurrentPerform(iterations: 3) { thread in
            for _ in 0..<Scale.count(100_000) {
                if thread == 0 {
                    pool.returnMemory()
                } else if let record = pool.take(65_536) {
                    pool.give(record)
                }
            }
        }
        pool.drain()
        #expect(budget.usedSize == 0 && budget.pooledSize == 0)
    }

    @Test("threads that take and give at once see clean memory of their own")
    func threads() {
        let (pool, budget) = MappingPoolTests.pool(2 << 20)
        defer { pool.stop() }
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            for step in 0..<150 {
                let size = 65_536 * (1 + (thread + step) % 6)
                guard let record = pool.take(size) else {
                    Issue.record("no memory")
                    return
                }
                #expect(firstNonZero(record.bytes) == nil)
                record.soil(size, Int32(thread + 1))
                pool.give(record)
            }
        }
        pool.drain()
        #expect(budget.usedSize == 0 && budget.pooledSize == 0)
    }

    @Test("memory comes back in the middle of a sweep of small memory, which is waited for too")
    func meanwhile() throws {
        let budget = MemoryBudget(limits: SharedLimits(Limits()))
        let blocks = BlockPool(isPlain: false)
        let pool = MappingPool(budget: budget, cleanSizeMax: 0, blocks: blocks)
        #expect(pool.start())
        defer { pool.stop() }
        let count = 2_000_000
        var held: [UnsafeMutableRawPointer] = []
        // A machine that stops the test for a moment may hide what comes first.
        let comesFirst = try mostly { _ in
            while held.count < count { held.append(try #require(blocks.take(8))) }
            while let block = held.popLast() { blocks.give(block, 8) }
            pool.noteFragmented()
            let sweep = pool.beginDrain()
            let record = try #require(pool.take(4 << 20))
            record.soil(4 << 20)
            pool.give(record)
            #expect(eventually { pool.pendingSize == 0 })
            let cameFirst = !pool.isDrained(sweep)
            #expect(eventually { pool.isDrained(sweep) })
            return cameFirst
        }
        #expect(comesFirst)
        #expect(budget.usedSize == 0)
    }

    @Test("what the kernel refuses to take back stays charged, is out of reach, and is tried again")
    func refused() throws {
        for (size, kind) in [
            (1 << 20, SMALLOC_FAULT_ADVISE), (4 << 20, SMALLOC_FAULT_UNMAP),
            (20 << 20, SMALLOC_FAULT_UNMAP), (65_536, SMALLOC_FAULT_ADVISE),
        ] {
            for cut in [0, 8192] {
                let (pool, budget) = MappingPoolTests.pool(0, isStarted: false)
                let record = try #require(pool.take(size))
                let base = try #require(record.base)
                record.soil(size)
                var tail: Mapping?
                if cut > 0 {
                    record.capacity = cut
                    record.cut(to: cut)
                    tail = Mapping(base: base + cut, capacity: size - cut, writtenSize: size - cut)
                }
                faults_arm(Int32(kind), 0, 1000, false)
                if let tail { pool.give(forGood: tail) }
                pool.give(record)
                pool.reclaimAll()
                #expect(faults_disarm() > 0)
                #expect(pool.pendingSize == 0 && pool.refused.count > 0)
                // Of a mapping the pages may be gone; the addresses are not.
                let isSlot = size <= Arenas.sizeMax
                #expect(budget.usedSize >= (isSlot ? UInt64(size) : 0) + MappingPool.recordCharge)
                #expect(budget.mappingCount > 0)
                if let other = pool.take(size) {
                    #expect(other.base != base)
                    pool.give(other)
                }
                pool.returnMemory()
                pool.reclaimAll()
                #expect(pool.refused.count == 0, "\(size) \(cut)")
                #expect(budget.usedSize == 0, "\(size) \(cut)")
                #expect(budget.mappingCount == pool.sharedMappings)
                pool.checkInvariants()
            }
        }
    }

    @Test("a mapping that is unmapped in part is tried again where it is left, and nowhere else")
    func refusedHalfway() throws {
        let (pool, budget) = MappingPoolTests.pool(0, isStarted: false)
        let record = try #require(pool.take(40 << 20))
        let base = try #require(record.base)
        record.soil(40 << 20)
        faults_arm(Int32(SMALLOC_FAULT_UNMAP), 2, 1, false)
        pool.give(record)
        pool.reclaimAll()
        #expect(faults_disarm() == 1)
        #expect(record.madeSize == 24 << 20 && record.capacity == 0)
        #expect(budget.usedSize == MappingPool.recordCharge)
        #expect(budget.mappingCount == pool.sharedMappings + 1)
        #expect(base.load(as: UInt8.self) == 0)
        pool.returnMemory()
        pool.reclaimAll()
        #expect(budget.usedSize == 0 && budget.mappingCount == pool.sharedMappings)
    }

    @Test("a record or memory that is not to be had is an answer, and leaves nothing behind")
    func noMemory() throws {
        let (pool, budget) = MappingPoolTests.pool(0, isStarted: false)
        let charge = UInt64(4 << 20) + MappingPool.recordCharge
        #expect(budget.charge(charge))
        let record = try #require(pool.makeRecord(4 << 20, owner: 7))
        #expect(record.owner == 7 && record.kind == .none && budget.mappingCount > 0)
        let extent = Extent(offset: 5, size: 10)
        faults_arm(Int32(SMALLOC_FAULT_MAP), 0, 1, false)
        let access = record.access(extent, .modify, length: 4 << 20)
        #expect(faults_disarm() == 1)
        guard case .failed = access else { return #expect(Bool(false), "\(access)") }
        record.checkInvariants(length: 4 << 20)
        guard case .here(let start) = record.access(extent, .modify, length: 4 << 20) else {
            return #expect(Bool(false))
        }
        #expect(start == record.base! + 5 && record.writtenSize == 15)
        record.checkInvariants(length: 4 << 20)
        pool.give(record)
        pool.drain()
        #expect(budget.usedSize == 0)
        // What is too large to come with the first access comes at once, or not at all.
        #expect(budget.charge(1 << 30))
        faults_arm(Int32(SMALLOC_FAULT_MAP), 0, 1, false)
        #expect(pool.makeRecord(1 << 30, owner: 0) == nil)
        #expect(faults_disarm() == 1)
        budget.uncharge(1 << 30)
        #expect(budget.usedSize == 0 && budget.mappingCount == pool.sharedMappings)
    }

    @Test("mappings of 2 MiB and more are aligned for huge pages and of their exact capacity")
    func huge() throws {
        let (pool, budget) = MappingPoolTests.pool(0)
        for size in [2 << 20, (2 << 20) + 1, 10_000_000] {
            let record = try #require(pool.take(size))
            #expect(record.kind == .mapping && record.capacity == pool.capacity(for: size))
            #expect(record.base.map { Int(bitPattern: $0) % (2 << 20) } == 0)
            record.soil(record.capacity)
            pool.give(record)
        }
        pool.drain()
        #expect(budget.usedSize == 0)
        pool.stop()
    }
}

@Suite("Memory budget", .timed)
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

    @Test("kernel mappings over the limit are refused and not counted")
    func mappings() {
        let budget = MemoryBudget(limits: SharedLimits(Limits()), mappingsMax: 5)
        #expect(budget.chargeMappings(3) && !budget.chargeMappings(3) && budget.chargeMappings(2))
        #expect(budget.mappingCount == 5)
        budget.unchargeMappings(5)
        #expect(budget.mappingCount == 0)
        #expect(SystemMemory.mappingsMax > 1000)
        #expect(SystemMemory.numberInFile("/proc/no such file") == nil)
    }
}
