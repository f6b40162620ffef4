// Address space for slabs, and which of them are free.

internal import CSmalloc
internal import Glibc

/// 2 MiB from the kernel, aligned, so that it may be one huge page.
///
/// A value is the region's address; all else is in the region.
struct Region: @unchecked Sendable {
    static let size = 2 << 20
    static let slabCount = size / Slab.sizeMax
    static let allSlabs = UInt32.max
    private static let stateOffset = 2048

    /// What the pool knows of it, under the pool's lock; zeros at first.
    struct State {
        /// A bit for each slab that may be taken.
        var free: UInt32 = 0
        /// A bit for each slab whose memory was given back, or is being so, and which was not taken
        /// since.
        var returned: UInt32 = 0
        /// The kernel was told that no huge page is welcome here.
        var isPlain = false
        /// Of those with as many free slabs.
        var next: Region?
        var previous: Region?
    }

    let start: UnsafeMutableRawPointer

    var state: UnsafeMutablePointer<State> {
        (start + Region.stateOffset).assumingMemoryBound(to: State.self)
    }

    var freeCount: Int { state.pointee.free.nonzeroBitCount }

    /// The first of `count` free slabs of one size in a row.
    func firstRun(_ count: Int) -> Int? {
        // Slab 0 is smaller. A bit stays as long as the next one, and so on, are there.
        var runs = state.pointee.free & ~1
        for _ in 1..<max(count, 1) { runs &= runs >> 1 }
        return runs == 0 ? nil : runs.trailingZeroBitCount
    }

    /// Tells the kernel whether huge pages are welcome.
    ///
    /// - Returns: False if it can't be told: this would make one mapping too many.
    @discardableResult
    func welcome(huge isWelcome: Bool) -> Bool {
        smalloc_welcome_huge(start, Region.size, isWelcome)
    }

    /// Zeros; nil: no memory.
    static func map() -> Region? {
        smalloc_map_aligned(size, size).map { Region(start: $0) }
    }

    /// - Returns: False if a hole here would make one mapping too many; it reads as zeros then.
    func unmap() -> Bool {
        if smalloc_unmap(start, Region.size) { return true }
        if !smalloc_return_pages(start, Region.size) { memset(start, 0, Region.size) }
        return false
    }
}
