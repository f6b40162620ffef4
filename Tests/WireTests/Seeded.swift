// Seeded randomness for the property tests of this target.

#if canImport(Glibc)
    import Glibc
#endif

/// The SplitMix64 generator. `SMALLOC_SEED` gives the seed, which is printed for the next run.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64

    init(_ test: String) {
        let wanted = getenv("SMALLOC_SEED").flatMap { UInt64(String(cString: $0)) }
        state = wanted ?? UInt64.random(in: .min ... .max)
        print("\(test): SMALLOC_SEED=\(state)")
    }

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }

    /// A double of every kind: random bits, integers, numbers near powers of two, small decimals.
    mutating func double() -> Double {
        switch next() % 6 {
        case 0: Double(bitPattern: next())
        case 1: Double(Int64(bitPattern: next()) >> Int64(next() % 64))
        case 2: Double(sign: .plus, exponent: Int(next() % 200) - 60, significand: 1)
            + Double(Int(next() % 5)) - 2
        case 3: Double(Int(next() % 2_000_001) - 1_000_000) / 4
        case 4: Double(bitPattern: next() & 0x800F_FFFF_FFFF_FFFF)  // subnormal
        default: Double(Int(next() % 2_000_001) - 1_000_000) / 1000
        }
    }
}
