// The element types and what a store does with a number. Knows nothing of allocations.

/// What an allocation's elements are: Node's nine external array types, and seven that Node has
/// not.
///
/// The raw value is the number on the wire; 1 to 9 are those of Node's `smalloc.Types`. Source:
/// protocol/spec.md § Element types; Node: `smalloc.Types`.
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
    case int64 = 10
    case uint64 = 11
    case float16 = 12
    case bfloat16 = 13
    case bool = 14
    case complexFloat = 15
    case complexDouble = 16

    /// The type of a number from the wire, nil if there is none.
    ///
    /// As `init(rawValue:)`, but no search.
    @inlinable @inline(__always)
    public init?(wire number: UInt8) {
        let index = number &- 1
        guard index < 16 else { return nil }
        // The cases are numbered without a gap, and laid out in the order of their numbers.
        self = unsafeBitCast(index, to: ElementType.self)
    }

    /// Bytes of one element: 1, 2, 4, 8 or 16.
    @inlinable
    public var size: Int { 1 << shift }

    /// Base-2 logarithm of `size`, 0 to 4: elements to bytes is a shift.
    @inlinable
    public var shift: Int {
        switch self {
        case .int8, .uint8, .uint8Clamped, .bool: 0
        case .int16, .uint16, .float16, .bfloat16: 1
        case .int32, .uint32, .float: 2
        case .double, .int64, .uint64, .complexFloat: 3
        case .complexDouble: 4
        }
    }

    /// Whether its elements can be cells of `atomic`: integers that wrap around.
    @inlinable
    public var hasAtomics: Bool {
        switch self {
        case .int8, .int16, .int32, .int64: true
        case .uint8, .uint16, .uint32, .uint64: true
        default: false
        }
    }

    /// Whether its elements are signed integers.
    @inlinable
    public var isSignedInteger: Bool {
        switch self {
        case .int8, .int16, .int32, .int64: true
        default: false
        }
    }

    /// The name as told in listings, Node's where it has one: `Int8` to `ComplexDouble`.
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
        case .int64: "Int64"
        case .uint64: "Uint64"
        case .float16: "Float16"
        case .bfloat16: "Bfloat16"
        case .bool: "Bool"
        case .complexFloat: "ComplexFloat"
        case .complexDouble: "ComplexDouble"
        }
    }

    /// Finds a type by its name in any case, or by its number 1 to 16 in digits.
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
    /// Whether a `Double` can be any element, exactly.
    ///
    /// Not so of `int64`, `uint64` and the complex types: those are stored and loaded as what they
    /// are.
    @inlinable
    public var isDouble: Bool {
        switch self {
        case .int64, .uint64, .complexFloat, .complexDouble: false
        default: true
        }
    }

    /// Writes a number as one element at `target`, which needs no alignment.
    ///
    /// Integer types: NaN and infinities store 0; otherwise truncation toward zero, modulo 2^32,
    /// low bits; of 64 bits modulo 2^64. `uint8Clamped`: NaN is 0, else clamped to 0...255, ties to
    /// even. `float`, `float16`, `bfloat16`: nearest even. `bool`: 0 is false, all else true.
    /// Complex: with an imaginary part of 0. Source: protocol/spec.md § Stores. Cost: a few
    /// nanoseconds, never traps.
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
        default:
            storeOther(value, at: target)
        }
    }

    /// The same for the types that Node has not.
    @usableFromInline
    func storeOther(_ value: Double, at target: UnsafeMutableRawPointer) {
        switch self {
        case .float16, .bfloat16:
            let format = self == .float16 ? ShortFloat.float16 : .bfloat16
            target.storeBytes(of: format.bits(value), as: UInt16.self)
        case .bool:
            target.storeBytes(of: value == 0 ? 0 : 1, as: UInt8.self)
        case .complexFloat:
            target.storeBytes(of: Float(value), as: Float.self)
            target.storeBytes(of: 0, toByteOffset: 4, as: Float.self)
        case .complexDouble:
            target.storeBytes(of: value, as: Double.self)
            target.storeBytes(of: 0, toByteOffset: 8, as: Double.self)
        default:
            target.storeBytes(of: wrapped64(value), as: UInt64.self)
        }
    }

    /// The element at `source`, which needs no alignment, as a number.
    ///
    /// Exact where `isDouble`. Else the nearest number to a 64-bit integer, and the real part of a
    /// complex number.
    @inlinable
    public func load(from source: UnsafeRawPointer) -> Double {
        switch self {
        case .int8: Double(source.loadUnaligned(as: Int8.self))
        case .uint8, .uint8Clamped: Double(source.loadUnaligned(as: UInt8.self))
        case .int16: Double(source.loadUnaligned(as: Int16.self))
        case .uint16: Double(source.loadUnaligned(as: UInt16.self))
        case .int32: Double(source.loadUnaligned(as: Int32.self))
        case .uint32: Double(source.loadUnaligned(as: UInt32.self))
        case .float, .complexFloat: Double(source.loadUnaligned(as: Float.self))
        case .double, .complexDouble: source.loadUnaligned(as: Double.self)
        case .int64: Double(source.loadUnaligned(as: Int64.self))
        case .uint64: Double(source.loadUnaligned(as: UInt64.self))
        case .float16: ShortFloat.float16.value(source.loadUnaligned(as: UInt16.self))
        case .bfloat16: ShortFloat.bfloat16.value(source.loadUnaligned(as: UInt16.self))
        case .bool: source.loadUnaligned(as: UInt8.self) == 0 ? 0 : 1
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

    /// The same with 64 bits.
    private func wrapped64(_ value: Double) -> UInt64 {
        guard value.isFinite else { return 0 }
        let remainder = value.rounded(.towardZero).truncatingRemainder(dividingBy: 0x1p64)
        let magnitude = UInt64(remainder.magnitude)
        return remainder < 0 ? 0 &- magnitude : magnitude
    }

    @usableFromInline
    func clamped(_ value: Double) -> UInt8 {
        guard value > 0 else { return 0 }  // NaN too: every comparison with it is false.
        guard value < 255 else { return 255 }
        return UInt8(value.rounded(.toNearestOrEven))
    }
}

extension ElementType {
    /// The element at `source`, which needs no alignment, as text mode prints it: `4`, `-2.5`,
    /// `NaN`, `1.5,-0`.
    ///
    /// Cost: some hundred nanoseconds.
    public func text(at source: UnsafeRawPointer) -> String {
        var out = Output(capacity: 64)
        NumberText.print(self, at: source, to: &out)
        return String(decoding: out.bytes, as: UTF8.self)
    }

    /// Writes what text mode takes as one number at `target`, which needs no alignment.
    ///
    /// - Returns: False: it is no number of this type, and nothing is written.
    public func store(text: String, at target: UnsafeMutableRawPointer) -> Bool {
        Array(text.utf8).withUnsafeBytes { bytes in
            NumberText.store(RawSpan(_unsafeBytes: bytes), as: self, at: target)
        }
    }
}
