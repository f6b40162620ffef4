// The nine element types and what a store does with a number. Knows nothing of allocations.

/// What an allocation's elements are: one of Node's nine external array types.
///
/// The raw value is the number on the wire and in Node's `smalloc.Types`. Source: protocol/spec.md
/// § Element types; Node: `smalloc.Types`.
@frozen
public enum ElementType: UInt8, CaseIterable, Sendable {
    case int8 = 1
    case uint8 = 2
    case int16 = 3
    case uint16 = 4
    case int32 = 5
    case uint32 = 6
    case float = 7
    case double = 8
    case uint8Clamped = 9

    /// The type of a number from the wire, nil if there is none.
    ///
    /// As `init(rawValue:)`, but no search.
    @inlinable @inline(__always)
    public init?(wire number: UInt8) {
        let index = number &- 1
        guard index < 9 else { return nil }
        // The cases are numbered without a gap, and laid out in the order of their numbers.
        self = unsafeBitCast(index, to: ElementType.self)
    }

    /// Bytes of one element: 1, 2, 4 or 8.
    @inlinable
    public var size: Int { 1 << shift }

    /// Base-2 logarithm of `size`, 0 to 3: elements to bytes is a shift.
    @inlinable
    public var shift: Int {
        switch self {
        case .int8, .uint8, .uint8Clamped: 0
        case .int16, .uint16: 1
        case .int32, .uint32, .float: 2
        case .double: 3
        }
    }

    /// Whether its elements can be cells of `atomic`: integers that wrap around.
    @inlinable
    public var hasAtomics: Bool {
        switch self {
        case .int8, .int16, .int32: true
        case .uint8, .uint16, .uint32: true
        default: false
        }
    }

    /// Whether its elements are signed integers.
    @inlinable
    public var isSignedInteger: Bool {
        switch self {
        case .int8, .int16, .int32: true
        default: false
        }
    }

    /// Node's spelling, as told in listings: `Int8` to `Uint8Clamped`.
    public var name: String {
        switch self {
        case .int8: "Int8"
        case .uint8: "Uint8"
        case .int16: "Int16"
        case .uint16: "Uint16"
        case .int32: "Int32"
        case .uint32: "Uint32"
        case .float: "Float"
        case .double: "Double"
        case .uint8Clamped: "Uint8Clamped"
        }
    }

    /// Finds a type by Node's spelling in any case, or by its number 1 to 9 in digits.
    public init?(named word: String) {
        let wanted = word.lowercased()
        let found = ElementType.allCases.first {
            $0.name.lowercased() == wanted || String($0.rawValue) == wanted
        }
        guard let found else { return nil }
        self = found
    }
}

extension ElementType {
    /// Writes a number as one element at `target`, which needs no alignment.
    ///
    /// Integer types: NaN and infinities store 0; otherwise truncation toward zero, modulo 2^32,
    /// low bits. `uint8Clamped`: NaN is 0, else clamped to 0...255, ties to even. `float`: nearest
    /// even. Source: protocol/spec.md § Stores. Cost: a few nanoseconds, never traps.
    @inlinable
    public func store(_ value: Double, at target: UnsafeMutableRawPointer) {
        switch self {
        case .int8, .uint8:
            target.storeBytes(of: UInt8(truncatingIfNeeded: wrapped(value)), as: UInt8.self)
        case .int16, .uint16:
            target.storeBytes(of: UInt16(truncatingIfNeeded: wrapped(value)), as: UInt16.self)
        case .int32, .uint32:
            target.storeBytes(of: wrapped(value), as: UInt32.self)
        case .float:
            target.storeBytes(of: Float(value), as: Float.self)
        case .double:
            target.storeBytes(of: value, as: Double.self)
        case .uint8Clamped:
            target.storeBytes(of: clamped(value), as: UInt8.self)
        }
    }

    /// The element at `source`, which needs no alignment, as a number.
    ///
    /// Exact for all nine types.
    @inlinable
    public func load(from source: UnsafeRawPointer) -> Double {
        switch self {
        case .int8: Double(source.loadUnaligned(as: Int8.self))
        case .uint8, .uint8Clamped: Double(source.loadUnaligned(as: UInt8.self))
        case .int16: Double(source.loadUnaligned(as: Int16.self))
        case .uint16: Double(source.loadUnaligned(as: UInt16.self))
        case .int32: Double(source.loadUnaligned(as: Int32.self))
        case .uint32: Double(source.loadUnaligned(as: UInt32.self))
        case .float: Double(source.loadUnaligned(as: Float.self))
        case .double: source.loadUnaligned(as: Double.self)
        }
    }

    /// ECMAScript's ToUint32.
    ///
    /// The remainder is taken before the conversion, which would trap on anything that does not
    /// fit.
    @usableFromInline
    func wrapped(_ value: Double) -> UInt32 {
        guard value.isFinite else { return 0 }
        let remainder = value.rounded(.towardZero).truncatingRemainder(dividingBy: 4_294_967_296)
        return UInt32(truncatingIfNeeded: Int64(remainder))
    }

    @usableFromInline
    func clamped(_ value: Double) -> UInt8 {
        guard value > 0 else { return 0 }  // NaN too: every comparison with it is false.
        guard value < 255 else { return 255 }
        return UInt8(value.rounded(.toNearestOrEven))
    }
}
