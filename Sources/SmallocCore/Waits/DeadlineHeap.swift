// When the waits of a loop are over, the earliest first.

internal import CSmalloc
internal import Glibc
internal import SmallocWire

/// A binary heap of waits by their deadlines; each knows its place in it.
///
/// What it takes is charged to the memory of all allocations, as a table of handles is. Used by its
/// loop's thread only.
struct DeadlineHeap: ~Copyable {
    /// Waits that it has room for without being charged.
    private static let freeCount = 64

    private var waits: UnsafeMutablePointer<Wait>?
    private var capacity = 0
    private(set) var count = 0
    private var charge: UInt64 = 0
    private let budget: MemoryBudget

    init(_ budget: MemoryBudget) { self.budget = budget }

    deinit { free(waits) }

    /// The one that is over first.
    var first: Wait? { count > 0 ? waits?[0] : nil }

    /// Sees to it that one more can be inserted.
    ///
    /// - Returns: If it can't: `.memoryLimit`, `.outOfMemory`.
    mutating func reserve() -> SmallocError? {
        guard count == capacity else { return nil }
        let wider = max(DeadlineHeap.freeCount, capacity * 2)
        let size = wider * MemoryLayout<Wait>.stride
        let estimate = capacity == 0 ? 0 : UInt64(size)
        guard estimate == 0 || budget.charge(estimate) else { return .memoryLimit }
        guard let memory = smalloc_reallocate(waits, size) else {
            budget.uncharge(estimate)
            return .outOfMemory
        }
        waits = memory.bindMemory(to: Wait.self, capacity: wider)
        capacity = wider
        // The old room was charged, and this takes its place.
        budget.uncharge(charge)
        charge = estimate
        return nil
    }

    /// After `reserve`.
    mutating func insert(_ wait: Wait) {
        precondition(count < capacity, "a deadline was inserted without room for it")
        count += 1
        rise(wait, from: count - 1)
    }

    /// Takes a wait out, if it is in.
    mutating func remove(_ wait: Wait) {
        let index = wait.fields.pointee.heapIndex
        guard index >= 0, let waits else { return }
        wait.fields.pointee.heapIndex = -1
        count -= 1
        if index < count {
            let last = waits[count]
            if index > 0, last.deadline < waits[(index - 1) / 2].deadline {
                rise(last, from: index)
            } else {
                sink(last, from: index)
            }
        }
        if count == 0, charge > 0 { giveBack() }
    }

    private mutating func giveBack() {
        budget.uncharge(charge)
        charge = 0
        capacity = 0
        free(waits)
        waits = nil
    }

    private func put(_ wait: Wait, at index: Int) {
        waits?[index] = wait
        wait.fields.pointee.heapIndex = index
    }

    private func rise(_ wait: Wait, from index: Int) {
        guard let waits else { return }
        var index = index
        while index > 0, wait.deadline < waits[(index - 1) / 2].deadline {
            put(waits[(index - 1) / 2], at: index)
            index = (index - 1) / 2
        }
        put(wait, at: index)
    }

    private func sink(_ wait: Wait, from index: Int) {
        guard let waits else { return }
        var index = index
        while true {
            var child = 2 * index + 1
            guard child < count else { break }
            if child + 1 < count, waits[child + 1].deadline < waits[child].deadline { child += 1 }
            guard waits[child].deadline < wait.deadline else { break }
            put(waits[child], at: index)
            index = child
        }
        put(wait, at: index)
    }

    /// Traps where an entry is out of its order, or does not know its place.
    func checkInvariants() {
        guard let waits else { return precondition(count == 0 && charge == 0) }
        for index in 0..<count {
            precondition(waits[index].fields.pointee.heapIndex == index)
            precondition(index == 0 || waits[(index - 1) / 2].deadline <= waits[index].deadline)
        }
    }
}
