import SmallocWire
import Testing
import TestSupport

@Suite("Element types", .timed)
struct ElementTypeTests {
    /// The bits that a store leaves in memory, zero-extended.
    private func stored(_ value: Double, as type: ElementType) -> UInt64 {
        var bits: UInt64 = 0
        withUnsafeMutableBytes(of: &bits) { type.store(value, at: $0.baseAddress!) }
        return UInt64(littleEndian: bits)
    }

    private func storedAndLoaded(_ value: Double, as type: ElementType) -> Double {
        var bits: UInt64 = 0
        return withUnsafeMutableBytes(of: &bits) {
            type.store(value, at: $0.baseAddress!)
            return type.load(from: $0.baseAddress!)
        }
    }

    @Test("numbers, names and sizes, of which the first nine are Node's")
    func table() {
        let expected: [(ElementType, UInt8, String, Int)] = [
            (.int8, 1, "Int8", 1), (.uint8, 2, "Uint8", 1), (.int16, 3, "Int16", 2),
            (.uint16, 4, "Uint16", 2), (.int32, 5, "Int32", 4), (.uint32, 6, "Uint32", 4),
            (.float, 7, "Float", 4), (.double, 8, "Double", 8),
            (.uint8Clamped, 9, "Uint8Clamped", 1), (.int64, 10, "Int64", 8),
            (.uint64, 11, "Uint64", 8), (.float16, 12, "Float16", 2),
            (.bfloat16, 13, "Bfloat16", 2), (.bool, 14, "Bool", 1),
            (.complexFloat, 15, "ComplexFloat", 8), (.complexDouble, 16, "ComplexDouble", 16),
        ]
        #expect(ElementType.allCases.count == 16)
        for (type, number, name, size) in expected {
            #expect(type.rawValue == number)
            #expect(type.name == name)
            #expect(type.size == size)
            #expect(1 << type.shift == size)
        }
        for number in UInt8.min...UInt8.max {
            #expect(ElementType(wire: number) == ElementType(rawValue: number))
        }
        #expect(ElementType(rawValue: 0) == nil)
        #expect(ElementType(rawValue: 17) == nil)
    }

    @Test("a type is found by its name in any case, and by its number")
    func named() {
        for type in ElementType.allCases {
            #expect(ElementType(named: type.name) == type)
            #expect(ElementType(named: type.name.uppercased()) == type)
            #expect(ElementType(named: type.name.lowercased()) == type)
            #expect(ElementType(named: "\(type.rawValue)") == type)
        }
        for word in ["", "0", "17", "01", "+1", "Int", "Int128", "Uint8 ", "u8", "Float32", "é"] {
            #expect(ElementType(named: word) == nil)
        }
    }

    static let integerExamples: [(Double, ElementType, Int64)] = [
        (300, .int8, 44), (-1, .uint16, 65_535), (4_294_967_296, .uint32, 0),
        (9_223_372_036_854_777_856, .int16, 2048), (1e20, .int32, 1_661_992_960),
        (127, .int8, 127), (128, .int8, -128), (-128, .int8, -128), (-129, .int8, 127),
        (255, .uint8, 255), (256, .uint8, 0), (-1, .uint8, 255), (-256, .uint8, 0),
        (32_768, .int16, -32_768), (-32_769, .int16, 32_767), (65_536, .uint16, 0),
        (2_147_483_648, .int32, -2_147_483_648), (-2_147_483_649, .int32, 2_147_483_647),
        (-1, .uint32, 4_294_967_295), (-4_294_967_296, .uint32, 0),
        (1.9, .int32, 1), (-1.9, .int32, -1), (-0.9, .uint32, 0), (0.999999, .uint8, 0),
        (-1.5, .uint8, 255), (255.999, .uint8, 255), (-0.0, .int32, 0),
        (.nan, .int8, 0), (.nan, .uint32, 0), (.infinity, .int16, 0), (-.infinity, .uint8, 0),
        (.infinity, .int32, 0), (-.infinity, .uint32, 0), (.greatestFiniteMagnitude, .int32, 0),
        (.leastNonzeroMagnitude, .int8, 0), (-1e20, .int32, -1_661_992_960),
        (18_446_744_073_709_551_616, .uint32, 0), (9_007_199_254_740_994, .uint8, 2),
    ]

    @Test("integer types truncate toward zero and keep the low bits", arguments: integerExamples)
    func integers(_ example: (value: Double, type: ElementType, result: Int64)) {
        #expect(storedAndLoaded(example.value, as: example.type) == Double(example.result))
    }

