// The handles of one connection, as a process has file descriptors.

internal import Glibc

/// Handles 1 to n to allocations.
///
/// Each open one holds a reference. Owns no memory while none is open.
struct HandleTable: ~Copyable {
    /// Free entries hold the next free index, shifted, with the low bit set; pointers are even.
    private var entries: UnsafeMutablePointer<UInt>?
    private var capacity = 0
    /// Entries ever used since the table was last empty.
    private var used = 0
    private var firstFree: UInt = 0
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

    /// Opens a handle, which takes over the caller's reference.
    ///
    /// Nil: no memory.
    mutating func open(_ allocation: Allocation) -> UInt32? {
        let entry = UInt(bitPattern: allocation.block)
        if firstFree != 0, let entries {
            let index = Int(firstFree - 1)
            firstFree = entries[index] >> 1
            entries[index] = entry
            count += 1
            return UInt32(index + 1)
        }
        if used == capacity {
            let wider = max(4, capacity * 2)
            guard let memory = realloc(entries, wider * MemoryLayout<UInt>.stride) else {
                return nil
            }
            entries = memory.bindMemory(to: UInt.self, capacity: wider)
            capacity = wider
        }
        guard let entries else { return nil }
        entries[used] = entry
        used += 1
        count += 1
        return UInt32(used)
    }

    /// Closes a handle; its reference is the caller's now.
    ///
    /// Nil: it was not open.
    mutating func close(_ handle: UInt32) -> Allocation? {
        guard let allocation = self[handle], let entries else { return nil }
        count -= 1
        if count == 0 {
            free(entries)
            self.entries = nil
            capacity = 0
            used = 0
            firstFree = 0
        } else {
            entries[Int(handle) - 1] = firstFree << 1 | 1
            firstFree = UInt(handle)
        }
        return allocation
    }

    /// Moves all handles out into a table of their own.
    mutating func takeAll() -> HandleTable {
        let taken = HandleTable(
            entries: entries, capacity: capacity, used: used, firstFree: firstFree, count: count)
        entries = nil
        capacity = 0
        used = 0
        firstFree = 0
        count = 0
        return taken
    }

    private init(
        entries: UnsafeMutablePointer<UInt>?, capacity: Int, used: Int, firstFree: UInt, count: Int
    ) {
        self.entries = entries
        self.capacity = capacity
        self.used = used
        self.firstFree = firstFree
        self.count = count
    }

    /// Closes one handle, whichever; nil when none is open.
    ///
    /// For the end of a connection.
    mutating func closeLast() -> Allocation? {
        while used > 0 {
            if let allocation = close(UInt32(used)) {
                if used > 0 { used -= 1 }
                // The free list may point beyond `used` now; nothing is opened any more.
                return allocation
            }
            used -= 1
        }
        return nil
    }
}
