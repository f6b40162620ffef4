// What takes too long for a loop: done on a thread that may be held up, answered when it is done.

internal import Glibc
internal import SmallocWire

/// A copy or fill of more than 1 MiB, or a wait for memory that is being given back.
///
/// Holds references to its allocations; ended by `Registry.end`, once.
public struct Work: @unchecked Sendable {
    enum Kind {
        case copy(dest: UnsafeMutableRawPointer, source: UnsafeRawPointer)
        case fill(dest: UnsafeMutableRawPointer, pattern: UnsafeMutableRawBufferPointer)
        /// Nothing is answered after it: the request that asked for memory is served once more.
        case reclaim(MappingPool)
    }

    let kind: Kind
    /// Bytes.
    let size: Int
    let allocations: (Allocation?, Allocation?)

    /// Does it.
    public func run() {
        switch kind {
        case .copy(let dest, let source): memmove(dest, source, size)
        case .fill(let dest, let pattern):
            Work.fill(dest, size, UnsafeRawBufferPointer(pattern))
        case .reclaim(let pool): pool.drain()
        }
    }

    /// Repeats `pattern` over `size` bytes, a multiple of the pattern's size.
    static func fill(
        _ dest: UnsafeMutableRawPointer, _ size: Int, _ pattern: UnsafeRawBufferPointer
    ) {
        guard size > 0, let source = pattern.baseAddress else { return }
        if pattern.count == 1 {
            memset(dest, Int32(pattern[0]), size)
            return
        }
        // The part that is done is the source of the next, twice as large, up to what a cache
        // holds.
        dest.copyMemory(from: source, byteCount: pattern.count)
        var done = pattern.count
        while done < size {
            let step = min(done, size - done, 65_536 / pattern.count * pattern.count)
            (dest + done).copyMemory(from: dest, byteCount: step)
            done += step
        }
    }
}
