// Large memory, as the kernel hands it out and takes it back.

internal import Glibc
internal import SmallocSystem

/// Page-aligned memory from the kernel.
///
/// Zero beyond `dirtySize`.
struct Mapping: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    /// Bytes, a multiple of the page size.
    let capacity: Int
    /// Bytes from the start that may be other than zero.
    var dirtySize = 0
    /// To be unmapped, not kept: it was warm for the longest time.
    var isStale = false
    /// Its place among all that was ever queued to be given back.
    var number = 0
    /// When it was given back, in nanoseconds of a monotonic clock.
    var givenAt: UInt64 = 0

    private static let hugePage = 2 << 20

    /// Fresh memory, or nil if the machine has none.
    static func make(_ capacity: Int) -> Mapping? {
        let huge = capacity >= hugePage
        let slack = huge ? hugePage : 0
        guard
            let start = mmap(
                nil, capacity + slack, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), start != MAP_FAILED
        else { return nil }
        guard huge else { return Mapping(base: start, capacity: capacity) }
        // Aligned for huge pages: the first touch of 4 KiB pages is what makes large memory slow.
        let address = Int(bitPattern: start)
        let lead = (hugePage - address % hugePage) % hugePage
        if lead > 0 { munmap(start, lead) }
        if slack - lead > 0 { munmap(start + lead + capacity, slack - lead) }
        madvise(start + lead, capacity, MADV_HUGEPAGE)
        return Mapping(base: start + lead, capacity: capacity)
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

    /// In slices: the kernel locks the whole address space meanwhile, and a loop may want memory.
    ///
    /// - Parameter pause: Called after each.
    func unmap(pause: () -> Void = {}) {
        var offset = 0
        while offset < capacity {
            let size = min(4 * Mapping.hugePage, capacity - offset)
            if munmap(base + offset, size) != 0 {
                // Too many mappings to split one more: the pages go, the addresses stay.
                madvise(base + offset, size, MADV_DONTNEED)
            }
            offset += size
            pause()
        }
    }
}
