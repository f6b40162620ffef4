// Slots of large regions: sizes, bounds, what comes back, and what the kernel sees of it.

import CFaults
import CSmalloc
import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Arenas", .timed)
struct ArenasTests {
    private static func arenas(
        mappingsMax: UInt64 = SystemMemory.mappingsMax
    ) -> (Arenas, MemoryBudget) {
        let budget = MemoryBudget(limits: SharedLimits(Limits()), mappingsMax: mappingsMax)
        return (Arenas(budget: budget), budget)
    }

    @Test("a slot is at least as large as what is asked for, and a quarter larger at most")
    func classes() {
        var last = (index: -1, slotSize: 0)
        for size in stride(from: Arenas.sizeMin, through: Arenas.sizeMax, by: 1024) {
            let (index, slotSize) = Arenas.sizeClass(size)
            #expect(slotSize >= size && slotSize - size <= size / 4 + 4096, "\(size)")
            #expect(slotSize % SystemMemory.pageSize == 0)
            #expect(index == last.index ? slotSize == last.slotSize : index == last.index + 1)
            last = (index, slotSize)
        }
        #expect(last.index == 20 && last.slotSize == 2 << 20)
        #expect(Arenas.sizeClass(Arenas.sizeMin).slotSize == Arenas.sizeMin)
    }

    @Test("slots are zeros, apart, and counted, whatever else comes and goes")
    func model() throws {
        var random = SplitMix(for: "arenas")
        let (arenas, budget) = ArenasTests.arenas()
        var held: [(start: UnsafeMutableRawPointer, size: Int, byte: UInt8)] = []
        for step in 0..<Scale.count(6000) {
            let wanted = step / 1500 % 2 == 0 ? 900 : 10
            if held.count < wanted, random.next() % 8 != 0 {
                // Mostly of two classes, so that regions fill up.
                let size =
                    random.next() % 4 == 0
                    ? Arenas.sizeMin + Int(random.next() % UInt64(Arenas.sizeMax - 65_535))
                    : random.next() % 2 == 0 ? 1 << 20 : 1_700_000
                let start = try #require(arenas.take(size))
                let byte = UInt8(1 + random.next() % 255)
                for place in [start, start + size - 1] {
                    #expect(place.load(as: UInt8.self) == 0)
                    place.storeBytes(of: byte, as: UInt8.self)
                }
                held.append((start, size, byte))
            } else if !held.isEmpty {
                held.swapAt(Int(random.next() % UInt64(held.count)), held.count - 1)
                let gone = held.removeLast()
                for place in [gone.start, gone.start + gone.size - 1] {
                    #expect(place.load(as: UInt8.self) == gone.byte, "it was overwritten")
                }
                #expect(smalloc_return_pages(gone.start, gone.size))
                arenas.give(gone.start)
            }
            #expect(arenas.usedCount == held.count)
            #expect(budget.mappingCount == UInt64(arenas.regionCount))
            arenas.checkInvariants()
        }
        for entry in held { arenas.give(entry.start) }
        arenas.checkInvariants()
        #expect(arenas.usedCount == 0 && arenas.regionCount <= Arenas.emptyMax)
    }

