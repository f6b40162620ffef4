import Glibc
import Testing
import TestSupport

import SmallocSystem
import SmallocWire
@testable import SmallocCore

@Suite("Yielding", .timed)
struct YieldingTests {
    @Test("a thread that gives way has a niceness of ten more than the others, however often")
    func givesWay() {
        let ours = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
        let box = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
        defer { box.deallocate() }
        var thread = pthread_t()
        let failed = pthread_create(
            &thread, nil,
            { box in
                Yielding.giveWay()
                Yielding.giveWay()
                box?.assumingMemoryBound(to: Int32.self).pointee = getpriority(
                    __priority_which_t(PRIO_PROCESS.rawValue), 0)
                return nil
            }, box)
        #expect(failed == 0)
        pthread_join(thread, nil)
        #expect(box.pointee == min(ours + 10, 19))
        #expect(getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0) == ours)
    }

    /// A clock, and somebody who takes the processor for a while whenever it is offered.
    private final class Other {
        var now: UInt64 = 5
        var takes: UInt64
        var offers = 0

        init(takes: UInt64) { self.takes = takes }

        var yielding: Yielding {
            Yielding(now: { self.now }) {
                self.offers += 1
                self.now += self.takes
            }
        }
    }

    @Test("a loop with a few requests is offered every turn")
    func offers() {
        let loop = Other(takes: Yielding.contended)
        var yielding = loop.yielding
        for _ in 0..<100 { yielding.yieldIfWorthIt() }
        #expect(loop.offers == 100)
    }

    @Test("who computes is offered a turn seldom, and takes one part in twenty of the time")
    func rests() {
        let hog = Other(takes: 12 * Yielding.contended)
        var yielding = hog.yielding
        yielding.yieldIfWorthIt()
        #expect(hog.offers == 1)
        hog.now += hog.takes * Yielding.restFactor - 1
        yielding.yieldIfWorthIt()
        #expect(hog.offers == 1)
        hog.now += 1
        yielding.yieldIfWorthIt()
        #expect(hog.offers == 2)
    }

    @Test("who was stopped for a minute rests for a second")
    func restsForLong() {
        let other = Other(takes: 60_000_000_000)
        var yielding = other.yielding
        yielding.yieldIfWorthIt()
        other.now += Yielding.restMax - 1
        yielding.yieldIfWorthIt()
        #expect(other.offers == 1)
        other.now += 1
        yielding.yieldIfWorthIt()
        #expect(other.offers == 2)
    }

    @Test("work offers its turn after each step", arguments: [false, true])
    func work(isFill: Bool) throws {
        let other = Other(takes: 10)
        let size = 5 * Yielding.stepSize + 64
        let pool = MappingPool(
            budget: MemoryBudget(limits: SharedLimits(Limits())), cleanSizeMax: 0)
        let allocation = try #require(
            Allocation.make(
                name: UnsafeRawBufferPointer(start: nil, count: 0), type: .uint8, size: 2 * size,
                created: 0, owner: 0, mappings: pool))
        let pattern = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 8)
        defer { pattern.deallocate() }
        pattern.copyBytes(from: 0..<64)
        let work = Work(
            kind: isFill
                ? .fill(
                    dest: Extent(offset: 0, size: size),
                    pattern: Pattern(UnsafeRawBufferPointer(pattern)))
                : .copy(
                    dest: Extent(offset: 0, size: size), source: Extent(offset: size, size: size)),
            size: size, allocations: (allocation, isFill ? nil : allocation),
            yielding: other.yielding)
        #expect(work.run())
        #expect(other.offers == 6)
        withExtendedLifetime(pool) {}
    }

    @Test("memory is wiped and unmapped in steps")
    func reclaiming() throws {
        let size = 20 << 20
        let budget = MemoryBudget(limits: SharedLimits(Limits()))
        let pool = MappingPool(budget: budget, cleanSizeMax: 0)
        let record = try #require(pool.take(size))
        let base = try #require(record.base)
        record.soil(3 * Yielding.stepSize + 1)
        var steps = 0
        record.wipe { steps += 1 }
        #expect(steps == 4)
        #expect(record.writtenSize == 0)
        let wiped = UnsafeRawBufferPointer(start: base, count: 4 * Yielding.stepSize)
        #expect(wiped.allSatisfy { $0 == 0 })
        steps = 0
        let isGone = pool.release(record) { steps += 1 }
        #expect(isGone && steps == 3 && budget.usedSize == 0)
        #expect(budget.mappingCount == pool.sharedMappings)
    }
}
