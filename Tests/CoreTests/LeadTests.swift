// Large data begins in the middle of a page, and what is before it is nobody's to see.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("What is before large data")
struct LeadTests {
    private let mappings = MappingPool(
        budget: MemoryBudget(limits: SharedLimits(Limits())), cleanSizeMax: 8 << 20)

    private func make(_ size: Int, used: Mapping? = nil) throws -> Allocation {
        if used == nil, size >= MappingPool.sizeMin {
            let capacity = mappings.capacity(for: Allocation.mappingSize(for: size))
            #expect(mappings.budget.charge(UInt64(capacity)))
        }
        return try #require(
            Array("a".utf8).withUnsafeBytes {
                Allocation.make(
                    name: $0, type: .uint8, size: size, created: 0, mappings: mappings, used: used)
            })
    }

    private func isZero(_ start: UnsafeMutableRawPointer, _ size: Int) -> Bool {
        UnsafeRawBufferPointer(start: start, count: size).allSatisfy { $0 == 0 }
    }

    @Test("data of 256 KiB and more begins half a page in, smaller data where its mapping does")
    func place() throws {
        for size in [65_536, 262_143, 262_144, 262_145, 1 << 20, 2 << 20, 5_000_001] {
            let allocation = try make(size)
            let lead = size < 262_144 ? 0 : 2048
            #expect(Int(bitPattern: allocation.data) % 4096 == lead, "\(size)")
            #expect(allocation.lead == lead)
            #expect(allocation.mappingCapacity >= size + lead)
            #expect(allocation.mappingCapacity < size + lead + mappings.pageSize)
            _ = allocation.destroy(mappings: mappings)
        }
        mappings.drain()
        #expect(mappings.budget.usedSize == 0)
    }

    @Test(
        "an earlier owner's bytes are in no allocation, with a lead or without",
        arguments: [0, 1, 2047, 2048, 2049, 5000, 262_144, 266_240], [65_536, 262_144])
    func wiped(_ dirtySize: Int, _ size: Int) throws {
        let capacity = 266_240
        for isTouched in [false, true] {
            #expect(mappings.budget.charge(UInt64(capacity)))
            var mapping = try #require(mappings.take(capacity))
            #expect(mapping.capacity == capacity)
            memset(mapping.base, 0xFF, dirtySize)
            mapping.dirtySize = dirtySize
            let allocation = try make(size, used: mapping)
            #expect(allocation.data == mapping.base + allocation.lead)
            #expect(isZero(mapping.base, allocation.lead))
            if isTouched {
                #expect(allocation.settle(upTo: size))
                #expect(isZero(allocation.data, size))
                allocation.willWrite(upTo: size)
                memset(allocation.data, 0xEE, size)
            }
            // Wiped on the spot or by the thread, and warm then.
            _ = allocation.destroy(mappings: mappings)
            #expect(eventually { mappings.warmSize == capacity })
            let again = try #require(mappings.take(capacity))
            #expect(again.base == mapping.base && again.dirtySize == 0)
            #expect(isZero(again.base, capacity))
            mappings.give(again)
            mappings.drain()
        }
    }

    @Test("what is cut off is given back from the mapping's pages, and data stays where it is")
    func cut() throws {
        let allocation = try make(1 << 20)
        let data = allocation.data
        allocation.willWrite(upTo: 1 << 20)
        memset(data, 7, 1 << 20)
        for size in [600_000, 4097, 2049, 2048, 1, 0] {
            allocation.size = UInt64(size)
            let kept = max(mappings.capacity(for: 2048 + size), mappings.pageSize)
            if let cut = allocation.takeCut(mappings) {
                #expect(cut.base == data - 2048 + kept, "\(size)")
                mappings.give(forGood: cut)
            }
            #expect(allocation.mappingCapacity == kept)
            #expect(allocation.data == data && allocation.lead == 2048)
            #expect(UnsafeRawBufferPointer(start: data, count: size).allSatisfy { $0 == 7 })
        }
        _ = allocation.destroy(mappings: mappings)
        mappings.drain()
        #expect(mappings.budget.usedSize == 0)
    }
}
