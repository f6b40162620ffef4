import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Handle table", .timed)
struct HandleTableTests {
    /// Blocks that stand for allocations; only their addresses matter here.
    private final class Blocks {
        let memory: UnsafeMutableRawPointer
        init(_ count: Int) { memory = .allocate(byteCount: count * 16, alignment: 16) }
        deinit { memory.deallocate() }
        subscript(index: Int) -> Allocation { Allocation(block: memory + index * 16) }
    }

    /// Opens with room for it.
    private func open(
        _ table: inout HandleTable, _ allocation: Allocation, _ budget: MemoryBudget
    ) -> UInt32? {
        let error = table.reserve(budget)
        #expect(error == nil)
        return error == nil ? table.open(allocation) : nil
    }

    private func newBudget(_ size: UInt64 = 1 << 30) -> MemoryBudget {
        var limits = Limits()
        limits.memorySizeMax = size
        return MemoryBudget(limits: SharedLimits(limits))
    }

    @Test("handles start at 1, count up, and 0 is none")
    func counting() {
        let blocks = Blocks(10)
        let budget = newBudget()
        var table = HandleTable()
        let none = table[0]
        #expect(none == nil)
        for index in 0..<10 {
            let handle = open(&table, blocks[index], budget)
            #expect(handle == UInt32(index + 1))
        }
        for index in 0..<10 {
            let found = table[UInt32(index + 1)]
            #expect(found == blocks[index])
        }
        for handle: UInt32 in [0, 11, 12, 1 << 31, .max, .max - 1] {
            let found = table[handle]
            #expect(found == nil)
            let closed = table.close(handle, budget)
            #expect(closed == nil)
        }
        let count = table.count
        #expect(count == 10)
    }

    @Test("a closed handle is none until it is given again")
    func reuse() {
        let blocks = Blocks(4)
        let budget = newBudget()
        var table = HandleTable()
        for index in 0..<3 { _ = open(&table, blocks[index], budget) }
        let closed = table.close(2, budget)
        #expect(closed == blocks[1])
        let again = table.close(2, budget)
        #expect(again == nil)
        let gone = table[2]
        #expect(gone == nil)
        let reopened = open(&table, blocks[3], budget)
        #expect(reopened == 2)
        let found = table[2]
        #expect(found == blocks[3])
    }

    @Test("after the last close it starts anew")
    func emptied() {
        let blocks = Blocks(3)
        let budget = newBudget()
        var table = HandleTable()
        for index in 0..<3 { _ = open(&table, blocks[index], budget) }
        for handle: UInt32 in [3, 1, 2] { _ = table.close(handle, budget) }
        let count = table.count
        #expect(count == 0)
        let first = open(&table, blocks[0], budget)
        #expect(first == 1)
        let second = table[2]
        #expect(second == nil)
    }

    @Test("it does what a dictionary does, over random opens and closes")
    func model() {
        var random = SplitMix(for: "handle table")
        let blocks = Blocks(20_000)
        let budget = newBudget()
        var table = HandleTable()
        var model: [UInt32: Int] = [:]
        var next = 0
        for step in 0..<20_000 {
            let opens = step % 4000 < 2500
            if random.next() % 10 < (opens ? 7 : 2) {
                let handle = open(&table, blocks[next], budget)
                #expect(handle.map { model[$0] == nil && $0 != 0 } == true)
                if let handle { model[handle] = next }
                next += 1
            } else {
                let handle = UInt32(random.next() % UInt64(model.count * 2 + 4))
                let closed = table.close(handle, budget)
                #expect(closed == model[handle].map { blocks[$0] })
                model[handle] = nil
            }
            let probe = UInt32(random.next() % UInt64(model.count * 2 + 4))
            let found = table[probe]
            #expect(found == model[probe].map { blocks[$0] })
            let count = table.count
            #expect(count == model.count)
        }
        var rest: Set<Int> = Set(model.values)
        #expect(rest.count == model.count)
        while let allocation = table.closeLast(budget) {
            let index = (allocation.block - blocks.memory) / 16
            let wasThere = rest.remove(index) != nil
            #expect(wasThere)
        }
        #expect(rest.isEmpty)
        let count = table.count
        #expect(count == 0)
    }

    @Test("at the end every open handle comes back once, however they were closed before")
    func closeLast() {
        for closedFirst in 0..<8 {
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
                let blocks = Blocks(3)
                let budget = newBudget()
                var table = HandleTable()
                for index in 0..<3 { _ = open(&table, blocks[index], budget) }
                var left: Set<Int> = [0, 1, 2]
                for index in order where closedFirst & 1 << index != 0 {
                    _ = table.close(UInt32(index + 1), budget)
                    left.remove(index)
                }
                while let allocation = table.closeLast(budget) {
                    left.remove((allocation.block - blocks.memory) / 16)
                }
                #expect(left.isEmpty)
            }
        }
    }

    @Test("what it takes is charged while it takes it, and refused over the memory limit")
    func charge() {
        let blocks = Blocks(1)
        let budget = newBudget(1 << 20)
        var table = HandleTable()
        #expect(budget.usedSize == 0)
        var count = 0
        while table.reserve(budget) == nil {
            #expect(table.open(blocks[0]) == UInt32(count + 1))
            count += 1
            guard count < 1_000_000 else { break }
            let taken = budget.usedSize
            // The first few cost nothing; large ones come in whole pages.
            if count <= HandleTable.freeCount, taken == 0 { continue }
            guard taken >= UInt64(count * 8), taken <= UInt64(count * 16 + 8192) else {
                Issue.record("\(taken) bytes for \(count)")
                break
            }
        }
        // Twice 512 KiB and a bit would be over it.
        #expect(count == 65_536)
        #expect(table.reserve(budget) == .memoryLimit)
        // A closed one is room for another.
        #expect(table.close(7, budget) == blocks[0])
        #expect(table.reserve(budget) == nil)
        #expect(table.open(blocks[0]) == 7)
        for handle in 1...UInt32(count) { #expect(table.close(handle, budget) != nil) }
        #expect(budget.usedSize == 0)
        for _ in 0...HandleTable.freeCount {
            #expect(table.reserve(budget) == nil)
            _ = table.open(blocks[0])
        }
        #expect(budget.usedSize > 0)
        while table.closeLast(budget) != nil {}
        #expect(budget.usedSize == 0)
    }
}
