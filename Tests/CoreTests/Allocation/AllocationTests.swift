import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Allocation", .timed)
struct AllocationTests {
    private let budget: MemoryBudget
    private let mappings: MappingPool

    init() {
        budget = MemoryBudget(limits: SharedLimits(Limits()))
        mappings = MappingPool(budget: budget, cleanSizeMax: 8 << 20)
    }

    private func make(
        _ name: String, _ type: ElementType = .uint8, size: Int
    ) -> Allocation {
        // The pool takes the charge of a mapping back, so it is charged here as the registry does.
        if size >= Thresholds.outOfLineSizeMin {
            #expect(
                budget.charge(UInt64(mappings.capacity(for: size)) + MappingPool.recordCharge))
        }
        return Array(name.utf8).withUnsafeBytes {
            Allocation.make(
                name: $0, type: type, size: size, created: 9, owner: 7, mappings: mappings)!
        }
    }

    private func text(_ name: UnsafeRawBufferPointer) -> String {
        String(decoding: name, as: UTF8.self)
    }

    static let sizes = [
        0, 1, 7, 8, 64, 4095, 4096, 65_535, 65_536, 65_537, 262_144, 262_145, 1 << 20,
        (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 5_000_000,
    ]

    @Test(
        "it is zeros, tells what it was made with, and can be written to its last byte",
        arguments: sizes)
    func made(_ size: Int) {
        for name in ["", "a", "12345678", "123456789", String(repeating: "n", count: 255)] {
            let allocation = make(name, .double, size: size)
            #expect(allocation.size == UInt64(size))
            #expect(allocation.type == .double)
            #expect(allocation.created == 9)
            #expect(text(allocation.name) == name)
            #expect(allocation.isAnonymous == name.isEmpty)
            #expect(allocation.storage == (size < 65_536 ? .heap : .mapping))
            #expect(allocation.referenceCount == 1)
            guard case .here(let start) = allocation.access(Extent(offset: 0, size: size), .read)
            else { return #expect(Bool(false), "no memory") }
            let data = UnsafeMutableRawBufferPointer(start: start, count: size)
            #expect(firstNonZero(data) == nil)
            if size > 0 {
                _ = allocation.access(Extent(offset: 0, size: size), .modify)
                data[0] = 1
                data[size - 1] = 1
            }
            #expect(text(allocation.name) == name)
            allocation.checkInvariants()
            _ = allocation.destroy(mappings: mappings)
        }
        mappings.drain()
        #expect(budget.usedSize == 0)
        #expect(budget.pooledSize == 0)
    }

    @Test("its last reference is told from the others")
    func references() {
        let allocation = make("a", size: 4)
        allocation.retain()
        allocation.retain()
        #expect(allocation.referenceCount == 3)
        #expect(!allocation.release())
        #expect(!allocation.release())
        #expect(allocation.release())
        _ = allocation.destroy(mappings: mappings)
    }

    @Test(
        "it takes longer and shorter names, on heap and mapping, and keeps its bytes",
        arguments: [16, 100_000])
    func renames(_ size: Int) {
        let lengths = [1, 8, 9, 255, 3, 254, 16, 8, 255, 255, 1]
        let allocation = make("ab", size: size)
        _ = allocation.access(Extent(offset: 0, size: size), .modify)
        for index in 0..<size {
            allocation.data.storeBytes(of: 0x5A, toByteOffset: index, as: UInt8.self)
        }
        for (step, length) in lengths.enumerated() {
            let name = String(repeating: Character(UnicodeScalar(UInt8(97 + step))), count: length)
            let renamed = Array(name.utf8).withUnsafeBytes {
                allocation.rename($0, mappings.blocks)
            }
            #expect(renamed)
            #expect(text(allocation.name) == name)
            allocation.checkInvariants()
            let data = UnsafeRawBufferPointer(start: allocation.data, count: size)
            #expect(data.allSatisfy { $0 == 0x5A })
            #expect(allocation.storage == (size < 65_536 ? .heap : .mapping))
        }
        _ = allocation.destroy(mappings: mappings)
        mappings.drain()
    }

    @Test("an anonymous one takes a name of any length")
    func names() {
        for length in [1, 7, 8, 9, 100, 255] {
            let allocation = make("", size: 5)
            let name = String(repeating: "x", count: length)
            #expect(Array(name.utf8).withUnsafeBytes { allocation.rename($0, mappings.blocks) })
            #expect(!allocation.isAnonymous)
            #expect(text(allocation.name) == name)
            _ = allocation.destroy(mappings: mappings)
        }
    }

    @Test("what it gives back of the heap is what it was charged")
    func charge() {
        for size in [0, 1, 100, 65_535] {
            let allocation = make("name", size: size)
            let charge = allocation.heapCharge(mappings.blocks)
            #expect(charge >= UInt64(size))
            #expect(charge < UInt64(size) + 200)
            #expect(allocation.destroy(mappings: mappings) == charge)
        }
    }
}

/// The index of the first byte that is not zero.
func firstNonZero(_ bytes: UnsafeMutableRawBufferPointer) -> Int? {
    guard let base = bytes.baseAddress else { return nil }
    let words = bytes.count / 8
    for index in 0..<words
    where base.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self) != 0 { return index * 8 }
    for index in words * 8..<bytes.count where bytes[index] != 0 { return index }
    return nil
}
