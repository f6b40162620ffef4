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
    private let blocks: BlockPool

    private static let pointerMask: UInt64 = (1 << 48) - 1

    /// - Parameter blocks: Where the array comes from.
    init(_ blocks: BlockPool) { self.blocks = blocks }

    deinit { slots.map { blocks.giveTable($0, capacity * 8) } }

    /// The allocation of that name, or nil.
    ///
    /// Cost: about one and a half cache misses.
    func find(_ name: UnsafeRawBufferPointer, tag: UInt64) -> Allocation? {
        guard let slots, let index = index(of: name, tag: tag) else { return nil }
        return NameTable.allocation(in: slots[index])
    }

    /// What came of `add`.
    enum Added {
        case added
        case taken
        case noMemory
    }

    /// Puts an allocation in under a name, unless there is one.
    @inline(__always)
    mutating func add(
        _ allocation: Allocation, _ name: UnsafeRawBufferPointer, tag: UInt64
    ) -> Added {
        // Before it is looked for, so that the slot where the search ends is the one to take.
        if (count + 1) * 8 > capacity * 7, !grow() {
            return find(name, tag: tag) == nil ? .noMemory : .taken
        }
        var free = 0
        if index(of: name, tag: tag, free: &free) != nil { return .taken }
        slots?[free] = NameTable.slot(allocation, tag)
        count += 1
        return .added
    }

    /// Puts an allocation in, whose name must not be there yet.
    ///
    /// False: no memory to grow.
    mutating func insert(_ allocation: Allocation, tag: UInt64) -> Bool {
        if (count + 1) * 8 > capacity * 7, !grow() { return false }
        place(NameTable.slot(allocation, tag))
        count += 1
        return true
    }

    /// Takes the allocation of that name out; nil: there is none.
    @inline(__always)
    mutating func take(_ name: UnsafeRawBufferPointer, tag: UInt64) -> Allocation? {
        guard let slots, let index = index(of: name, tag: tag) else { return nil }
        let found = NameTable.allocation(in: slots[index])
        close(gap: index)
        return found
    }

    /// Takes an allocation out, found by identity.
    ///
    /// False: it is not there.
    mutating func remove(_ allocation: Allocation, tag: UInt64) -> Bool {
        guard let index = index(of: allocation, tag: tag) else { return false }
        close(gap: index)
        return true
    }

    /// Whether an allocation is in, found by identity.
    func contains(_ allocation: Allocation, tag: UInt64) -> Bool {
        index(of: allocation, tag: tag) != nil
    }

    /// Puts an allocation in the slot of another one, found by identity, whose name it has now.
    ///
    /// Needs no memory, and so never fails for one that is there.
    mutating func replace(_ old: Allocation, with new: Allocation, tag: UInt64) {
        guard let slots, let index = index(of: old, tag: tag) else { return }
        slots[index] = NameTable.slot(new, tag)
    }

    private func index(of allocation: Allocation, tag: UInt64) -> Int? {
        guard let slots, capacity > 0 else { return nil }
        let wanted = NameTable.slot(allocation, tag)
        var index = home(wanted)
        while slots[index] != wanted {
            if slots[index] == 0 { return nil }
            index = next(index)
        }
        return index
    }

    /// Slots to look at in a walk over the table.
    var slotCount: Int { capacity }

    /// The allocation in a slot, or nil if it is free.
    func allocation(at index: Int) -> Allocation? {
        guard let slots, index < capacity else { return nil }
        return NameTable.allocation(in: slots[index])
    }

    // MARK: Prefetch

    /// Where the slots are and how many, in one word; 0 if there are none, or too many for it.
    var view: UInt64 {
        guard let slots, capacity <= 8 * 0xFFFF else { return 0 }
        return UInt64(capacity / 8) << 48 | UInt64(UInt(bitPattern: slots))
    }

    /// The address of the first slot that a tag is looked for in.
    ///
    /// - Parameter view: Of this moment or earlier: there may be no such table any more.
    @inline(__always)
    static func firstSlot(of view: UInt64, tag: UInt64) -> UInt {
        // Multiplied first: a shift binds tighter than a product in Swift.
        let home = (tag &* ((view &>> 48) &* 8)) &>> 16
        return UInt(view & pointerMask) &+ UInt(home &* 8)
    }

    /// Slots of a run that are looked at ahead of time: nearly all names are within them.
    static let aheadMax = 16

    /// The address of the first allocation of that tag, without a look at its name; 0: there is
    /// none close to where the search begins.
    @inline(__always)
    func likelyAddress(tag: UInt64) -> UInt {
        guard let slots, capacity > 0 else { return 0 }
        var index = home(tag << 48)
        for _ in 0..<NameTable.aheadMax {
            let slot = slots[index]
            if slot >> 48 == tag { return UInt(slot & NameTable.pointerMask) }
            if slot == 0 { break }
            index = next(index)
        }
        return 0
    }

    @inline(__always)
    private static func slot(_ allocation: Allocation, _ tag: UInt64) -> UInt64 {
        tag << 48 | UInt64(UInt(bitPattern: allocation.block))
    }

    @inline(__always)
    private static func allocation(in slot: UInt64) -> Allocation? {
        UnsafeMutableRawPointer(bitPattern: UInt(slot & pointerMask)).map { Allocation(block: $0) }
    }

    @inline(__always)
    private func index(of name: UnsafeRawBufferPointer, tag: UInt64) -> Int? {
        var free = 0
        return index(of: name, tag: tag, free: &free)
    }

    /// - Parameter free: The free slot where the search ended, if there is no such name.
    @inline(__always)
    private func index(
        of name: UnsafeRawBufferPointer, tag: UInt64, free: inout Int
    ) -> Int? {
        guard let slots, capacity > 0 else { return nil }
        var index = home(tag << 48)
        while true {
            let slot = slots[index]
            if slot == 0 { break }
            if slot >> 48 == tag, let found = NameTable.allocation(in: slot) {
                let other = found.name
                if other.count == name.count, let left = other.baseAddress,
                    let right = name.baseAddress, memcmp(left, right, name.count) == 0
                {
                    return index
                }
            }
            index = next(index)
        }
        free = index
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

    /// Frees a slot, and moves later values of the same run back, so that no search stops early at
    /// the gap.
    @inline(__always)
    private mutating func close(gap: Int) {
        guard let slots else { return }
        var gap = gap
        var index = gap
        while true {
            index = next(index)
            let slot = slots[index]
            if slot == 0 { break }
            // How far the value has come from its home, and how far the gap lies from it.
            if distance(from: home(slot), to: index) >= distance(from: gap, to: index) {
                slots[gap] = slot
                gap = index
            }
        }
        slots[gap] = 0
        count -= 1
        if count * 6 < capacity, capacity > NameTable.keptMax { shrink() }
    }

    /// Slots from one to another, which may lie beyond the end.
    @inline(__always)
    private func distance(from: Int, to: Int) -> Int {
        to >= from ? to &- from : to &- from &+ capacity
    }

    /// Slots that an empty table may keep.
    private static let keptMax = 64

    /// By half rather than twice: on average 0.73 of the slots are in use, 11 bytes a name.
    ///
    /// Always to a multiple of 8, as `view` has it.
    private mutating func grow() -> Bool {
        resize(to: max(8, (capacity + capacity / 2 + 7) / 8 * 8))
    }

    /// When a sixth is in use; without memory for that it stays as it is.
    private mutating func shrink() { _ = resize(to: max(8, (count * 2 + 7) / 8 * 8)) }

    private mutating func resize(to size: Int) -> Bool {
        var size = size
        let unit = BlockPool.tableUnit / 8
        // Large ones are whole slabs, and so on huge pages.
        if size >= unit { size = (size + unit - 1) / unit * unit }
        guard let memory = blocks.takeTable(size * 8) else { return false }
        let old = slots
        let oldCapacity = capacity
        slots = memory.bindMemory(to: UInt64.self, capacity: size)
        capacity = size
        if let old {
            for index in 0..<oldCapacity where old[index] != 0 { place(old[index]) }
            blocks.giveTable(old, oldCapacity * 8)
        }
        return true
    }
}
