// Elements of types that Swift has not.

public import SmallocWire

extension Smalloc {
    /// A number of 16 bits with the range of a `Float`, and 8 bits of precision: its upper half.
    ///
    /// For storing and moving; one computes with `Float`s.
    public struct Bfloat16: Smalloc.Element, Hashable, CustomStringConvertible {
        /// The upper 16 bits of a `Float`.
        public var bitPattern: UInt16

        /// A number by its bits.
        @inlinable
        public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

        /// The nearest to a number, ties to even; too large is infinity.
        ///
        /// NaN is always the same, 0x7FC0.
        public init(_ value: Double) {
            var bits: UInt16 = 0
            ElementType.bfloat16.store(value, at: &bits)
            bitPattern = bits
        }

        /// The same number, exactly.
        @inlinable
        public var float: Float { Float(bitPattern: UInt32(bitPattern) << 16) }

        /// The fewest digits that tell it from its neighbours, as text mode prints it.
        public var description: String {
            withUnsafeBytes(of: bitPattern) { bytes in
                bytes.baseAddress.map { ElementType.bfloat16.text(at: $0) } ?? ""
            }
        }

        /// Whether the numbers are the same: 0 and -0 are, NaN is none.
        public static func == (left: Bfloat16, right: Bfloat16) -> Bool {
            left.float == right.float
        }

        /// Hashes what `==` compares.
        public func hash(into hasher: inout Hasher) { hasher.combine(float) }

        /// `Bfloat16`, number 13.
        @inlinable public static var elementType: ElementType { .bfloat16 }
    }

    /// A complex number of two `Float`s.
    public struct ComplexFloat: Smalloc.Element, Hashable {
        /// The real part, the first in memory.
        public var real: Float
        /// The imaginary part.
        public var imaginary: Float

        /// A number by its parts.
        @inlinable
        public init(_ real: Float, _ imaginary: Float = 0) {
            self.real = real
            self.imaginary = imaginary
        }

        /// `ComplexFloat`, number 15.
        @inlinable public static var elementType: ElementType { .complexFloat }
    }

    /// A complex number of two `Double`s.
    public struct ComplexDouble: Smalloc.Element, Hashable {
        /// The real part, the first in memory.
        public var real: Double
        /// The imaginary part.
        public var imaginary: Double

        /// A number by its parts.
        @inlinable
        public init(_ real: Double, _ imaginary: Double = 0) {
            self.real = real
            self.imaginary = imaginary
        }

        /// `ComplexDouble`, number 16.
        @inlinable public static var elementType: ElementType { .complexDouble }
    }
}
