// The bytes that are about to leave: a growable raw buffer, shared by all connections of a loop.

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
    private static let capacityMin = 16

    /// An empty buffer with room for `capacity` bytes, and never for none: it grows by doubling.
    public init(capacity: Int = 64 * 1024) {
        let capacity = max(capacity, Output.capacityMin)
        base = .allocate(byteCount: capacity, alignment: 16)
        count = 0
        self.capacity = capacity
    }

    deinit { base.deallocate() }

    /// Room for `size` more bytes, counted as held; the caller fills them.
    ///
    /// Amortised O(1).
    @inlinable
    public mutating func reserve(_ size: Int) -> UnsafeMutableRawPointer {
        if capacity - count < size { grow(size) }
        let start = base + count
        count += size
        return start
    }

    /// Copies `size` bytes to the end.
    @inlinable
    public mutating func append(_ source: UnsafeRawPointer, _ size: Int) {
        reserve(size).copyMemory(from: source, byteCount: size)
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

    /// Gives away the memory with the bytes held, to be deallocated by the caller; goes on empty.
    public mutating func detach() -> (base: UnsafeMutableRawPointer, count: Int) {
        let held = (base, count)
        // Perhaps a large batch made it grow: the next one need not be as large.
        capacity = min(capacity, 128 * 1024)
        base = .allocate(byteCount: capacity, alignment: 16)
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
        if capacity > limit { shrink(to: limit) }
    }

    /// The bytes held.
    ///
    /// Valid until the next change.
    @inlinable
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    @usableFromInline
    mutating func grow(_ size: Int) {
        // Sizes come from our own limits, far from overflow; the trap would be a bug of ours.
        var wanted = capacity * 2
        while wanted - count < size { wanted *= 2 }
        let grown = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 16)
        grown.copyMemory(from: base, byteCount: count)
        base.deallocate()
        base = grown
        capacity = wanted
    }

    @usableFromInline
    mutating func shrink(to limit: Int) {
        base.deallocate()
        capacity = max(limit, Output.capacityMin)
        base = .allocate(byteCount: capacity, alignment: 16)
    }
}
