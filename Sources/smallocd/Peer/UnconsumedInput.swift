// Input that could not be consumed yet: the start of a request whose rest is on its way, or whole
// requests that wait until earlier replies have left.

import CSmalloc
import Glibc
import SmallocCore
import SmallocWire

/// A growable buffer that owns no memory while it is empty, as it is for every idle connection.
///
/// What it takes beyond a few KiB counts against the memory limit.
struct UnconsumedInput: ~Copyable {
    /// Bytes that a connection may hold without being charged for them.
    private static let freeSize = 4096

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
    /// - Throws: `.memoryLimit`, `.outOfMemory`; nothing was added then.
    mutating func append(
        _ source: UnsafeRawPointer, _ size: Int, _ registry: Registry
    ) throws(SmallocError) {
        if capacity - end < size, start > 0, let base {
            memmove(base, base + start, count)
            end -= start
            start = 0
        }
        if capacity - end < size {
            // Bounded: what one read brings, on top of less than one request.
            let wider = max(capacity * 2, (end + size + 255) / 256 * 256)
            let charge = UnconsumedInput.charge(wider) - UnconsumedInput.charge(capacity)
            guard registry.chargeBuffer(charge) else { throw .memoryLimit }
            guard let grown = smalloc_reallocate(base, wider) else {
                registry.unchargeBuffer(charge)
                throw .outOfMemory
            }
            base = grown
            capacity = wider
        }
        base?.advanced(by: end).copyMemory(from: source, byteCount: size)
        end += size
    }

    /// Drops bytes at the front, and the memory with the last of them.
    mutating func removeFirst(_ size: Int, _ registry: Registry) {
        start += size
        guard start >= end else { return }
        registry.unchargeBuffer(UnconsumedInput.charge(capacity))
        free(base)
        base = nil
        start = 0
        end = 0
        capacity = 0
    }

    private static func charge(_ capacity: Int) -> Int {
        capacity > freeSize ? capacity : 0
    }
}
