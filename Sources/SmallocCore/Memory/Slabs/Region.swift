// Address space for slabs, and which of them are free.

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
        // A kernel that has no huge pages does not know the word, and keeps to it.
        madvise(start, Region.size, isWelcome ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0
            || errno == EINVAL
    }

    /// Zeros; nil: no memory.
    static func map() -> Region? {
        guard
            let start = mmap(
                nil, 2 * size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), start != MAP_FAILED
        else { return nil }
        let lead = (size - Int(bitPattern: start) % size) % size
        if lead > 0 { munmap(start, lead) }
        munmap(start + lead + size, size - lead)
        return Region(start: start + lead)
    }

    /// - Returns: False if a hole here would make one mapping too many; it reads as zeros then.
    func unmap() -> Bool {
        if munmap(start, Region.size) == 0 { return true }
        if madvise(start, Region.size, MADV_DONTNEED) != 0 { memset(start, 0, Region.size) }
        return false
    }
}
