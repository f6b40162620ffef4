// The handles of one connection, as a process has file descriptors.

internal import CSmalloc
internal import Glibc
internal import SmallocWire

/// Handles 1 to n to allocations.
///
/// Each open one holds a reference. What the table takes is charged to the memory of all
/// allocations: a connection may have a million handles, and there may be thousands of connections.
/// The first few are free, so that what is there can be read, and made less, when the memory limit
/// is reached. It takes nothing before the first handle and after the last.
struct HandleTable: ~Copyable {
    /// Handles of a connection that are not charged.
    static let freeCount = 4

    /// Free entries hold the next free index, shifted, with the low bit set; pointers are even.
    fileprivate var entries: UnsafeMutablePointer<UInt>?
    fileprivate var capacity = 0
    /// Entries ever used since the table was last empty.
    fileprivate var used = 0
    private var firstFree: UInt = 0
    /// Bytes charged for the entries.
    private var charge: UInt64 = 0
    /// Open handles.
    private(set) var count = 0

    init() {}

    deinit { free(entries) }

    /// The allocation that a handle stands for.
    ///
    /// Nil: not open.
    @inline(__always)
    subscript(handle: UInt32) -> Allocation? {
        // Handle 0 wraps to the largest index and fails like any other unknown one.
        let index = Int(truncatingIfNeeded: handle &- 1)
        guard let entries, index < used else { return nil }
        let entry = entries[index]
        guard entry & 1 == 0 else { return nil }
        return UnsafeMutableRawPointer(bitPattern: entry).map { Allocation(block: $0) }
    }

    /// Whether the next handle makes the table grow.
    var isFull: Bool { firstFree == 0 && used == capacity }

    /// Sees to it that one more handle can be opened.
    ///
    /// - Returns: If it can't: `.memoryLimit`, `.outOfMemory`, or `.handleLimit` where the numbers
    ///   end.
    mutating func reserve(_ budget: MemoryBudget) -> SmallocError? {
        guard isFull else { return nil }
        let wider = max(HandleTable.freeCount, capacity * 2)
        guard wider <= 1 << 31 else { return .handleLimit }
        // What malloc really takes is known only after.
        let size = wider * MemoryLayout<UInt>.stride
        let estimate = capacity == 0 ? 0 : UInt64(size)
        guard estimate == 0 || budget.charge(estimate) else { return .memoryLimit }
        guard let memory = smalloc_reallocate(entries, size) else {
            budget.uncharge(estimate)
            return .outOfMemory
        }
        entries = memory.bindMemory(to: UInt.self, capacity: wider)
        capacity = wider
        guard estimate > 0 else { return nil }
        let before = charge
        charge = UInt64(smalloc_usable_size(memory)) + 8
        budget.correct(from: estimate + before, to: charge)
        return nil
    }

    /// Opens a handle, which takes over the caller's reference, after `reserve`.
    mutating func open(_ allocation: Allocation) -> UInt32 {
        guard let entries, !isFull else {
            preconditionFailure("a handle was opened without room for it")
        }
        let entry = UInt(bitPattern: allocation.block)
        count += 1
        if firstFree != 0 {
            let index = Int(firstFree - 1)
            firstFree = entries[index] >> 1
            entries[index] = entry
            return UInt32(index + 1)
        }
        entries[used] = entry
        used += 1
        return UInt32(used)
    }

    /// Closes a handle; its reference is the caller's now.
    ///
    /// Nil: it was not open.
    mutating func close(_ handle: UInt32, _ budget: MemoryBudget) -> Allocation? {
        guard let allocation = self[handle], let entries else { return nil }
        count -= 1
        if count == 0 {
            giveBack(budget)
        } else {
            entries[Int(handle) - 1] = firstFree << 1 | 1
            firstFree = UInt(handle)
        }
        return allocation
    }

    /// Gives the table's memory back; no handle may be open.
    private mutating func giveBack(_ budget: MemoryBudget) {
        if charge > 0 { budget.unchargeHeap(charge) }
        // The old value's end frees its entries.
        self = HandleTable()
    }

    /// Moves all handles out into a table of their own.
    mutating func takeAll() -> HandleTable {
        var taken = HandleTable()
        swap(&self, &taken)
        return taken
    }

    /// Closes one handle, whichever; nil when none is open, and the table's memory is given back.
    ///
    /// For the end of a connection.
    mutating func closeLast(_ budget: MemoryBudget) -> Allocation? {
        while used > 0 {
            if let allocation = close(UInt32(used), budget) {
                if used > 0 { used -= 1 }
                // The free list may point beyond `used` now; nothing is opened any more.
                return allocation
            }
            used -= 1
        }
        giveBack(budget)
        return nil
    }
}

extension HandleTable {
    /// Traps where the table contradicts itself.
    ///
    /// Cost: one look at each entry.
    func checkInvariants() {
        precondition(count >= 0 && count <= used && used <= capacity)
        precondition(entries != nil || capacity == 0)
        guard let entries else { return }
        var open = 0
        for index in 0..<used where entries[index] & 1 == 0 { open += 1 }
        precondition(open == count, "\(open) entries are open, \(count) are counted")
    }
}
