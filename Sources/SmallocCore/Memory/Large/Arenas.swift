// Memory for allocations of 64 KiB to 2 MiB: slots of large regions.
//
// For users with many buffers of this size: tensors, frames, pages. A million of them as mappings
// of their own would be a million kernel mappings, of which a process has 65,530; here they are a
// thousand. It costs address space, up to a quarter of a slot that no page is ever touched of, and
// one page of memory for each region.
//
// Invariant: a free slot reads as zeros and takes no memory; a region is in one list: that of its
// class if some of its slots are free, that of the empty ones if all are, none if none is.

internal import SmallocSystem

/// Hands out slots of address space and takes them back.
///
/// All methods from any thread. The lock is held for a few steps; the kernel is asked without it.
final class Arenas: @unchecked Sendable {
    /// Bytes that a slot is asked for with at most.
    static let sizeMax = SystemMemory.hugePageSize - 1
    /// Bytes of the smallest slot.
    static let sizeMin = 64 << 10
    /// Regions kept of which nothing is in use.
    static let emptyMax = 2
    private static let classCount = 21

    fileprivate struct State {
        /// The first region with free slots of each class.
        var lists: [ArenaRegion?] = Array(repeating: nil, count: Arenas.classCount)
        /// The first region of which nothing is in use.
        var empty: ArenaRegion?
        var emptyCount = 0
        var regionCount = 0
        var usedCount = 0
    }

    private let state = Locked(State())
    private let budget: MemoryBudget

    /// - Parameter budget: Told of each region, which is a kernel mapping.
    init(budget: MemoryBudget) { self.budget = budget }

    /// Regions that are mapped.
    var regionCount: Int { state.withLock { $0.regionCount } }
    /// Slots in use.
    var usedCount: Int { state.withLock { $0.usedCount } }

    /// Where a size belongs: four classes for each doubling.
    ///
    /// - Parameter size: Bytes, from `sizeMin` to `sizeMax`.
    static func sizeClass(_ size: Int) -> (index: Int, slotSize: Int) {
        let quarter = sizeMin / 4
        let units = (size + quarter - 1) / quarter
        let doublings = Int.bitWidth - units.leadingZeroBitCount - 3
        let step = quarter << doublings
        let steps = (size + step - 1) / step
        return (doublings * 4 + steps - 4, steps * step)
    }

    /// A slot for `size` bytes, zeros; nil: the kernel refuses a region, or there are too many
    /// mappings.
    func take(_ size: Int) -> UnsafeMutableRawPointer? {
        let (index, slotSize) = Arenas.sizeClass(size)
        if let slot = state.withLock({ $0.take(index, slotSize) }) { return slot }
        guard budget.chargeMappings(1) else { return nil }
        guard let region = ArenaRegion.map() else {
            budget.unchargeMappings(1)
            return nil
        }
        return state.withLock { $0.add(region, index, slotSize) }
    }

    /// Takes a slot back, whose pages went back to the kernel before.
    func give(_ slot: UnsafeMutableRawPointer) {
        guard let region = state.withLock({ $0.give(slot) }) else { return }
        if region.unmap() {
            budget.unchargeMappings(1)
        } else {
            // It stays as an empty one, and counts.
            state.withLock { $0.keep(region) }
        }
    }

    /// Checks that lists, bits and counts tell the same.
    func checkInvariants() { state.withLock { $0.checkInvariants() } }

    deinit {
        // What is still in use is so for the life of the process.
        state.withLock { state in
            while let region = state.popEmpty() { _ = region.unmap() }
        }
    }
}

// MARK: Under the lock

extension Arenas.State {
    mutating func take(_ index: Int, _ slotSize: Int) -> UnsafeMutableRawPointer? {
        if lists[index] == nil {
            guard let region = popEmpty() else { return nil }
            return add(region, index, slotSize, isNew: false)
        }
        guard let region = lists[index], let slot = region.takeSlot() else { return nil }
        if region.header.pointee.freeCount == 0 { unlink(region) }
        usedCount += 1
        return slot
    }

    /// Adds a region of which nothing is in use, and takes a slot of it.
    mutating func add(
        _ region: ArenaRegion, _ index: Int, _ slotSize: Int, isNew: Bool = true
    ) -> UnsafeMutableRawPointer? {
        region.cut(index, slotSize: slotSize)
        if isNew { regionCount += 1 }
        link(region)
        return take(index, slotSize)
    }

    /// Makes a slot free.
    ///
    /// - Returns: A region of which nothing is in use and that is one too many: to be unmapped.
    mutating func give(_ slot: UnsafeMutableRawPointer) -> ArenaRegion? {
        let region = ArenaRegion(of: slot)
        region.giveSlot(slot)
        usedCount -= 1
        // At the front: what has few free slots is filled up first, and others may become empty.
        if region.header.pointee.freeCount == 1 { link(region) }
        guard region.header.pointee.freeCount == region.header.pointee.slotCount else {
            return nil
        }
        unlink(region)
        if emptyCount >= Arenas.emptyMax {
            regionCount -= 1
            return region
        }
        pushEmpty(region)
        return nil
    }

    /// Takes back a region that can't be unmapped.
    mutating func keep(_ region: ArenaRegion) {
        regionCount += 1
        pushEmpty(region)
    }

    private mutating func link(_ region: ArenaRegion) {
        let index = region.header.pointee.sizeClass
        region.header.pointee.previous = nil
        region.header.pointee.next = lists[index]
        lists[index]?.header.pointee.previous = region
        lists[index] = region
    }

    private mutating func unlink(_ region: ArenaRegion) {
        let (next, previous) = (region.header.pointee.next, region.header.pointee.previous)
        next?.header.pointee.previous = previous
        if let previous {
            previous.header.pointee.next = next
        } else {
            lists[region.header.pointee.sizeClass] = next
        }
    }

    private mutating func pushEmpty(_ region: ArenaRegion) {
        region.header.pointee.next = empty
        empty = region
        emptyCount += 1
    }

    mutating func popEmpty() -> ArenaRegion? {
        guard let region = empty else { return nil }
        empty = region.header.pointee.next
        emptyCount -= 1
        return region
    }

    func checkInvariants() {
        var regions = 0
        var used = 0
        for (index, first) in lists.enumerated() {
            var next = first
            var previous: ArenaRegion?
            while let region = next {
                let header = region.header.pointee
                precondition(header.sizeClass == index, "a region is in the list of its class")
                precondition(header.previous == previous, "the list is linked both ways")
                precondition(header.freeCount == region.freeBitCount, "each free slot has its bit")
                precondition(
                    header.freeCount > 0 && header.freeCount < header.slotCount,
                    "some slots are free, some are not")
                regions += 1
                used += header.slotCount - header.freeCount
                (previous, next) = (region, header.next)
            }
        }
        var next = empty
        var empties = 0
        while let region = next {
            precondition(
                region.freeBitCount == region.header.pointee.slotCount, "an empty region is empty")
            empties += 1
            next = region.header.pointee.next
        }
        precondition(empties == emptyCount, "empty regions are counted")
        precondition(regions + empties <= regionCount, "all regions are counted")
        precondition(used <= usedCount, "all slots in use are counted")
    }
}
