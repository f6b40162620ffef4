// Floating-point types of 16 bits: what is stored for a number, and the number that is stored.

/// A layout of 16 bits: a sign, an exponent, and a fraction.
///
/// Both are converted by the same lines, whether or not the processor knows the type.
@usableFromInline
struct ShortFloat: Sendable {
    /// Bits of the fraction; those of the exponent are the rest but the sign.
    private let fractionSize: Int
    /// Exponent of the least normal number.
    private let exponentMin: Int

    /// IEEE 754 binary16.
    @usableFromInline static var float16: ShortFloat {
        ShortFloat(fractionSize: 10, exponentMin: -14)
    }
    /// The upper half of a binary32.
    @usableFromInline static var bfloat16: ShortFloat {
        ShortFloat(fractionSize: 7, exponentMin: -126)
    }

    private var infinity: UInt16 { 0x7FFF & ~(1 << UInt16(fractionSize) - 1) }

    /// The bits of the nearest number, ties to even; too large is infinity.
    ///
    /// NaN is always the same: positive, quiet, with no other bit.
    @usableFromInline
    func bits(_ value: Double) -> UInt16 {
        let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
        guard !value.isNaN else { return infinity | 1 << UInt16(fractionSize - 1) }
        guard value.isFinite else { return sign | infinity }
        // What is less than any normal Double is 0 here, too.
        guard value.isNormal else { return sign }
        let exponent = Int(value.exponent)
        let significand = value.significandBitPattern | 1 << 52
        let least = max(exponent, exponentMin)
        // Bits of the significand that there is no room for.
        let dropped = 52 - fractionSize + least - exponent
        guard dropped <= 53 else { return sign }
        let half: UInt64 = 1 << UInt64(dropped - 1)
        let rest = significand & (half << 1 &- 1)
        var kept = significand >> UInt64(dropped)
        if rest > half || rest == half && kept & 1 == 1 { kept += 1 }
        // A normal number's first bit adds 1 to the exponent, as does a carry.
        let bits = UInt64(least - exponentMin) << UInt64(fractionSize) + kept
        return sign | UInt16(min(bits, UInt64(infinity)))
    }

    /// The number that the bits are; exact.
    @usableFromInline
    func value(_ bits: UInt16) -> Double {
        let sign: FloatingPointSign = bits & 0x8000 == 0 ? .plus : .minus
        let magnitude = bits & 0x7FFF
        if magnitude >= infinity {
            let value = magnitude > infinity ? Double.nan : Double.infinity
            return sign == .minus ? -value : value
        }
        let biased = Int(magnitude >> UInt16(fractionSize))
        let fraction = magnitude & (1 << UInt16(fractionSize) - 1)
        let significand = biased == 0 ? fraction : fraction | 1 << UInt16(fractionSize)
        return Double(
            sign: sign, exponent: max(biased - 1, 0) + exponentMin - fractionSize,
            significand: Double(significand))
    }
}