    static let clampedExamples: [(Double, UInt8)] = [
        (0.5, 0), (1.5, 2), (2.5, 2), (254.5, 254), (253.5, 254), (255, 255), (255.5, 255),
        (256, 255), (1e300, 255), (-1, 0), (-0.0, 0), (-0.5, 0), (0.51, 1), (0.49, 0),
        (.nan, 0), (.infinity, 255), (-.infinity, 0), (254.50001, 255), (127.5, 128),
        (.leastNonzeroMagnitude, 0), (254.999, 255),
    ]

    @Test("Uint8Clamped clamps, and rounds ties to even", arguments: clampedExamples)
    func clamped(_ example: (value: Double, result: UInt8)) {
        #expect(stored(example.value, as: .uint8Clamped) == UInt64(example.result))
    }

    @Test("Uint8Clamped rounds every quarter between -2 and 258 as an independent rule does")
    func clampedQuarters() {
        for quarter in -8...(258 * 4) {
            let value = Double(quarter) / 4
            let whole = Int(value.rounded(.down))
            let rest = value - Double(whole)
            let up = rest > 0.5 || (rest == 0.5 && whole % 2 != 0)
            let expected = min(255, max(0, whole + (up ? 1 : 0)))
            #expect(stored(value, as: .uint8Clamped) == UInt64(expected), "\(value)")
        }
    }

    @Test("Float rounds to the nearest, keeps subnormals and -0, overflows to infinity")
    func floats() {
        #expect(stored(0.1, as: .float) == UInt64(Float(0.1).bitPattern))
        #expect(stored(-0.0, as: .float) == 0x8000_0000)
        #expect(stored(3.5e38, as: .float) == UInt64(Float.infinity.bitPattern))
        #expect(stored(-1e300, as: .float) == UInt64((-Float.infinity).bitPattern))
        #expect(stored(1e-45, as: .float) == 1)
        #expect(stored(1e-46, as: .float) == 0)
        #expect(stored(16_777_217, as: .float) == UInt64(Float(16_777_216).bitPattern))
        #expect(stored(16_777_219, as: .float) == UInt64(Float(16_777_220).bitPattern))
        #expect(storedAndLoaded(.nan, as: .float).isNaN)
        #expect(stored(.nan, as: .float) == 0x7FC0_0000)
    }

    @Test("Double keeps every bit, that of -0 and of subnormals too")
    func doubles() {
        for value in [
            -0.0, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, 0.1, .infinity, -.infinity,
            1.7976931348623157e308,
        ] {
            #expect(stored(value, as: .double) == value.bitPattern)
        }
        #expect(stored(.nan, as: .double) == 0x7FF8_0000_0000_0000)
    }

    /// The low 32 bits of a truncated number, by long division of its digits in binary: the
    /// significand is shifted, never divided.
    private func lowBits(_ value: Double) -> UInt32 {
        guard value.isFinite, value.magnitude >= 1 else { return 0 }
        let significand = UInt64(value.significandBitPattern) | 1 << 52
        let shift = Int(value.exponent) - 52
        let magnitude: UInt64 =
            shift >= 64
            ? 0 : shift >= 0 ? significand << UInt64(shift) : significand >> UInt64(-shift)
        let low = UInt32(truncatingIfNeeded: magnitude)
        return value < 0 ? ~low &+ 1 : low
    }

    @Test("random numbers are stored as an independent formula says")
    func random() {
        var random = SplitMix(for: "element stores")
        for _ in 0..<20_000 {
            let value = random.double()
            let low = lowBits(value)
            #expect(storedAndLoaded(value, as: .int8) == Double(Int8(truncatingIfNeeded: low)))
            #expect(storedAndLoaded(value, as: .uint8) == Double(UInt8(truncatingIfNeeded: low)))
            #expect(storedAndLoaded(value, as: .int16) == Double(Int16(truncatingIfNeeded: low)))
            #expect(storedAndLoaded(value, as: .uint16) == Double(UInt16(truncatingIfNeeded: low)))
            #expect(storedAndLoaded(value, as: .int32) == Double(Int32(truncatingIfNeeded: low)))
            #expect(storedAndLoaded(value, as: .uint32) == Double(low))
            if !value.isNaN { #expect(stored(value, as: .double) == value.bitPattern) }
        }
    }

    @Test("neither store nor load needs alignment, and a store touches its own bytes only")
    func unaligned() {
        for type in ElementType.allCases {
            for offset in 1...8 {
                var memory = [UInt8](repeating: 0xAA, count: 32)
                memory.withUnsafeMutableBytes { bytes in
                    type.store(1, at: bytes.baseAddress! + offset)
                    #expect(type.load(from: bytes.baseAddress! + offset) == 1)
                }
                let outside = memory[..<offset] + memory[(offset + type.size)...]
                #expect(outside.allSatisfy { $0 == 0xAA }, "\(type) at \(offset)")
            }
        }
    }
}
