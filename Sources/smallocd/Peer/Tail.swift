// Input that could not be consumed yet: the start of a request whose rest is on its way, or whole
// requests that wait until earlier replies have left.

import Glibc

/// A growable buffer that owns no memory while it is empty, as it is for every idle connection.
struct Tail: ~Copyable {
    private var base: UnsafeMutableRawPointer?
    private var start = 0
    private var end = 0
    private var capacity = 0

    init() {}

    deinit { free(base) }

    var count: Int { end - start }

    /// The bytes held.
    ///
    /// Valid until the next change.
    var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base.map { UnsafeRawPointer($0 + start) }, count: count)
    }

    /// Adds bytes.
    ///
    /// False: no memory for them.
    mutating func append(_ source: UnsafeRawPointer, _ size: Int) -> Bool {
        if capacity - end < size {
            if let base, start > 0 {
                memmove(base, base + start, count)
                end -= start
                start = 0
            }
            if capacity - end < size {
                // Bounded: what one read brings, on top of less than one request.
                let wider = max(capacity * 2, (end + size + 255) / 256 * 256)
                guard let grown = realloc(base, wider) else { return false }
                base = grown
                capacity = wider
            }
        }
        guard let base else { return size == 0 }
        (base + end).copyMemory(from: source, byteCount: size)
        end += size
        return true
    }

    /// Drops bytes at the front, and the memory with the last of them.
    mutating func removeFirst(_ size: Int) {
        start += size
        guard start >= end else { return }
        free(base)
        base = nil
        start = 0
        end = 0
        capacity = 0
    }
}
