// The bytes that are about to leave: a growable raw buffer, shared by all connections of a loop.
//
// The system may refuse memory to grow by. The buffer then drops what it holds and says so: its
// owner ends the connection that the bytes were for.

internal import Glibc

/// A growable buffer on raw memory.
///
/// Keeps its memory between uses; `reset` gives back what one large batch made it take.
@frozen
public struct Output: ~Copyable {
    /// First byte.
    ///
    /// Valid until the next append.
    public private(set) var base: UnsafeMutableRawPointer
    /// Bytes held.
    public var count: Int
    @usableFromInline var capacity: Int
    @usableFromInline var lost = false
    /// Bytes that it may take; tests set it, so that growth fails as if there were no memory.
    @usableFromInline var capacityMax = Int.max

    /// Descriptors that leave with the bytes held, in their order, at most two; -1: none.
    ///
    /// Whoever sends them closes them.
    public var descriptors: (Int32, Int32) = (-1, -1)

    /// Whether there are descriptors that leave with the bytes.
    @inlinable public var passesDescriptors: Bool { descriptors.0 >= 0 }

    /// Whether there was no memory to grow by, so that bytes are missing; until `reset`.
    public var isLost: Bool { lost }
    private static let capacityMin = 16

    /// An empty buffer with room for `capacity` bytes, and never for none: it grows by doubling.
    public init(capacity: Int = 64 * 1024) {
        let capacity = max(capacity, Output.capacityMin)
        guard let memory = malloc(capacity) else { fatalError("no memory for a first buffer") }
        base = memory
        count = 0
        self.capacity = capacity
    }

    deinit { free(base) }

    /// Room for `size` more bytes, counted as held; the caller fills them.
    ///
    /// Without memory for them what was held is dropped, and `isLost`. Amortised O(1).
    ///
    /// - Parameter size: Bytes, at most the capacity that the buffer was made with.
    @inlinable
    public mutating func reserve(_ size: Int) -> UnsafeMutableRawPointer {
        if capacity - count < size, !grow(size) { lose(size) }
        let start = base + count
        count += size
        return start
    }

    /// Copies `size` bytes to the end, or is `isLost`.
    @inlinable
    public mutating func append(_ source: UnsafeRawPointer, _ size: Int) {
        if capacity - count < size, !grow(size) { return lose(0) }
        (base + count).copyMemory(from: source, byteCount: size)
        count += size
    }

    /// Appends one byte.
    @inlinable
    public mutating func append(_ byte: UInt8) {
        reserve(1).storeBytes(of: byte, as: UInt8.self)
    }

    /// Copies the bytes of a span to the end.
    @inlinable
    public mutating func append(_ bytes: RawSpan) {
        bytes.withUnsafeBytes { source in
            guard let start = source.baseAddress else { return }
            append(start, source.count)
        }
    }

    /// Appends the UTF-8 bytes of a string.
    public mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            guard let start = bytes.baseAddress else { return }
            append(UnsafeRawPointer(start), bytes.count)
        }
    }

    /// Gives away the memory with the bytes held, to be freed by the caller; goes on empty.
    ///
    /// - Returns: Nil: there is no memory to go on with, and nothing has changed.
    public mutating func detach() -> (base: UnsafeMutableRawPointer, count: Int)? {
        // Perhaps a large batch made it grow: the next one need not be as large.
        let wanted = min(capacity, 128 * 1024)
        guard let memory = malloc(wanted) else { return nil }
        let held = (base, count)
        capacity = wanted
        base = memory
        count = 0
        return held
    }

    /// Drops the first `size` bytes and moves the rest to the front.
    public mutating func removeFirst(_ size: Int) {
        precondition(size >= 0 && size <= count, "more dropped than held")
        base.copyMemory(from: base + size, byteCount: count - size)
        count -= size
    }

    /// Empties the buffer and gives memory over `limit` bytes back.
    @inlinable
    public mutating func reset(keeping limit: Int) {
        count = 0
        lost = false
        if capacity > limit { shrink(to: limit) }
    }

    /// Drops all but the first `count` bytes.
    public mutating func truncate(to count: Int) {
        precondition(count >= 0 && count <= self.count, "more kept than held")
        self.count = count
    }

    /// The bytes held.
    ///
    /// Valid until the next change.
    @inlinable
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// False: there is no memory for it.
    @usableFromInline
    mutating func grow(_ size: Int) -> Bool {
        // Sizes come from our own limits, far from overflow; the trap would be a bug of ours.
        var wanted = capacity * 2
        while wanted - count < size { wanted *= 2 }
        guard wanted <= capacityMax, let grown = realloc(base, wanted) else { return false }
        base = grown
        capacity = wanted
        return true
    }

    @usableFromInline
    mutating func lose(_ size: Int) {
        precondition(size <= capacity, "more at once than a buffer has from the start")
        lost = true
        count = 0
    }

    @usableFromInline
    mutating func shrink(to limit: Int) {
        let wanted = max(limit, Output.capacityMin)
        // Without memory for a copy the buffer stays as large as it is.
        guard let smaller = realloc(base, wanted) else { return }
        base = smaller
        capacity = wanted
    }
}
