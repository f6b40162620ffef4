// Numbers as text: what text mode prints and reads. Every value that binary carries round-trips.

/// Reading and printing numbers.
///
/// Source: protocol/spec.md § 6.2 and § 6.3.
public enum NumberText {
    /// An index, count or length: decimal digits with an optional sign.
    ///
    /// Negative and over-large ones become `UInt64.max`, so that they fail as over-large ones do.
    /// Nil: not a whole decimal number.
    public static func index(_ word: RawSpan) -> UInt64? {
        word.withUnsafeBytes { bytes -> UInt64? in
            var digits = bytes[...]
            let sign = digits.first
            if sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") {
                digits = digits.dropFirst()
            }
            guard !digits.isEmpty else { return nil }
            var value: UInt64 = 0
            var saturated = false
            for byte in digits {
                guard byte >= 0x30, byte <= 0x39 else { return nil }
                let (product, carried) = value.multipliedReportingOverflow(by: 10)
                let (sum, spilled) = product.addingReportingOverflow(UInt64(byte &- 0x30))
                saturated = saturated || carried || spilled
                value = sum
            }
            if saturated { return .max }
            return sign == UInt8(ascii: "-") && value != 0 ? .max : value
        }
    }

    /// A number: decimal digits with optional sign, fraction and exponent; `NaN`, `Infinity` and
    /// `inf` in any case, with optional sign.
    ///
    /// Nil: none of these.
    public static func number(_ word: RawSpan) -> Double? {
        word.withUnsafeBytes { bytes -> Double? in
            if let whole = smallInteger(bytes) { return whole }
            guard bytes.count <= 400 else { return nil }
            let text = String(decoding: bytes, as: UTF8.self)
            var magnitude = text[...]
            let negative = magnitude.hasPrefix("-")
            if negative || magnitude.hasPrefix("+") { magnitude = magnitude.dropFirst() }
            switch magnitude.lowercased() {
            case "nan": return .nan
            case "infinity", "inf": return negative ? -.infinity : .infinity
            default: break
            }
            guard isDecimal(magnitude.utf8) else { return nil }
            return Double(text)
        }
    }

    /// Up to 15 digits are exact as a double without any parsing library; most of what people type.
    private static func smallInteger(_ bytes: UnsafeRawBufferPointer) -> Double? {
        guard bytes.count >= 1, bytes.count <= 15 else { return nil }
        var value = 0.0
        for byte in bytes {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            value = value * 10 + Double(byte &- 0x30)
        }
        return value
    }

    /// `digits [. digits] [e [sign] digits]`, with digits on at least one side of the point.
    ///
    /// Checked because the standard library also takes hexadecimal and other spellings.
    private static func isDecimal(_ text: Substring.UTF8View) -> Bool {
        var rest = text
        func dropDigits() -> Int {
            let before = rest.count
            rest = rest.drop { $0 >= 0x30 && $0 <= 0x39 }
            return before - rest.count
        }
        var digits = dropDigits()
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            digits += dropDigits()
        }
        guard digits > 0 else { return false }
        if let byte = rest.first, byte | 0x20 == UInt8(ascii: "e") {
            rest = rest.dropFirst()
            if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") {
                rest = rest.dropFirst()
            }
            guard dropDigits() > 0 else { return false }
        }
        return rest.isEmpty
    }

    /// Prints the element at `source`: the shortest decimal that reads back to the same value.
    public static func print(_ type: ElementType, at source: UnsafeRawPointer, to out: inout Output)
    {
        switch type {
        case .int8: print(Int64(source.loadUnaligned(as: Int8.self)), to: &out)
        case .uint8, .uint8Clamped: print(Int64(source.loadUnaligned(as: UInt8.self)), to: &out)
        case .int16: print(Int64(source.loadUnaligned(as: Int16.self)), to: &out)
        case .uint16: print(Int64(source.loadUnaligned(as: UInt16.self)), to: &out)
        case .int32: print(Int64(source.loadUnaligned(as: Int32.self)), to: &out)
        case .uint32: print(Int64(source.loadUnaligned(as: UInt32.self)), to: &out)
        case .float:
            let value = source.loadUnaligned(as: Float.self)
            print(finite: value.isFinite ? value.description : nil, Double(value), to: &out)
        case .double:
            let value = source.loadUnaligned(as: Double.self)
            print(finite: value.isFinite ? value.description : nil, value, to: &out)
        }
    }

    /// Prints a whole number in decimal.
    public static func print(_ value: Int64, to out: inout Output) {
        if value < 0 { out.append(UInt8(ascii: "-")) }
        var rest = value.magnitude
        var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)  // 20 digits fit in 24 bytes.
        withUnsafeMutableBytes(of: &digits) { buffer in
            var first = buffer.count
            repeat {
                first -= 1
                buffer[first] = UInt8(truncatingIfNeeded: 0x30 + rest % 10)
                rest /= 10
            } while rest != 0
            for index in first..<buffer.count { out.append(buffer[index]) }
        }
    }

    /// A double as text mode prints it: `4`, `-0`, `0.1`, `1e+16`, `NaN`, `Infinity`.
    public static func text(_ value: Double) -> String {
        var out = Output(capacity: 32)
        withUnsafeBytes(of: value) { bytes in
            guard let start = bytes.baseAddress else { return }
            print(.double, at: start, to: &out)
        }
        return String(decoding: out.bytes, as: UTF8.self)
    }

    private static func print(finite: String?, _ value: Double, to out: inout Output) {
        if let finite {
            out.append(finite.hasSuffix(".0") ? String(finite.dropLast(2)) : finite)
        } else {
            out.append(value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity")
        }
    }
}
