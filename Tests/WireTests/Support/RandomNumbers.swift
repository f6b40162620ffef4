import TestSupport

extension SplitMix {
    /// A double of every kind: random bits, integers, numbers near powers of two, small decimals.
    mutating func double() -> Double {
        switch next() % 6 {
        case 0: Double(bitPattern: next())
        case 1: Double(Int64(bitPattern: next()) >> Int64(next() % 64))
        case 2:
            Double(sign: .plus, exponent: Int(next() % 200) - 60, significand: 1)
                + Double(Int(next() % 5)) - 2
        case 3: Double(Int(next() % 2_000_001) - 1_000_000) / 4
        case 4: Double(bitPattern: next() & 0x800F_FFFF_FFFF_FFFF)  // subnormal
        default: Double(Int(next() % 2_000_001) - 1_000_000) / 1000
        }
    }
}
