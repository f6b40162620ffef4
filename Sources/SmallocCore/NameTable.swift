// One shard of the registry: names to allocations, open addressing on one array of 8-byte slots.

internal import Glibc

/// A hash table whose slot is 16 bits of hash and 48 bits of pointer.
///
/// The slot's place follows from those 16 bits, so neither growth nor removal touches the
/// allocations: both read and write the array alone. Guarded by its shard's lock.
struct NameTable: ~Copyable {
    private var slots: UnsafeMutablePointer<UInt64>?
    private var capacity = 0
    private(set) var count = 0

    private static let pointerMask: UInt64 = (1 << 48) - 1

    init() {}

    deinit { free(slots) }

    /// The allocation of that name, or nil.
    ///
    /// Cost: about one and a half cache misses.
    func find(_ name: UnsafeRawBufferPointer, tag: UInt64) -> Allocation? {
        guard let index = index(of: name, tag: tag) else { return nil }
        return allocation(at: index)
    }

    /// Puts an allocation in, whose name must not be there yet.
    ///
    /// False: no memory to grow.
    mutating func insert(_ allocation: Allocation, tag: UInt64) -> Bool {
        if (count + 1) * 8 > capacity * 7, !grow() { return false }
        place(tag << 48 | UInt64(UInt(bitPattern: allocation.block)))
        count += 1
        return true
    }

    /// Takes an allocation out, found by identity.
    ///
    /// False: it is not there.
    mutating func remove(_ allocation: Allocation, tag: UInt64) -> Bool {
        guard let slots, capacity > 0 else { return false }
        let wanted = tag << 48 | UInt64(UInt(bitPattern: allocation.block))
        var index = home(wanted)
        while slots[index] != wanted {
            if slots[index] == 0 { return false }
            index = next(index)
        }
        close(gap: index)
        count -= 1
        return true
    }

    /// Slots to look at in a walk over the table.
    var slotCount: Int { capacity }

    /// The allocation in a slot, or nil if it is free.
    func allocation(at index: Int) -> Allocation? {
        guard let slots, index < capacity, slots[index] != 0 else { return nil }
        let bits = UInt(slots[index] & NameTable.pointerMask)
        return UnsafeMutableRawPointer(bitPattern: bits).map { Allocation(block: $0) }
    }

    private func index(of name: UnsafeRawBufferPointer, tag: UInt64) -> Int? {
        guard let slots, capacity > 0 else { return nil }
        var index = home(tag << 48)
        while slots[index] != 0 {
            if slots[index] >> 48 == tag, let found = allocation(at: index) {
                let other = found.name
                if other.count == name.count, let left = other.baseAddress,
                    let right = name.baseAddress, memcmp(left, right, name.count) == 0
                {
                    return index
                }
            }
            index = next(index)
        }
        return nil
    }

    /// The first slot that a value is looked for in.
    @inline(__always)
    private func home(_ slot: UInt64) -> Int { Int(((slot >> 48) &* UInt64(capacity)) >> 16) }

    @inline(__always)
    private func next(_ index: Int) -> Int { index + 1 == capacity ? 0 : index + 1 }

    private func place(_ slot: UInt64) {
        guard let slots else { return }
        var index = home(slot)
        while slots[index] != 0 { index = next(index) }
        slots[index] = slot
    }

    /// Moves later values of the same run back, so that no search stops early at the gap.
    private func close(gap: Int) {
        guard let slots else { return }
        var gap = gap
        var index = gap
        while true {
            index = next(index)
            let slot = slots[index]
            if slot == 0 { break }
            // How far the value has come from its home, and how far the gap lies from it.
            let distance = (index - home(slot) + capacity) % capacity
            let toGap = (index - gap + capacity) % capacity
            if distance >= toGap {
                slots[gap] = slot
                gap = index
            }
        }
        slots[gap] = 0
    }

    /// By half rather than twice: on average 0.73 of the slots are in use, 11 bytes a name.
    private mutating func grow() -> Bool {
        let wider = max(8, capacity + capacity / 2)
        guard let memory = calloc(wider, 8) else { return false }
        let old = slots
        let oldCapacity = capacity
        slots = memory.bindMemory(to: UInt64.self, capacity: wider)
        capacity = wider
        if let old {
            for index in 0..<oldCapacity where old[index] != 0 { place(old[index]) }
            free(old)
        }
        return true
    }
}
