// The allocations with most bytes, or the oldest: a walk over all names that keeps the first few.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
public import SmallocWire

/// Some allocations in an order, as they were a moment ago.
///
/// Its memory comes from one call that can fail.
public final class AllocationTable {
    /// What the first ones are.
    public enum Order: Sendable {
        case size
        case age
    }

    /// One allocation.
    public struct Entry {
        /// Printable ASCII, valid as long as the table.
        public let name: UnsafeRawBufferPointer
        /// Bytes of data.
        public let size: UInt64
        /// What its elements are.
        public let type: ElementType
        /// Seconds since it was made.
        public let age: UInt32
        /// The user that it belongs to; nil: it was made over TCP, or is in use just now.
        public let owner: UInt32?
    }

    /// Entries at most.
    public static let countMax = 500

    private struct Slot {
        var key: UInt64
        var size: UInt64
        var created: UInt32
        var owner: UInt32
        var type: ElementType
        var nameSize: UInt8
        var nameIndex: UInt16
    }

    private static let nameRoom = 256
    private let memory: UnsafeMutableRawPointer
    private let limit: Int
    /// A heap: the entry that goes first is the first one.
    private var heap: UnsafeMutablePointer<Slot> { memory.assumingMemoryBound(to: Slot.self) }
    private var names: UnsafeMutableRawPointer { memory + limit * MemoryLayout<Slot>.stride }
    /// Entries.
    public private(set) var count = 0
    /// Allocations that were looked for, those beyond the limit included.
    public fileprivate(set) var total: UInt64 = 0
    fileprivate var now: UInt32 = 0

    fileprivate init?(limit: Int) {
        self.limit = max(1, min(limit, AllocationTable.countMax))
        let size = self.limit * (MemoryLayout<Slot>.stride + AllocationTable.nameRoom)
        guard let memory = smalloc_allocate_zeroed(size) else { return nil }
        self.memory = memory
    }

    deinit { free(memory) }

    fileprivate func add(_ allocation: Allocation, _ order: Order) {
        total += 1
        let created = allocation.created
        let key = order == .size ? allocation.size : UInt64(UInt32.max - created)
        if count == limit, key <= heap[0].key { return }
        // The last one's room is free again.
        let nameIndex = count == limit ? heap[0].nameIndex : UInt16(count)
        let name = allocation.name
        if let start = name.baseAddress {
            (names + Int(nameIndex) * AllocationTable.nameRoom)
                .copyMemory(from: start, byteCount: name.count)
        }
        // Not waited for: a thread may be busy with it.
        var owner = Session.noOwner
        if allocation.lock.tryLock() {
            owner = allocation.owner
            allocation.lock.unlock()
        }
        let slot = Slot(
            key: key, size: allocation.size, created: created, owner: owner,
            type: allocation.type, nameSize: UInt8(name.count), nameIndex: nameIndex)
        if count == limit {
            heap[0] = slot
            sink(to: count)
        } else {
            rise(slot)
        }
    }

    private func rise(_ slot: Slot) {
        var index = count
        count += 1
        while index > 0, heap[(index - 1) / 2].key > slot.key {
            heap[index] = heap[(index - 1) / 2]
            index = (index - 1) / 2
        }
        heap[index] = slot
    }

    private func sink(to end: Int) {
        let slot = heap[0]
        var index = 0
        while 2 * index + 1 < end {
            var child = 2 * index + 1
            if child + 1 < end, heap[child + 1].key < heap[child].key { child += 1 }
            guard heap[child].key < slot.key else { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = slot
    }

    /// Brings the entries into their order, the first one first.
    fileprivate func sort() {
        for end in stride(from: count - 1, to: 0, by: -1) {
            let slot = heap[0]
            heap[0] = heap[end]
            sink(to: end)
            heap[end] = slot
        }
    }

    /// An entry, from 0.
    public subscript(index: Int) -> Entry {
        precondition(index >= 0 && index < count, "an entry that there is")
        let slot = heap[index]
        return Entry(
            name: UnsafeRawBufferPointer(
                start: names + Int(slot.nameIndex) * AllocationTable.nameRoom,
                count: Int(slot.nameSize)),
            size: slot.size, type: slot.type, age: now > slot.created ? now - slot.created : 0,
            owner: slot.owner == Session.noOwner ? nil : slot.owner)
    }
}

extension Registry {
    /// The largest or the oldest allocations that have names.
    ///
    /// Cost as `namespaces()`: not for threads of loops.
    ///
    /// - Parameters:
    ///   - limit: How many at most, 1 to `AllocationTable.countMax`.
    ///   - prefix: What their names begin with.
    /// - Returns: Nil: there is no memory for it.
    public func allocations(
        _ order: AllocationTable.Order, limit: Int, prefix: UnsafeRawBufferPointer
    ) -> AllocationTable? {
        guard let table = AllocationTable(limit: limit) else { return nil }
        table.now = age
        forEachNamed { allocation in
            guard allocation.name.starts(with: prefix) else { return }
            table.add(allocation, order)
        }
        table.sort()
        return table
    }
}
