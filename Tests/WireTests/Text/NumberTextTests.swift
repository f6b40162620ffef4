import SmallocWire
import Testing
import TestSupport

@Suite("Numbers as text", .timed)
struct NumberTextTests {
    private func number(_ text: String) -> Double? { withSpan(text) { NumberText.number($0) } }
    private func index(_ text: String) -> UInt64? { withSpan(text) { NumberText.index($0) } }

    private func printed<Value>(_ value: Value, _ type: ElementType) -> String {
        var out = Output(capacity: 8)
        withUnsafeBytes(of: value) { NumberText.print(type, at: $0.baseAddress!, to: &out) }
        return String(decoding: out.bytes, as: UTF8.self)
    }

    static let printedDoubles: [(Double, String)] = [
        (4, "4"), (-0.0, "-0"), (0, "0"), (0.1, "0.1"), (-2.5, "-2.5"), (0.0001, "0.0001"),
        (0.00001, "1e-05"), (1.5e-7, "1.5e-07"), (1e15, "1000000000000000"),
        (9_007_199_254_740_992, "9007199254740992"),
        (9_007_199_254_740_994, "9.007199254740994e+15"),
        (1e16, "1e+16"), (1e300, "1e+300"), (.leastNonzeroMagnitude, "5e-324"), (.nan, "NaN"),
        (.infinity, "Infinity"), (-.infinity, "-Infinity"),
        (1.7976931348623157e308, "1.7976931348623157e+308"), (100, "100"), (-1e22, "-1e+22"),
    ]

    @Test("doubles are printed as the specification says", arguments: printedDoubles)
    func printsDoubles(_ example: (value: Double, text: String)) {
        #expect(printed(example.value, .double) == example.text)
        #expect(NumberText.text(example.value) == example.text)
    }

    @Test("floats are printed with the fewest digits that give the same float")
    func printsFloats() {
        #expect(printed(Float(0.1), .float) == "0.1")
        #expect(printed(Float(16_777_216), .float) == "16777216")
        #expect(printed(Float(16_777_218), .float) == "1.6777218e+07")
        #expect(printed(-Float.zero, .float) == "-0")
        #expect(printed(Float.leastNonzeroMagnitude, .float) == "1e-45")
        #expect(printed(-Float.infinity, .float) == "-Infinity")
        #expect(printed(Float.nan, .float) == "NaN")
        #expect(printed(-Float.nan, .float) == "NaN")
    }

    @Test("integers are printed whole at both ends of their range")
    func printsIntegers() {
        #expect(printed(Int8.min, .int8) == "-128")
        #expect(printed(UInt8.max, .uint8) == "255")
        #expect(printed(UInt8.max, .uint8Clamped) == "255")
        #expect(printed(Int16.min, .int16) == "-32768")
        #expect(printed(UInt16.max, .uint16) == "65535")
        #expect(printed(Int32.min, .int32) == "-2147483648")
        #expect(printed(UInt32.max, .uint32) == "4294967295")
        for value in [Int64.min, -1, 0, 9, 10, 99, 100, Int64.max] {
            var out = Output(capacity: 1)
            NumberText.print(value, to: &out)
            #expect(String(decoding: out.bytes, as: UTF8.self) == "\(value)")
        }
    }

    static let readDoubles: [(String, Double)] = [
        ("0", 0), ("-0", -0.0), ("+5", 5), ("007", 7), ("1.", 1), (".5", 0.5), ("-.5", -0.5),
        ("1e3", 1000), ("1E+3", 1000), ("1.5e-3", 0.0015), ("999999999999999", 999_999_999_999_999),
        ("9007199254740993", 9_007_199_254_740_992), ("18446744073709551616", 0x1p64),
        ("1e400", .infinity), ("-1e400", -.infinity), ("1e-400", 0),
        ("5e-324", .leastNonzeroMagnitude),
        ("2.4703282292062327e-324", 0), ("Infinity", .infinity), ("-infinity", -.infinity),
        ("+INF", .infinity), ("inf", .infinity), ("0.1", 0.1), ("0e0", 0), ("1e00001", 10),
    ]

    @Test("numbers are read as JavaScript reads them", arguments: readDoubles)
    func reads(_ example: (text: String, value: Double)) {
        #expect(number(example.text)?.bitPattern == example.value.bitPattern)
    }

    @Test("NaN is read in any case and with any sign, always as the same")
    func readsNaN() {
        for text in ["nan", "NaN", "-NAN", "+nan"] {
            #expect(number(text)?.bitPattern == Double.nan.bitPattern)
        }
    }

