// Seeded randomness: a test that failed can be run again with the same numbers.

import Foundation

/// The SplitMix64 generator: small, fast, the same everywhere.
///
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
public struct SplitMix: RandomNumberGenerator, Sendable {
    /// What this generator started from.
    public let seed: UInt64
    private var state: UInt64

    /// A generator that always gives the same numbers for the same seed.
    public init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    /// A generator seeded by `SMALLOC_SEED`, else by chance. Prints the seed, for the next run.
    public init(for test: String) {
        let wanted = ProcessInfo.processInfo.environment["SMALLOC_SEED"].flatMap { UInt64($0) }
        self.init(seed: wanted ?? UInt64.random(in: 0...UInt64.max))
        print("\(test): SMALLOC_SEED=\(seed)")
    }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// So many random bytes.
    public mutating func bytes(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 8)
        while bytes.count < count {
            withUnsafeBytes(of: next()) { bytes.append(contentsOf: $0) }
        }
        bytes.removeLast(bytes.count - count)
        return bytes
    }
}
