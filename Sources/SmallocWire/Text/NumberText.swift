// Numbers as text: what text mode prints and reads. Every value that binary carries round-trips.

/// Reading and printing numbers.
///
/// Source: protocol/spec.md § 6.2 and § 6.3.
public enum NumberText {
    /// Characters of a number at most.
    static let sizeMax = 400

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
            guard bytes.count <= sizeMax else { return nil }
            let sign = bytes.first
            let negative = sign == UInt8(ascii: "-")
            let skipped = negative || sign == UInt8(ascii: "+") ? 1 : 0
            let magnitude = UnsafeRawBufferPointer(rebasing: bytes[skipped...])
            guard let decimal = Decimal(magnitude) else {
                return special(magnitude, negative)
            }
            if let value = decimal.exact { return negative ? -value : value }
            return Double(String(decoding: bytes, as: UTF8.self))
        }
    }

    /// What is no decimal number and a number all the same.
    private static func special(_ word: UnsafeRawBufferPointer, _ negative: Bool) -> Double? {
        guard word.count == 3 || word.count == 8 else { return nil }
        switch String(decoding: word, as: UTF8.self).lowercased() {
        case "nan": return .nan
        case "infinity", "inf": return negative ? -.infinity : .infinity
        default: return nil
        }
    }

    /// `digits [. digits] [e [sign] digits]`, with digits on at least one side of the point.
    ///
    /// Looked at by ourselves, because the standard library also takes hexadecimal and other
    /// spellings, and because it takes a microsecond for each, and a line has up to a million.
    private struct Decimal {
        /// The digits as a number, if they fit.
        private var digits: UInt64? = 0
        /// Power of ten to multiply by.
        private var exponent = 0

        /// Nil: it is none.
        @inline(__always)
        init?(_ bytes: UnsafeRawBufferPointer) {
            var index = 0
            var count = 0
            while index < bytes.count, let digit = Decimal.digit(bytes[index]) {
                append(digit)
                index += 1
                count += 1
            }
            if index == bytes.count {
                if count > 0 { return }
                return nil
            }
            if bytes[index] == UInt8(ascii: ".") {
                index += 1
                let first = index
                while index < bytes.count, let digit = Decimal.digit(bytes[index]) {
                    append(digit)
                    index += 1
                }
                count += index - first
                exponent = first - index
            }
            guard count > 0 else { return nil }
            if index == bytes.count { return }
            guard bytes[index] | 0x20 == UInt8(ascii: "e"),
                scale(by: UnsafeRawBufferPointer(rebasing: bytes[(index + 1)...]))
            else { return nil }
        }

        /// The value, if one multiplication or division of exact numbers gives it, which rounds
        /// it as it has to be.
        var exact: Double? {
            guard let digits, digits <= 1 << 53 else { return nil }
            if exponent == 0 { return Double(digits) }
            guard abs(exponent) <= 22 else { return nil }
            // Powers of ten up to the 22nd are exact.
            var power = 1.0
            for _ in 0..<abs(exponent) { power *= 10 }
            return exponent < 0 ? Double(digits) / power : Double(digits) * power
        }

        @inline(__always)
        private static func digit(_ byte: UInt8) -> UInt64? {
            byte >= 0x30 && byte <= 0x39 ? UInt64(byte &- 0x30) : nil
        }

        @inline(__always)
        private mutating func append(_ digit: UInt64) {
            guard let value = digits else { return }
            digits = value <= (UInt64.max - 9) / 10 ? value * 10 + digit : nil
        }

        /// False: it is no exponent.
        private mutating func scale(by bytes: UnsafeRawBufferPointer) -> Bool {
            let negative = bytes.first == UInt8(ascii: "-")
            let skipped = negative || bytes.first == UInt8(ascii: "+") ? 1 : 0
            guard bytes.count > skipped else { return false }
            var value = 0
            for byte in bytes[skipped...] {
                guard let digit = Decimal.digit(byte) else { return false }
                // More than counts here, and no overflow.
                value = min(value * 10 + Int(digit), 10_000)
            }
            exponent += negative ? -value : value
            return true
        }
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
