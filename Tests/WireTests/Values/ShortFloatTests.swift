// Float16 against the standard library's, Bfloat16 against a search through all of its numbers.

import SmallocWire
import Testing
import TestSupport

@Suite("Floating point of 16 bits", .timed)
struct ShortFloatTests {
    private func stored(_ value: Double, _ type: ElementType) -> UInt16 {
        var bits: UInt16 = 0
        type.store(value, at: &bits)
        return bits
    }

    private func loaded(_ bits: UInt16, _ type: ElementType) -> Double {
        withUnsafeBytes(of: bits) { type.load(from: $0.baseAddress!) }
    }

    /// All that is positive and finite, in its order: the bits of a Float's upper half.
    private static let bfloats = (UInt16(0)..<0x7F80).map {
        Double(Float(bitPattern: UInt32($0) << 16))
    }

    @Test("every pattern is loaded as the number that it is, and stored as itself")
    func allPatterns() {
        for bits in UInt16.min...UInt16.max {
            let half = Float16(bitPattern: bits)
            let wide = Float(bitPattern: UInt32(bits) << 16)
            if half.isNaN {
                #expect(loaded(bits, .float16).isNaN)
            } else {
                #expect(loaded(bits, .float16).bitPattern == Double(half).bitPattern)
                #expect(stored(Double(half), .float16) == bits)
            }
            if wide.isNaN {
                #expect(loaded(bits, .bfloat16).isNaN)
            } else {
                #expect(loaded(bits, .bfloat16).bitPattern == Double(wide).bitPattern)
                #expect(stored(Double(wide), .bfloat16) == bits)
            }
        }
        for value in [Double.nan, -.nan, .signalingNaN, Double(bitPattern: 0xFFF8_0000_0000_0001)] {
            #expect(stored(value, .float16) == 0x7E00)
            #expect(stored(value, .bfloat16) == 0x7FC0)
        }
    }

    @Test(
        "the middle between any two neighbours goes to the even one, and its own neighbours don't")
    func ties() {
        for (type, last) in [(ElementType.float16, UInt16(0x7C00)), (.bfloat16, 0x7F80)] {
            for bits in 0..<last {
                let low = loaded(bits, type)
                // As if the exponent went on, where the next one is infinity.
                let high =
                    bits + 1 < last ? loaded(bits + 1, type) : 2 * low - loaded(bits - 1, type)
                let middle = (low + high) / 2
                let even = bits % 2 == 0 ? bits : bits + 1
                #expect(stored(middle, type) == even, "\(type.name) \(bits)")
                #expect(stored(middle.nextDown, type) == bits, "\(type.name) \(bits)")
                #expect(stored(middle.nextUp, type) == bits + 1, "\(type.name) \(bits)")
                #expect(stored(-middle, type) == even | 0x8000, "\(type.name) \(bits)")
            }
        }
    }

    @Test("random numbers go to the nearest")
    func random() {
        var random = SplitMix(for: "floats of 16 bits")
        for _ in 0..<20_000 {
            var value = random.double()
            if random.next() % 2 == 0 {
                // Most others are out of the range of both.
                let exponent = Int.random(in: -150...140, using: &random)
                value = Double(
                    sign: .plus, exponent: exponent,
                    significand: 1 + Double.random(in: 0..<1, using: &random))
            }
            guard !value.isNaN else { continue }
            #expect(
                stored(value, .float16) == Float16(value).bitPattern,
                "\(value), SMALLOC_SEED=\(random.seed)")
            #expect(
                stored(value, .bfloat16) == nearest(value), "\(value), SMALLOC_SEED=\(random.seed)")
        }
    }

    /// By halving the list of all numbers.
    private func nearest(_ value: Double) -> UInt16 {
        let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
        let all = ShortFloatTests.bfloats
        let size = value.magnitude
        // A half step beyond the last one.
        if size >= 0x1.FFp127 { return sign | 0x7F80 }
        var low = 0
        var high = all.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if all[middle] <= size { low = middle } else { high = middle }
        }
        guard low + 1 < all.count else { return sign | UInt16(low) }
        let (below, above) = (size - all[low], all[low + 1] - size)
        let isUp = above < below || above == below && low % 2 == 1
        return sign | UInt16(isUp ? low + 1 : low)
    }
}
