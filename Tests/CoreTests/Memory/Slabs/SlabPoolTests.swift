import CFaults
import CSmalloc
import Foundation
import Glibc
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

extension SlabPool {
    fileprivate func give(_ slabs: [Slab], pause: () -> Void = {}) {
        for slab in slabs {
            give(slab)
            pause()
        }
    }
}

@Suite("Slab pool", .timed)
struct SlabPoolTests {
    /// Whether the kernel may make a huge page of a region: hg yes, nh no, else as it likes.
    private static func advice(_ region: Region) throws -> String {
        let address = UInt(bitPattern: region.start)
        var isInside = false
        // As a whole: what comes at once is its first part.
        let smaps = try FileHandle(forReadingFrom: URL(fileURLWithPath: "/proc/self/smaps"))
        let text = String(decoding: try smaps.readToEnd() ?? Data(), as: UTF8.self)
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            let ends = words[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
            if ends.count == 2 { isInside = (ends[0]..<ends[1]).contains(address) }
            if isInside, words[0] == "VmFlags:" {
                return words.contains("hg") ? "hg" : words.contains("nh") ? "nh" : ""
            }
        }
        return "none"
    }

    private static func isZeros(_ slab: Slab) -> Bool {
        firstNonZero(UnsafeMutableRawBufferPointer(start: slab.start, count: slab.size)) == nil
    }

    private static let takesAdvice: Bool = {
        let pool = SlabPool()
        let slabs = (0..<2 * Region.slabCount).compactMap { _ in pool.take() }
        defer { pool.give(slabs) }
        return (try? slabs.last.map { try advice($0.region) }) == "hg"
    }()

