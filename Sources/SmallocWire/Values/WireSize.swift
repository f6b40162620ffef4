// The one type for arithmetic on numbers that a peer sent. Nothing here traps, whatever they are.

/// A number of bytes that came from the wire: saturates instead of overflowing.
///
/// `UInt64.max` stands for "too large": it fails every check against a real size.
@frozen
public struct WireSize: Comparable, Sendable {
    /// Bytes.
    public let bytes: UInt64

    /// A number that counts bytes already.
    @inlinable
    public init(bytes: UInt64) { self.bytes = bytes }

    /// A number in `unit`, as bytes of an element type.
    @inlinable @inline(__always)
    public init(_ count: UInt64, _ unit: Unit, _ type: ElementType) {
        guard unit == .elements else {
            bytes = count
            return
        }
        let (product, overflow) = count.multipliedReportingOverflow(by: UInt64(type.size))
        bytes = overflow ? .max : product
    }

    /// The sum; the largest number where it would overflow.
    @inlinable
    public static func + (left: WireSize, right: WireSize) -> WireSize {
        let (sum, overflow) = left.bytes.addingReportingOverflow(right.bytes)
        return WireSize(bytes: overflow ? .max : sum)
    }

    /// By bytes.
    @inlinable
    public static func < (left: WireSize, right: WireSize) -> Bool { left.bytes < right.bytes }
}

/// A range of bytes inside an allocation: checked once, safe to use after.
@frozen
public struct Extent: Sendable {
    /// Bytes from the start of the allocation.
    public let offset: Int
    /// Bytes.
    public let size: Int

    /// Bytes from the start of the allocation to the end of the range.
    @inlinable public var end: Int { offset + size }

    /// A range that the caller has checked.
    @inlinable @inline(__always)
    public init(offset: Int, size: Int) {
        self.offset = offset
        self.size = size
    }

    /// Checks a range against an allocation of `length` bytes.
    ///
    /// - Throws: `.outOfRange`: `start > length`, then `start + count > length`.
    @inlinable @inline(__always)
    public init(
        offset: WireSize, size: WireSize?, length: UInt64
    ) throws(SmallocError) {
        guard offset.bytes <= length else { throw .outOfRange("start > length") }
        let available = length - offset.bytes
        let wanted = size?.bytes ?? available
        guard wanted <= available else { throw .outOfRange("start + count > length") }
        // A length is that of memory, so it and all that is smaller fit an Int.
        self.offset = Int(offset.bytes)
        self.size = Int(wanted)
    }
}
