import Testing
import TestSupport

@testable import SmallocCore

@Suite("Handle table")
struct HandleTableTests {
    /// Blocks that stand for allocations; only their addresses matter here.
    private final class Blocks {
        let memory: UnsafeMutableRawPointer
        init(_ count: Int) { memory = .allocate(byteCount: count * 16, alignment: 16) }
        deinit { memory.deallocate() }
        subscript(index: Int) -> Allocation { Allocation(block: memory + index * 16) }
    }

    @Test("handles start at 1, count up, and 0 is none")
    func counting() {
        let blocks = Blocks(10)
        var table = HandleTable()
        let none = table[0]
        #expect(none == nil)
        for index in 0..<10 {
            let handle = table.open(blocks[index])
            #expect(handle == UInt32(index + 1))
        }
        for index in 0..<10 {
            let found = table[UInt32(index + 1)]
            #expect(found == blocks[index])
        }
        for handle: UInt32 in [0, 11, 12, 1 << 31, .max, .max - 1] {
            let found = table[handle]
            #expect(found == nil)
            let closed = table.close(handle)
            #expect(closed == nil)
        }
        let count = table.count
        #expect(count == 10)
    }

    @Test("a closed handle is none until it is given again")
    func reuse() {
        let blocks = Blocks(4)
        var table = HandleTable()
        for index in 0..<3 { _ = table.open(blocks[index]) }
        let closed = table.close(2)
        #expect(closed == blocks[1])
        let again = table.close(2)
        #expect(again == nil)
        let gone = table[2]
        #expect(gone == nil)
        let reopened = table.open(blocks[3])
        #expect(reopened == 2)
        let found = table[2]
        #expect(found == blocks[3])
    }

    @Test("after the last close it starts anew")
    func emptied() {
        let blocks = Blocks(3)
        var table = HandleTable()
        for index in 0..<3 { _ = table.open(blocks[index]) }
        for handle: UInt32 in [3, 1, 2] { _ = table.close(handle) }
        let count = table.count
        #expect(count == 0)
        let first = table.open(blocks[0])
        #expect(first == 1)
        let second = table[2]
        #expect(second == nil)
    }

    @Test("it does what a dictionary does, over random opens and closes")
    func model() {
        var random = SplitMix(for: "handle table")
        let blocks = Blocks(20_000)
        var table = HandleTable()
        var model: [UInt32: Int] = [:]
        var next = 0
        for step in 0..<20_000 {
            let opens = step % 4000 < 2500
            if random.next() % 10 < (opens ? 7 : 2) {
                let handle = table.open(blocks[next])
                #expect(handle.map { model[$0] == nil && $0 != 0 } == true)
                if let handle { model[handle] = next }
                next += 1
            } else {
                let handle = UInt32(random.next() % UInt64(model.count * 2 + 4))
                let closed = table.close(handle)
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
        while let allocation = table.closeLast() {
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
                var table = HandleTable()
                for index in 0..<3 { _ = table.open(blocks[index]) }
                var left: Set<Int> = [0, 1, 2]
                for index in order where closedFirst & 1 << index != 0 {
                    _ = table.close(UInt32(index + 1))
                    left.remove(index)
                }
                while let allocation = table.closeLast() {
                    left.remove((allocation.block - blocks.memory) / 16)
                }
                #expect(left.isEmpty)
            }
        }
    }
}
