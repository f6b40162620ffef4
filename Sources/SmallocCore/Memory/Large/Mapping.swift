// Large memory, as the kernel hands it out and takes it back.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem

/// Page-aligned memory: a slot of an arena, or a mapping of its own.
///
/// Zero beyond `dirtySize`.
struct Mapping: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    /// Bytes, a multiple of the page size.
    let capacity: Int
    /// Bytes that it was made with: less are left of one that was truncated.
    let madeSize: Int
    /// Bytes from the start that may be other than zero.
    var dirtySize = 0
    /// The end of a mapping whose beginning stays in use.
    var isTail = false
    /// To be unmapped, not kept: it was warm for the longest time.
    var isStale = false
    /// Its place among all that was ever queued to be given back.
    var number = 0
    /// When it was given back, in nanoseconds of a monotonic clock.
    var givenAt: UInt64 = 0

    /// Bytes that are given back by one call.
    private static let sliceSize = 4 * SystemMemory.hugePageSize

    /// Whether it is a slot of an arena.
    var isSlot: Bool { madeSize <= Arenas.sizeMax }

    /// Fresh memory, or nil: the kernel refuses it, or there are too many mappings.
    static func make(_ capacity: Int, _ arenas: Arenas, _ budget: MemoryBudget) -> Mapping? {
        if capacity <= Arenas.sizeMax {
            return arenas.take(capacity).map {
                Mapping(base: $0, capacity: capacity, madeSize: capacity)
            }
        }
        guard budget.chargeMappings(1) else { return nil }
        // Aligned for huge pages: the first touch of 4 KiB pages is what makes large memory slow.
        guard let start = smalloc_map_aligned(capacity, SystemMemory.hugePageSize) else {
            budget.unchargeMappings(1)
            return nil
        }
        // Without them it is slow, and right.
        _ = smalloc_welcome_huge(start, capacity, true)
        return Mapping(base: start, capacity: capacity, madeSize: capacity)
    }

    /// Makes all of it zero in steps, the last one first.
    ///
    /// - Parameter pause: Called after each.
    mutating func wipe(pause: () -> Void = {}) {
        while dirtySize > 0 {
            let step = min(Yielding.stepSize, dirtySize)
            dirtySize -= step
            memset(base + dirtySize, 0, step)
            pause()
        }
    }

    /// Gives the memory back, and the addresses unless it is a tail.
    ///
    /// In slices: the kernel locks the whole address space meanwhile, and a loop may want memory.
    ///
    /// - Parameter pause: Called after each.
    /// - Returns: False: the kernel refuses it.
    func unmap(
        _ arenas: Arenas, _ budget: MemoryBudget, pause: () -> Void = {}
    ) -> Bool {
        let isOwn = !isTail && !isSlot
        let whole = isOwn ? madeSize : capacity
        var isGone = true
        for offset in stride(from: 0, to: whole, by: Mapping.sliceSize) {
            let size = min(Mapping.sliceSize, whole - offset)
            let start = base + offset
            let isDone = isOwn ? smalloc_unmap(start, size) : smalloc_return_pages(start, size)
            isGone = isGone && isDone
            pause()
        }
        guard isGone, !isTail else { return isGone }
        if isSlot { arenas.give(base) } else { budget.unchargeMappings(1) }
        return true
    }
}
