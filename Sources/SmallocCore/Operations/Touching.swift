// Large memory is made by the kernel when it is touched, and one huge page may take milliseconds:
// a request that reaches several of them touches them first, over as many turns as that takes.
// Without it a vectored write of a kilobyte, its ranges 2 MiB apart, held a loop up for seconds.

internal import CSmalloc
internal import SmallocSystem
internal import SmallocWire

extension Caller {
    /// Touches what a request is about to write, if it reaches more than one huge page.
    ///
    /// Under the lock. Cost: none to speak of for a range within a huge page.
    ///
    /// - Returns: False: the turn's time is over. The request is to be served again, and finds more
    ///   of its pages made.
    @inline(__always)
    mutating func touch(_ start: UnsafeMutableRawPointer, _ size: Int) -> Bool {
        willTouch()
        let (first, end) = (UInt(bitPattern: start), UInt(bitPattern: start) &+ UInt(size))
        let isOnePage = (first ^ (end &- 1)) < UInt(SystemMemory.hugePageSize)
        return isOnePage || size == 0 || touchFirst(start)
    }

    @inline(never)
    private mutating func touchFirst(_ start: UnsafeMutableRawPointer) -> Bool {
        smalloc_touch(start, true)
        return !isTouchingSpent
    }

    /// The same for ranges, of at most so many bytes each that their ends are all that matters.
    ///
    /// - Parameter base: Where their offsets count from.
    @inline(never)
    mutating func touch(
        _ base: UnsafeMutableRawPointer, _ ranges: borrowing Ranges, _ intent: Intent
    ) -> Bool {
        willTouch()
        guard ranges.whole.size > SystemMemory.hugePageSize else { return true }
        // Where the last turn ended: each one comes at least a range further.
        let done = min(Int(touchedRanges), ranges.count - 1)
        touchedRanges = 0
        var page = Int.min
        for index in done..<ranges.count {
            let range = ranges.extents[index]
            guard range.size > 0 else { continue }
            smalloc_touch(base + range.offset, intent != .read)
            smalloc_touch(base + range.end - 1, intent != .read)
            // Small pages are looked at by the dozen: the clock costs as much as one.
            let last = (range.end - 1) / SystemMemory.hugePageSize
            if last != page || index % 16 == 0, index + 1 < ranges.count, isTouchingSpent {
                touchedRanges = UInt16(truncatingIfNeeded: index + 1)
                return false
            }
            page = last
        }
        return true
    }
}
