// Work in slices gives what it would give at once, wherever a slice ends.

import Foundation
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Work in slices", .timed)
struct WorkTests {
    private static func memory(_ size: Int) -> UnsafeMutableRawBufferPointer {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        // Repeats after a prime: a mistake of any round number of bytes shows.
        let period = 65_537
        for index in 0..<min(size, period) {
            memory[index] = UInt8(truncatingIfNeeded: (index &* 2_654_435_761) >> 13)
        }
        for start in stride(from: period, to: size, by: period) {
            memcpy(memory.baseAddress! + start, memory.baseAddress!, min(period, size - start))
        }
        return memory
    }

    /// Runs work to its end, and says in how many slices.
    private static func slices(_ work: Work) -> Int {
        var count = 1
        while !work.run() {
            count += 1
            guard count < 1_000_000 else { break }
        }
        return count
    }

    /// Keeps the block of `allocation`.
    private let pool: MappingPool
    /// An allocation whose bytes are a test's own memory; never given back.
    private let allocation: Allocation

    init() throws {
        pool = MappingPool(budget: MemoryBudget(limits: SharedLimits(Limits())), cleanSizeMax: 0)
        allocation = try #require(
            Allocation.make(
                name: UnsafeRawBufferPointer(start: nil, count: 0), type: .uint8, size: 1 << 20,
                created: 0, owner: 0, mappings: pool))
    }

    private func allocation(of memory: UnsafeMutableRawBufferPointer) -> Allocation {
        allocation.record?.attach(
            memory.baseAddress!, .mapping, madeSize: 1 << 30, writtenSize: 0)
        return allocation
    }

    private func copy(
        _ memory: UnsafeMutableRawBufferPointer, from: Int, to: Int, _ size: Int, sliceSize: Int
    ) -> Work {
        let allocation = allocation(of: memory)
        return Work(
            kind: .copy(
                dest: Extent(offset: to, size: size), source: Extent(offset: from, size: size)),
            size: size, allocations: (allocation, allocation), sliceSize: sliceSize)
    }

    @Test("copies of every overlap and size are those of memmove, however they are sliced")
    func overlaps() {
        let room = 26
        let memory = WorkTests.memory(room)
        defer { memory.deallocate() }
        let before = Array(memory)
        var failures: [String] = []
        for sliceSize in [1, 2, 3, 7, 8, 64] {
            for from in 0..<room {
                for to in 0..<room {
                    for size in 1..<room - max(from, to) + 1 {
                        memory.copyBytes(from: before)
                        let work = copy(
                            memory, from: from, to: to, size, sliceSize: sliceSize)
                        let slices = WorkTests.slices(work)
                        var expected = before
                        expected.replaceSubrange(to..<to + size, with: before[from..<from + size])
                        let wanted = from == to ? 1 : (size + sliceSize - 1) / sliceSize
                        if slices != wanted || !memory.elementsEqual(expected) {
                            failures.append("\(sliceSize): \(size) from \(from) to \(to)")
                        }
                    }
                }
            }
        }
        #expect(failures.isEmpty, "\(failures.prefix(5))")
    }

    @Test(
        "copies that go past the caches are right where they touch and overlap",
        arguments: [
            Thresholds.workSliceSize, Thresholds.workSliceSize + 1, Thresholds.workSliceSize - 1, 1,
            63, 64, 4097, 5 << 20,
            Yielding.stepSize, Yielding.stepSize + 1, Yielding.stepSize - 1,
        ])
    func streamed(distance: Int) {
        let size = Thresholds.streamedSizeMin + 1_000_003
        let memory = WorkTests.memory(size + distance + 40)
        defer { memory.deallocate() }
        let before = WorkTests.memory(size + distance + 40)
        defer { before.deallocate() }
        // Each at an address of its own, so that neither end is aligned.
        for (from, to) in [(1, 1 + distance), (distance + 17, 17)] {
            memory.copyMemory(from: UnsafeRawBufferPointer(before))
            let work = copy(
                memory, from: from, to: to, size, sliceSize: Thresholds.workSliceSize)
            #expect(WorkTests.slices(work) == 2)
            let base = before.baseAddress!
            let (now, end) = (memory.baseAddress!, memory.count)
            #expect(memcmp(now, base, to) == 0, "before, \(from) to \(to)")
            #expect(memcmp(now + to, base + from, size) == 0, "copied, \(from) to \(to)")
            #expect(
                memcmp(now + to + size, base + to + size, end - to - size) == 0,
                "behind, \(from) to \(to)")
        }
    }

    @Test(
        "copies of several steps are right where they overlap",
        arguments: [1, 64, Yielding.stepSize - 1, Yielding.stepSize, 300_000])
    func steps(distance: Int) {
        let size = 3 * Yielding.stepSize + 77
        let before = WorkTests.memory(size + distance)
        defer { before.deallocate() }
        let memory = WorkTests.memory(size + distance)
        defer { memory.deallocate() }
        for (from, to) in [(0, distance), (distance, 0)] {
            memory.copyMemory(from: UnsafeRawBufferPointer(before))
            let work = copy(
                memory, from: from, to: to, size, sliceSize: Thresholds.workSliceSize)
            #expect(work.run())
            let (now, base) = (memory.baseAddress!, before.baseAddress!)
            #expect(memcmp(now + to, base + from, size) == 0, "copied, \(from) to \(to)")
            let kept = to == 0 ? size : 0
            #expect(memcmp(now + kept, base + kept, distance) == 0, "beside, \(from) to \(to)")
        }
    }

    @Test("a copy onto itself is done at once")
    func same() {
        let memory = WorkTests.memory(1000)
        defer { memory.deallocate() }
        let work = copy(memory, from: 3, to: 3, 900, sliceSize: 10)
        #expect(work.run())
    }

    @Test("fills repeat their pattern across slices, for every length of pattern")
    func fills() {
        for length in 1...Limits.fillPatternSizeMax {
            let pattern = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 8)
            defer { pattern.deallocate() }
            for index in 0..<length { pattern[index] = UInt8(index + 1) }
            for sliceSize in [64, 65, 200, 4096] {
                for repeats in [1, 2, 3, 64, 100] {
                    let size = length * repeats
                    let memory = WorkTests.memory(size + 2)
                    defer { memory.deallocate() }
                    let (first, last) = (memory[0], memory[size + 1])
                    let work = Work(
                        kind: .fill(
                            dest: Extent(offset: 1, size: size),
                            pattern: Pattern(UnsafeRawBufferPointer(pattern))), size: size,
                        allocations: (allocation(of: memory), nil), sliceSize: sliceSize)
                    let slices = WorkTests.slices(work)
                    let whole = (sliceSize + length - 1) / length * length
                    #expect(slices == (size + whole - 1) / whole)
                    let isRight = (0..<size).allSatisfy {
                        memory[$0 + 1] == UInt8($0 % length + 1)
                    }
                    #expect(isRight && memory[0] == first && memory[size + 1] == last)
                }
            }
        }
    }

    @Test(
        "fills that are done at once repeat their pattern to the last byte",
        arguments: [1, 3, 5, 7, 24, 63, 64])
    func largeFills(length: Int) {
        let pattern = (0..<length).map { UInt8($0 + 1) }
        for about in [200 << 10, 500_000, 1 << 20] {
            let size = about / length * length
            let peer = TestDaemon().greeted()
            let handle = peer.call(.alloc, type: 2, size: UInt64(size)).header.handle
            #expect(
                peer.call(.fill, handle: handle, size: UInt64(size), payload: pattern).status == .ok
            )
            let read = peer.call(.read, handle: handle, size: UInt64(size)).payload
            #expect(read.count == size)
            #expect(read.indices.allSatisfy { read[$0] == pattern[$0 % length] })
        }
    }

    @Test("work that is given up between slices gives back what it held")
    func abandoned() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let size = UInt64(Thresholds.workSliceSize) * 2
        #expect(peer.call(.alloc, type: 2, name: "a", size: size).status == .ok)
        for request in [
            frame(.fill, handle: 1, size: size, payload: [1, 2, 3, 4]),
            frame(
                .copy, handle: 1, size: size - 5, payload: copyDest(5, handle: 1)),
        ] {
            let leaving = daemon.greeted()
            leaving.moves = false
            #expect(leaving.call(.open, name: "a").status == .ok)
            leaving.feed(request)
            #expect(leaving.session.work?.run() == false)
            #expect(peer.call(.stat, handle: 1).number(1, afterName: 1) > 2)
            leaving.session.end(daemon.loop)
            leaving.isClosed = true
            #expect(peer.call(.stat, handle: 1).number(1, afterName: 1) == 1)
        }
        #expect(peer.call(.dispose, handle: 1).status == .ok)
        #expect(daemon.settledSize == 0)
    }

    @Test("behind a goodbye nothing is said of work that ends later")
    func afterGoodbye() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let size: UInt64 = 4 << 20
        peer.call(.alloc, type: 2, name: "a", size: size)
        peer.moves = false
        peer.feed(frame(.fill, name: "a", size: size, payload: [1]))
        #expect(peer.pause == .work)
        peer.session.fail(SmallocError(.shuttingDown, .error, "stopping"), peer.loop)
        peer.take()
        let said = peer.output.count
        #expect(said > 40)
        while peer.session.work?.run() == false {}
        peer.session.finish(peer.loop)
        peer.take()
        #expect(peer.output.count == said)
        #expect(peer.pause == .close)
    }
}