    @Test("regions that are no longer in use go back to the kernel, and may change their class")
    func regions() throws {
        let (arenas, budget) = ArenasTests.arenas()
        let slots = try (0..<200).map { _ in try #require(arenas.take(1_900_000)) }
        #expect(arenas.regionCount == 7)
        for slot in slots { arenas.give(slot) }
        #expect(arenas.regionCount == Arenas.emptyMax && budget.mappingCount == 2)
        let other = try #require(arenas.take(65_536))
        #expect(arenas.regionCount == Arenas.emptyMax)
        arenas.give(other)
        arenas.checkInvariants()
    }

    @Test("a region that the kernel refuses, or that is one too many, is an answer")
    func refused() throws {
        let (arenas, budget) = ArenasTests.arenas(mappingsMax: 1)
        for kind in [SMALLOC_FAULT_MAP, SMALLOC_FAULT_ADVISE] {
            faults_arm(Int32(kind), 0, 1, false)
            #expect(arenas.take(1 << 20) == nil)
            #expect(faults_disarm() == 1)
            #expect(budget.mappingCount == 0 && arenas.regionCount == 0)
        }
        var slots: [UnsafeMutableRawPointer] = []
        while let slot = arenas.take(1 << 20) { slots.append(slot) }
        #expect(slots.count == 63)
        #expect(budget.mappingCount == 1)
        for slot in slots { arenas.give(slot) }
        arenas.checkInvariants()
    }

    @Test("a region that can't be unmapped stays, and is used again")
    func kept() throws {
        let (arenas, budget) = ArenasTests.arenas()
        let slots = try (0..<200).map { _ in try #require(arenas.take(1_900_000)) }
        faults_arm(Int32(SMALLOC_FAULT_UNMAP), 0, 1000, false)
        for slot in slots { arenas.give(slot) }
        #expect(faults_disarm() == 5)
        #expect(arenas.regionCount == 7 && budget.mappingCount == 7)
        arenas.checkInvariants()
        let again = try (0..<200).map { _ in try #require(arenas.take(1_900_000)) }
        #expect(arenas.regionCount == 7)
        for slot in again { arenas.give(slot) }
        #expect(budget.mappingCount == UInt64(Arenas.emptyMax))
    }
}

@Suite("Kernel mappings", .timed)
struct KernelMappingTests {
    /// Kernel mappings of this process; 0 where a sanitizer maps as much beside each of them.
    private static func count() throws -> Int {
        guard !DaemonProcess.isSanitized else { return 0 }
        // As a whole: what comes at once is its first part.
        let maps = try FileHandle(forReadingFrom: URL(fileURLWithPath: "/proc/self/maps"))
        return (try maps.readToEnd() ?? Data()).reduce(0) { $0 + ($1 == 0x0A ? 1 : 0) }
    }

    /// `SMALLOC_SCALE` 10 and more makes it a million.
    @Test("allocations of 64 KiB that are not touched take few kernel mappings")
    func untouched() throws {
        let count = min(1_000_000, Scale.count(100_000))
        let daemon = TestDaemon {
            $0.memorySizeMax = 1 << 40
            $0.allocationsMax = 1 << 24
        }
        let peer = daemon.greeted()
        let before = try KernelMappingTests.count()
        for index in 0..<count {
            let reply = peer.call(.alloc, flags: 2, type: 2, name: "n\(index)", size: 65_536)
            try #require(reply.status == .ok, "\(index)")
        }
        #expect(try KernelMappingTests.count() - before < 2000)
        for index in 0..<count { peer.call(.dispose, name: "n\(index)") }
        #expect(daemon.settledSize == 0)
    }

    /// `SMALLOC_SCALE` 20 and more makes it 200,000, in 12.5 GiB of memory.
    @Test("allocations of 64 KiB that are touched, and truncated, take few kernel mappings")
    func touched() throws {
        let count = min(200_000, Scale.count(10_000))
        let daemon = TestDaemon { $0.memorySizeMax = 1 << 40 }
        let peer = daemon.greeted()
        let before = try KernelMappingTests.count()
        for index in 0..<count {
            let name = "n\(index)"
            #expect(peer.call(.alloc, flags: 2, type: 2, name: name, size: 65_536).status == .ok)
            #expect(peer.call(.fill, name: name, size: 65_536, payload: [7]).status == .ok)
            if index % 3 == 0 {
                #expect(peer.call(.truncate, name: name, size: 1).status == .ok)
            }
        }
        #expect(try KernelMappingTests.count() - before < 2000)
        for index in 0..<count { peer.call(.dispose, name: "n\(index)") }
        #expect(daemon.settledSize == 0)
        #expect(try KernelMappingTests.count() - before < 100)
    }

    @Test("truncates of large allocations cut no kernel mapping in two")
    func truncated() throws {
        let daemon = TestDaemon { $0.memorySizeMax = 1 << 40 }
        let peer = daemon.greeted()
        let before = try KernelMappingTests.count()
        for index in 0..<500 {
            let name = "n\(index)"
            #expect(peer.call(.alloc, flags: 2, type: 2, name: name, size: 4 << 20).status == .ok)
            #expect(peer.call(.fill, name: name, size: 10_000, payload: [7]).status == .ok)
            #expect(peer.call(.truncate, name: name, size: 5000).status == .ok)
        }
        #expect(daemon.settledSize < 500 * 9000)
        #expect(try KernelMappingTests.count() - before <= 510)
        for index in 0..<500 { peer.call(.dispose, name: "n\(index)") }
        #expect(daemon.settledSize == 0)
        #expect(try KernelMappingTests.count() - before < 10)
    }

    @Test("at the limit of kernel mappings an allocation is refused, and all else goes on")
    func limit() {
        let daemon = TestDaemon(mappingsMax: 20)
        let peer = daemon.greeted()
        var count = 0
        while count < 100,
            peer.call(.alloc, flags: 2, type: 2, name: "n\(count)", size: 3 << 20).status == .ok
        { count += 1 }
        // Where a sanitizer watches, small memory takes none of them.
        #expect(count > 10 && count <= 20)
        let refused = peer.call(.alloc, flags: 2, type: 2, name: "more", size: 3 << 20)
        #expect(refused.status == .outOfMemory)
        #expect(peer.call(.write, name: "n0", size: 3, payload: [1, 2, 3]).status == .ok)
        #expect(peer.call(.dispose, name: "n0").status == .ok)
        #expect(daemon.settledSize > 0)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "more", size: 3 << 20).status == .ok)
        #expect(peer.call(.dispose, name: "more").status == .ok)
        for index in 1..<count { #expect(peer.call(.dispose, name: "n\(index)").status == .ok) }
        #expect(daemon.settledSize == 0)
        #expect(daemon.registry.budget.mappingCount <= 20)
    }
}