    @Test(
        "a region is no huge page while slabs of it are given back, and may be one after that",
        .enabled(if: takesAdvice, "the kernel takes no advice on huge pages"))
    func advice() throws {
        let pool = SlabPool()
        let slabs = try (0..<3 * Region.slabCount).map { _ in try #require(pool.take()) }
        let regions = stride(from: 0, to: slabs.count, by: Region.slabCount).map {
            slabs[$0].region
        }
        #expect(try regions.map(SlabPoolTests.advice) == ["hg", "hg", "hg"])
        let gone = Array(slabs[40..<43])
        pool.give(gone)
        #expect(try regions.map(SlabPoolTests.advice) == ["hg", "nh", "hg"])
        var again = try (0..<2).map { _ in try #require(pool.take()) }
        #expect(try SlabPoolTests.advice(regions[1]) == "nh")
        again.append(try #require(pool.take()))
        #expect(try regions.map(SlabPoolTests.advice) == ["hg", "hg", "hg"])
        #expect(Set(again.map(\.start)) == Set(gone.map(\.start)))
        pool.give(slabs)
        #expect(pool.mappedSize == 0 && pool.cutSize == 0)
    }

    @Test("only so many regions are plain, and what is given back of others stays counted")
    func plainMax() throws {
        let pool = SlabPool(plainMax: 2)
        let slabs = try (0..<4 * Region.slabCount).map { _ in try #require(pool.take()) }
        let all = 4 * Slab.size(Region.allSlabs)
        #expect(pool.cutSize == all)
        let gone = (0..<4).map { slabs[$0 * Region.slabCount + 7] }
        pool.give(gone)
        #expect(pool.usedCount == slabs.count - 4)
        #expect(pool.cutSize == all - 2 * Slab.sizeMax)
        // Room for one more, of which two are given back by then.
        pool.give([slabs[8]])
        let first = try #require(pool.take())
        let more = try (0..<4).map { _ in try #require(pool.take()) }
        #expect(Set((more + [first]).map(\.start)) == Set((gone + [slabs[8]]).map(\.start)))
        #expect(pool.cutSize == all)
        // As a run they are counted by somebody else.
        pool.give([slabs[3], slabs[40], slabs[70], slabs[71]])
        #expect(pool.cutSize == all - 2 * Slab.sizeMax)
        let run = try #require(pool.takeRun(2))
        #expect(run == slabs[70].start)
        #expect(pool.cutSize == all - 4 * Slab.sizeMax)
        pool.giveRun(run, 2)
        let away = [3, 40, 70, 71]
        pool.give(slabs.indices.filter { !away.contains($0) }.map { slabs[$0] })
        #expect(pool.cutSize == 0 && pool.usedCount == 0 && pool.mappedSize == 0)
    }

    @Test("slabs and runs are zeros, apart, and counted, whatever else comes and goes")
    func model() throws {
        var random = SplitMix(for: "slab pool")
        let pool = SlabPool(plainMax: 3)
        var slabs: [Slab] = []
        var runs: [(start: UnsafeMutableRawPointer, count: Int)] = []
        var owned: Set<UnsafeMutableRawPointer> = []
        for step in 0..<Scale.count(1500) {
            let wanted = step / 300 % 2 == 0 ? 300 : 5
            if slabs.count < wanted, random.next() % 4 != 0 {
                let slab = try #require(pool.take())
                #expect(SlabPoolTests.isZeros(slab) && owned.insert(slab.start).inserted)
                memset(slab.start, 0xFF, slab.size)
                slabs.append(slab)
            } else if runs.count < 10, random.next() % 2 == 0 {
                let count = 1 + Int(random.next() % 30)
                let start = try #require(pool.takeRun(count))
                for index in 0..<count {
                    let slab = Slab(of: start + index * Slab.sizeMax)
                    #expect(SlabPoolTests.isZeros(slab) && owned.insert(slab.start).inserted)
                    #expect(slab.index == Slab(of: start).index + index && slab.index > 0)
                }
                memset(start, 0xFF, count * Slab.sizeMax)
                runs.append((start, count))
            } else if let run = runs.popLast() {
                for index in 0..<run.count { owned.remove(run.start + index * Slab.sizeMax) }
                pool.giveRun(run.start, run.count)
                runs.shuffle(using: &random)
            } else {
                slabs.shuffle(using: &random)
                let gone = Array(slabs.suffix(20))
                slabs.removeLast(gone.count)
                for slab in gone { owned.remove(slab.start) }
                var taken: [Slab] = []
                pool.give(gone) {
                    // Others may have slabs between any two that are given back.
                    if taken.isEmpty, let slab = pool.take() { taken.append(slab) }
                }
                for slab in taken {
                    #expect(SlabPoolTests.isZeros(slab) && owned.insert(slab.start).inserted)
                }
                slabs += taken
            }
            #expect(pool.usedCount == slabs.count + runs.reduce(0) { $0 + $1.count })
            #expect(pool.cutSize >= slabs.reduce(0) { $0 + $1.size })
            #expect(pool.cutSize <= pool.mappedSize)
            pool.checkInvariants()
        }
        for run in runs { pool.giveRun(run.start, run.count) }
        pool.give(slabs + [try #require(pool.take())])
        #expect(pool.usedCount == 0 && pool.cutSize == 0)
    }

    @Test("a slab that the kernel does not take back counts as long as it is in memory")
    func refused() throws {
        let budget = MemoryBudget(limits: SharedLimits(Limits()))
        let pool = SlabPool()
        pool.budget = budget
        var slabs = try (0..<3 * Region.slabCount).map { _ in try #require(pool.take()) }
        for slab in slabs { memset(slab.start, 0xFF, slab.size) }
        let all = pool.cutSize
        let gone = Array(slabs[40..<45])
        slabs.removeSubrange(40..<45)
        pool.give(Array(gone.prefix(2)))
        // The first call is the advice on huge pages, for a region that is plain already.
        faults_arm(Int32(SMALLOC_FAULT_ADVISE), 0, 1, false)
        pool.give(gone[2])
        #expect(faults_disarm() == 1)
        pool.give(Array(gone.suffix(2)))
        #expect(pool.cutSize == all)
        pool.checkInvariants()
        for _ in gone {
            let slab = try #require(pool.take())
            #expect(SlabPoolTests.isZeros(slab))
            slabs.append(slab)
        }
        #expect(pool.cutSize == all)
        pool.give(slabs)
        #expect(pool.cutSize == 0 && pool.mappedSize == 0 && budget.mappingCount == 0)
        faults_arm(Int32(SMALLOC_FAULT_MAP), 0, 1, false)
        #expect(pool.take() == nil)
        #expect(faults_disarm() == 1 && budget.mappingCount == 0)
    }

    @Test("a run takes slabs in a row, of any region that has them, but not a smaller first one")
    func runs() throws {
        let pool = SlabPool()
        let slabs = try (0..<Region.slabCount).map { _ in try #require(pool.take()) }
        #expect(slabs.map(\.index) == Array(0..<Region.slabCount))
        #expect(slabs[0].size == 60 << 10 && slabs[1].size == 64 << 10)
        pool.give([0, 1, 2, 4, 5, 6, 30, 31].map { slabs[$0] })
        #expect(pool.takeRun(3) == slabs[4].start)
        #expect(pool.takeRun(2) == slabs[1].start)
        #expect(pool.takeRun(2) == slabs[30].start)
        let elsewhere = try #require(pool.takeRun(1))
        #expect(Slab(of: elsewhere).region.start != slabs[0].region.start)
    }
}
