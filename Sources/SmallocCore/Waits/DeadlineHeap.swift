// What has a deadline, the earliest first: the waits of a loop, or all leases.

internal import CSmalloc
internal import Glibc
internal import SmallocWire

/// A pointer to what can be in such a heap.
protocol Deadlined: Equatable {
    /// Nanoseconds of a clock.
    var deadline: UInt64 { get }
    /// Where it is; -1: in none.
    var heapIndex: Int { get nonmutating set }
}

/// A binary heap by deadlines; each entry knows its place in it.
///
/// What it takes is charged to the memory of all allocations, as a table of handles is. Used by one
/// thread at a time.
struct DeadlineHeap<Entry: Deadlined>: ~Copyable {
    /// Entries that it has room for without being charged.
    private static var freeCount: Int { 64 }

    private var entries: UnsafeMutablePointer<Entry>?
    private var capacity = 0
    private(set) var count = 0
    private var charge: UInt64 = 0
    private let budget: MemoryBudget

    init(_ budget: MemoryBudget) { self.budget = budget }

    deinit { free(entries) }

    /// The one that is over first.
    var first: Entry? { count > 0 ? entries?[0] : nil }

    /// Sees to it that one more can be inserted.
    ///
    /// - Returns: If it can't: `.memoryLimit`, `.outOfMemory`.
    mutating func reserve() -> SmallocError? {
        guard count == capacity else { return nil }
        let wider = max(DeadlineHeap<Entry>.freeCount, capacity * 2)
        let size = wider * MemoryLayout<Entry>.stride
        let estimate = capacity == 0 ? 0 : UInt64(size)
        guard estimate == 0 || budget.charge(estimate) else { return .memoryLimit }
        guard let memory = smalloc_reallocate(entries, size) else {
            budget.uncharge(estimate)
            return .outOfMemory
        }
        entries = memory.bindMemory(to: Entry.self, capacity: wider)
        capacity = wider
        // The old room was charged, and this takes its place.
        budget.uncharge(charge)
        charge = estimate
        return nil
    }

    /// After `reserve`.
    mutating func insert(_ entry: Entry) {
        precondition(count < capacity, "a deadline was inserted without room for it")
        count += 1
        rise(entry, from: count - 1)
    }

    /// Takes an entry out, if it is in.
    mutating func remove(_ entry: Entry) {
        let index = entry.heapIndex
        guard index >= 0, let entries else { return }
        entry.heapIndex = -1
        count -= 1
        if index < count {
            let last = entries[count]
            if index > 0, last.deadline < entries[(index - 1) / 2].deadline {
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
        free(entries)
        entries = nil
    }

    private func put(_ entry: Entry, at index: Int) {
        entries?[index] = entry
        entry.heapIndex = index
    }

    private func rise(_ entry: Entry, from index: Int) {
        guard let entries else { return }
        var index = index
        while index > 0, entry.deadline < entries[(index - 1) / 2].deadline {
            put(entries[(index - 1) / 2], at: index)
            index = (index - 1) / 2
        }
        put(entry, at: index)
    }

    /// Puts an entry where it belongs whose deadline is later than it was, if it is in.
    func sink(_ entry: Entry) {
        if entry.heapIndex >= 0 { sink(entry, from: entry.heapIndex) }
    }

    private func sink(_ entry: Entry, from index: Int) {
        guard let entries else { return }
        var index = index
        while true {
            var child = 2 * index + 1
            guard child < count else { break }
            if child + 1 < count, entries[child + 1].deadline < entries[child].deadline {
                child += 1
            }
            guard entries[child].deadline < entry.deadline else { break }
            put(entries[child], at: index)
            index = child
        }
        put(entry, at: index)
    }

    /// Traps where an entry is out of its order, or does not know its place.
    func checkInvariants() {
        guard let entries else { return precondition(count == 0 && charge == 0) }
        for index in 0..<count {
            precondition(entries[index].heapIndex == index)
            precondition(index == 0 || entries[(index - 1) / 2].deadline <= entries[index].deadline)
        }
    }
}