    @Test("decimals are read as the standard library reads them, however long they are")
    func readsAnyDecimal() {
        var random = SplitMix(for: "decimals")
        for _ in 0..<20_000 {
            func digits(_ count: Int) -> String {
                String((0..<count).map { _ in "0123456789".randomElement(using: &random)! })
            }
            let whole = Int.random(in: 0...20, using: &random)
            var text = ["", "-", "+"].randomElement(using: &random)! + digits(whole)
            if whole == 0 || Bool.random(using: &random) {
                text += "." + digits(Int.random(in: (whole == 0 ? 1 : 0)...20, using: &random))
            }
            if Bool.random(using: &random) {
                text += "e\(Int.random(in: -40...40, using: &random))"
            }
            #expect(
                number(text)?.bitPattern == Double(text)?.bitPattern,
                "\(text), SMALLOC_SEED=\(random.seed)")
        }
    }

    @Test(
        "what is no number is refused",
        arguments: [
            "", "-", "+", ".", "-.", "e5", "1e", "1e+", "1e5.5", "1..2", "1.2.3", "--1", "+-1",
            "0x10", "0x1p3", "0b1", "1_000", "1,5", "1f", "nan(1)", "snan", "infinit", "infinityy",
            "١", "1e5e5", "1 ", " 1", "1\0", "½", "NaN1", "true", "1-", "∞",
        ])
    func refuses(_ text: String) { #expect(number(text) == nil) }

    @Test("exponents of any number of digits are read as the standard library reads them")
    func exponents() {
        for digits in 1...390 {
            for sign in ["", "+", "-"] {
                for first in ["0", "1", "9"] {
                    let exponent = first + String(repeating: "9", count: digits - 1)
                    for mantissa in ["1", "0", "12.5", "-7"] {
                        let text = "\(mantissa)e\(sign)\(exponent)"
                        guard text.utf8.count <= 400 else { continue }
                        #expect(number(text) == Double(text), "\(text)")
                    }
                }
            }
        }
    }

    @Test("bytes that are no UTF-8 are refused")
    func refusesNoise() {
        #expect(withSpan([0xFF, 0x31]) { NumberText.number($0) } == nil)
        #expect(withSpan([0x31, 0xC3]) { NumberText.number($0) } == nil)
    }

    @Test("a number has at most 400 characters")
    func longest() {
        #expect(number(String(repeating: "0", count: 399) + "1") == 1)
        #expect(number(String(repeating: "0", count: 400) + "1") == nil)
        #expect(number("0." + String(repeating: "3", count: 398)) == 1.0 / 3)
    }

    static let indices: [(String, UInt64?)] = [
        ("0", 0), ("1", 1), ("+7", 7), ("0000012", 12), ("-0", 0), ("-1", .max), ("-00001", .max),
        ("18446744073709551614", .max - 1), ("18446744073709551615", .max),
        ("18446744073709551616", .max), ("99999999999999999999999999", .max),
        ("-99999999999999999999999999", .max), ("", nil), ("+", nil), ("-", nil), ("1.0", nil),
        ("1e3", nil), ("NaN", nil), ("0x1", nil), ("1 ", nil), ("--1", nil), ("٣", nil),
        ("18446744073709551616x", nil), ("184467440737095516150", .max),
        ("184467440737095516160", .max),
    ]

    @Test("indices saturate, negative ones too; fractions and junk are none", arguments: indices)
    func readsIndices(_ example: (text: String, value: UInt64?)) {
        #expect(index(example.text) == example.value)
    }

    @Test("an index of any number of digits saturates, and never wraps to a small one")
    func neverWraps() {
        for digits in 20...60 {
            for digit in ["1", "2", "9"] {
                #expect(index(digit + String(repeating: "0", count: digits)) == .max)
            }
        }
    }

    @Test("every random double reads back to the same bits from what is printed")
    func doublesRoundTrip() {
        var random = SplitMix(for: "doubles as text")
        for _ in 0..<10_000 {
            let value = random.double()
            let text = printed(value, .double)
            let back = number(text)
            if value.isNaN {
                #expect(back?.isNaN == true)
            } else {
                #expect(back?.bitPattern == value.bitPattern, "\(text)")
                #expect(text.utf8.count <= 24)
            }
        }
    }

    @Test("every random float reads back to the same bits from what is printed")
    func floatsRoundTrip() {
        var random = SplitMix(for: "floats as text")
        for _ in 0..<10_000 {
            let bits = UInt32(truncatingIfNeeded: random.next())
            let masked = random.next() % 4 == 0 ? bits & 0x807F_FFFF : bits  // subnormals too
            let value = Float(bitPattern: masked)
            guard !value.isNaN else { continue }
            let text = printed(value, .float)
            #expect(number(text).map { Float($0).bitPattern } == masked, "\(text)")
        }
    }
}
