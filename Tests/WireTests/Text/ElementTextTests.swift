// Elements of the types that Node has not, as text and back.

import Foundation
import SmallocWire
import Testing
import TestSupport

@Suite("Elements as text", .timed)
struct ElementTextTests {
    private func stored(_ text: String, _ type: ElementType) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0xAA, count: type.size)
        return bytes.withUnsafeMutableBytes { type.store(text: text, at: $0.baseAddress!) }
            ? bytes : nil
    }

    private func printed<Value>(_ value: Value, _ type: ElementType) -> String {
        withUnsafeBytes(of: value) { type.text(at: $0.baseAddress!) }
    }

    private func bytes<Value>(_ value: Value) -> [UInt8] {
        withUnsafeBytes(of: value) { Array($0) }
    }

    @Test("64-bit integers are read as the standard library reads them, and nothing else is")
    func integers() {
        var random = SplitMix(for: "64-bit integers as text")
        for _ in 0..<Scale.count(20_000) {
            var text = ["", "-", "+", "--", "+-"][
                Int(random.next() % 40 < 36 ? random.next() % 3 : random.next() % 5)]
            switch random.next() % 4 {
            case 0: text += "\(Int64(bitPattern: random.next()).magnitude)"
            case 1: text += "\(random.next())"
            case 2:
                // Next to both ends of both ranges.
                let edge: UInt64 = random.next() % 2 == 0 ? 1 << 63 : .max
                text += "\(UInt128(edge) + UInt128(random.next() % 5) - 2)"
            default:
                text += String(
                    (0..<random.next() % 24).map { _ in
                        "0123456789"[random.next() % 30 == 0 ? nil : Int(random.next() % 10)]
                    })
            }
            #expect(
                stored(text, .int64) == Int64(text).map { bytes($0) },
                "\(text), SMALLOC_SEED=\(random.seed)")
            #expect(
                stored(text, .uint64) == UInt64(text).map { bytes($0) },
                "\(text), SMALLOC_SEED=\(random.seed)")
        }
    }

    @Test("64-bit integers are printed as the standard library prints them")
    func printsIntegers() {
        var random = SplitMix(for: "64-bit integers printed")
        var values: [UInt64] = [0, 1, 1 << 53 + 1, 1 << 63 - 1, 1 << 63, .max]
        values += (0..<2000).map { _ in random.next() >> (random.next() % 64) }
        for value in values {
            #expect(printed(value, .uint64) == "\(value)")
            #expect(printed(value, .int64) == "\(Int64(bitPattern: value))")
        }
    }

    @Test("a 64-bit integer has at most 400 characters")
    func longest() {
        #expect(stored(String(repeating: "0", count: 399) + "7", .int64) == bytes(Int64(7)))
        #expect(stored(String(repeating: "0", count: 400) + "7", .int64) == nil)
    }

    @Test(
        "what is no integer is refused, and nothing is stored",
        arguments: [
            "", "-", "+", "1.0", "1.", "1e3", "nan", "inf", "Infinity", "0x1", "1_0", "١", "1,0",
            "true", "1 ", "1\0",
        ])
    func refusesIntegers(_ text: String) {
        for type in [ElementType.int64, .uint64] {
            var value: UInt64 = 42
            #expect(!type.store(text: text, at: &value))
            #expect(value == 42)
        }
    }

    @Test("a Bool is one of four words, in any case")
    func bools() {
        for text in ["0", "false", "False", "FALSE"] { #expect(stored(text, .bool) == [0]) }
        for text in ["1", "true", "True", "tRuE"] { #expect(stored(text, .bool) == [1]) }
        for text in ["", "2", "-1", "+1", "01", "1.0", "yes", "t", "nan", "truee", "true,", "ⅰ"] {
            #expect(stored(text, .bool) == nil, "\(text)")
        }
        #expect(printed(UInt8(0), .bool) == "0")
        for byte in UInt8(1)...255 { #expect(printed(byte, .bool) == "1") }
    }

    @Test("a complex number is two numbers with a comma between them, back and forth")
    func complex() {
        var random = SplitMix(for: "complex numbers as text")
        for _ in 0..<2000 {
            let (real, imaginary) = (random.double(), random.double())
            guard !real.isNaN, !imaginary.isNaN else { continue }
            let text = printed((real, imaginary), .complexDouble)
            let parts = text.split(separator: ",", omittingEmptySubsequences: false)
            #expect(parts.count == 2 && Double(parts[0]) == real && Double(parts[1]) == imaginary)
            #expect(stored(text, .complexDouble) == bytes((real, imaginary)), "\(text)")
            let small = (Float(real), Float(imaginary))
            #expect(stored(printed(small, .complexFloat), .complexFloat) == bytes(small))
        }
        #expect(printed((Float(1.5), Float(-0.0)), .complexFloat) == "1.5,-0")
        #expect(printed((Double.nan, -Double.infinity), .complexDouble) == "NaN,-Infinity")
        for text in ["", ",", "1", "1,", ",1", "1,2,3", "1, 2", "(1,2)", "1+2i", "1;2", "x,1"] {
            #expect(stored(text, .complexDouble) == nil, "\(text)")
            #expect(stored(text, .complexFloat) == nil, "\(text)")
        }
    }

    @Test("every number of 16 bits reads back to the same bits, and no shorter one does")
    func shortFloats() {
        for type in [ElementType.float16, .bfloat16] {
            for bits in UInt16.min...0x7FFF {
                let text = printed(bits, type)
                let value = withUnsafeBytes(of: bits) { type.load(from: $0.baseAddress!) }
                #expect(printed(bits | 0x8000, type) == (value.isNaN ? "NaN" : "-" + text))
                guard !value.isNaN else { continue }
                #expect(stored(text, type) == bytes(bits), "\(type.name) \(text)")
                // The standard library's, which prints whole numbers whole.
                if type == .float16, value <= 2048, value >= 0.0001 || value == 0 {
                    let known = Float16(bitPattern: bits).description
                    #expect(text == (known.hasSuffix(".0") ? String(known.dropLast(2)) : known))
                }
                guard value.isFinite, value > 0, bits % 16 == 5 else { continue }
                let digits = text.prefix { $0 != "e" }.filter { $0 != "." }.drop { $0 == "0" }
                let count = String(digits.reversed().drop { $0 == "0" }).count
                #expect(count <= 5)
                if count > 1 { #expect(!isAnyNear(value, count - 1, bits, type), "\(text)") }
            }
        }
    }

    /// Whether a decimal of so many digits next to a number reads back to its bits.
    ///
    /// The digits are the C library's, which are exact.
    private func isAnyNear(
        _ value: Double, _ count: Int, _ bits: UInt16, _ type: ElementType
    ) -> Bool {
        let parts = String(format: "%.\(count - 1)e", value).split(separator: "e")
        let digits = Int(parts[0].filter { $0 != "." })!
        return (digits - 1...digits + 1).contains { digits in
            digits > 0 && stored("\(digits)e\(Int(parts[1])! - count + 1)", type) == bytes(bits)
        }
    }

    static let printedShort: [(Double, ElementType, String)] = [
        (65_504, .float16, "65500"), (0.0001, .float16, "0.0001"),
        (0.0000999, .float16, "9.99e-05"), (0.00001, .float16, "1e-05"), (6e-8, .float16, "6e-08"),
        (0.1, .float16, "0.1"),
        (256.25, .float16, "256.2"), (256.75, .float16, "256.8"), (-0.0, .float16, "-0"),
        (1000, .bfloat16, "1000"), (16_777_216, .bfloat16, "16800000"),
        (16_908_288, .bfloat16, "1.69e+07"), (3.39e38, .bfloat16, "3.39e+38"),
        (9.2e-41, .bfloat16, "9e-41"), (12.5, .bfloat16, "12.5"), (0.05, .bfloat16, "0.05"),
        (.infinity, .bfloat16, "Infinity"), (-.infinity, .float16, "-Infinity"),
    ]

    @Test("where a point and an exponent stand", arguments: printedShort)
    func prints(_ example: (value: Double, type: ElementType, text: String)) {
        var bits: UInt16 = 0
        example.type.store(example.value, at: &bits)
        #expect(printed(bits, example.type) == example.text)
    }
}

extension String {
    /// The digit at an index; a letter without one.
    fileprivate subscript(index: Int?) -> Character {
        index.map { self[self.index(startIndex, offsetBy: $0)] } ?? "x"
    }
}
