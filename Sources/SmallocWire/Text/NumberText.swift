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

    /// Digits and nothing else; over 2^64-1 is 2^64-1.
    public static func digits(_ word: RawSpan) -> UInt64? {
        let isSigned = word.withUnsafeBytes { $0.first.map { !(0x30...0x39).contains($0) } ?? true }
        return isSigned ? nil : index(word)
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

    // MARK: Elements

    /// Writes a word as one element at `target`, which needs no alignment.
    ///
    /// - Returns: False: it is no number of this type, and nothing is written.
    @inline(__always)
    public static func store(
        _ word: RawSpan, as type: ElementType, at target: UnsafeMutableRawPointer
    ) -> Bool {
        guard type.isDouble, type != .bool else { return storeExact(word, as: type, at: target) }
        guard let number = number(word) else { return false }
        type.store(number, at: target)
        return true
    }

    /// The same for the types that no Double is stored in.
    @inline(never)
    private static func storeExact(
        _ word: RawSpan, as type: ElementType, at target: UnsafeMutableRawPointer
    ) -> Bool {
        switch type {
        case .bool:
            guard word.byteCount <= 5 else { return false }
            switch word.text.lowercased() {
            case "0", "false": target.storeBytes(of: 0, as: UInt8.self)
            case "1", "true": target.storeBytes(of: 1, as: UInt8.self)
            default: return false
            }
        case .int64:
            guard let value = whole(word, Int64.self) else { return false }
            target.storeBytes(of: value, as: Int64.self)
        case .uint64:
            guard let value = whole(word, UInt64.self) else { return false }
            target.storeBytes(of: value, as: UInt64.self)
        default:
            let comma = word.withUnsafeBytes { $0.firstIndex(of: UInt8(ascii: ",")) }
            guard let comma, let real = number(word.extracting(first: comma)),
                let imaginary = number(word.extracting(droppingFirst: comma + 1))
            else { return false }
            let part: ElementType = type == .complexFloat ? .float : .double
            part.store(real, at: target)
            part.store(imaginary, at: target + part.size)
        }
        return true
    }

    /// A whole number: decimal digits with an optional sign; nil also for one that is no `Number`.
    private static func whole<Number: FixedWidthInteger>(
        _ word: RawSpan, _: Number.Type
    ) -> Number? {
        word.withUnsafeBytes { bytes -> Number? in
            guard bytes.count <= sizeMax else { return nil }
            let sign = bytes.first
            let isNegative = sign == UInt8(ascii: "-")
            let digits = bytes.dropFirst(isNegative || sign == UInt8(ascii: "+") ? 1 : 0)
            guard !digits.isEmpty else { return nil }
            var value: Number = 0
            for byte in digits {
                guard byte >= 0x30, byte <= 0x39 else { return nil }
                let digit = Number(byte &- 0x30)
                let (product, carried) = value.multipliedReportingOverflow(by: 10)
                // Down from 0 and not up to a magnitude: the least has no magnitude.
                let (next, spilled) =
                    isNegative
                    ? product.subtractingReportingOverflow(digit)
                    : product.addingReportingOverflow(digit)
                guard !carried, !spilled else { return nil }
                value = next
            }
            return value
        }
    }

    /// What a number of this type is, as an error says it.
    static func form(of type: ElementType) -> String {
        switch type {
        case .int64: "a whole number from \(Int64.min) to \(Int64.max)"
        case .uint64: "a whole number from 0 to \(UInt64.max)"
        case .bool: "0, 1, true, false"
        case .complexFloat, .complexDouble: "a complex number RE,IM"
        default: "a number"
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
        case .int64: print(source.loadUnaligned(as: Int64.self), to: &out)
        case .uint64: print(magnitude: source.loadUnaligned(as: UInt64.self), to: &out)
        case .float16, .bfloat16:
            let bits = source.loadUnaligned(as: UInt16.self)
            printShort(type == .float16 ? .float16 : .bfloat16, bits, to: &out)
        case .bool:
            let isTrue = source.loadUnaligned(as: UInt8.self) != 0
            out.append(isTrue ? UInt8(ascii: "1") : UInt8(ascii: "0"))
        case .complexFloat, .complexDouble:
            let part: ElementType = type == .complexFloat ? .float : .double
            print(part, at: source, to: &out)
            out.append(UInt8(ascii: ","))
            print(part, at: source + part.size, to: &out)
        }
    }

    /// Prints a whole number in decimal.
    public static func print(_ value: Int64, to out: inout Output) {
        if value < 0 { out.append(UInt8(ascii: "-")) }
        print(magnitude: value.magnitude, to: &out)
    }

    private static func print(magnitude: UInt64, to out: inout Output) {
        var rest = magnitude
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
    // MARK: 16 bits

    /// Prints a number of 16 bits: the fewest digits that read back to the same bits, of those the
    /// nearest, and of two equally near the even ones.
    private static func printShort(_ format: ShortFloat, _ bits: UInt16, to out: inout Output) {
        let value = format.value(bits)
        guard value.isFinite, value != 0 else {
            return print(finite: value == 0 ? "\(value)" : nil, value, to: &out)
        }
        if value < 0 { out.append(UInt8(ascii: "-")) }
        var (digits, exponent) = shortest(format, bits & 0x7FFF)
        var count = 1
        var first = digits
        while first >= 10 {
            first /= 10
            count += 1
        }
        let leading = exponent + count - 1
        if leading < -4 || value.magnitude > 0x1p24 {
            print(scientific: digits, count, leading, to: &out)
        } else if leading < 0 {
            out.append("0.")
            for _ in leading..<(-1) { out.append(0x30) }
            print(magnitude: digits, to: &out)
        } else if exponent >= 0 {
            while exponent > 0 {
                digits *= 10
                exponent -= 1
            }
            print(magnitude: digits, to: &out)
        } else {
            let unit = (0..<(-exponent)).reduce(UInt64(1)) { power, _ in power * 10 }
            print(magnitude: digits / unit, to: &out)
            out.append(UInt8(ascii: "."))
            print(magnitude: digits % unit, width: -exponent, to: &out)
        }
    }

    /// `1.5e-07`: at least two digits of exponent.
    private static func print(
        scientific digits: UInt64, _ count: Int, _ exponent: Int, to out: inout Output
    ) {
        let unit = (1..<count).reduce(UInt64(1)) { power, _ in power * 10 }
        print(magnitude: digits / unit, to: &out)
        if count > 1 {
            out.append(UInt8(ascii: "."))
            print(magnitude: digits % unit, width: count - 1, to: &out)
        }
        out.append(exponent < 0 ? "e-" : "e+")
        print(magnitude: UInt64(exponent.magnitude), width: 2, to: &out)
    }

    /// With zeros in front, up to `width` digits.
    private static func print(magnitude: UInt64, width: Int, to out: inout Output) {
        var unit: UInt64 = 10
        for _ in 1..<width {
            if magnitude < unit { out.append(0x30) }
            unit *= 10
        }
        print(magnitude: magnitude, to: &out)
    }

    /// The digits, without a 0 at their end, and the power of ten that they count.
    ///
    /// Tried from one digit on: five are enough. Not every number of so many digits has to be
    /// tried, only those next to the value on both sides.
    ///
    /// - Parameter bits: Those of a positive, finite number.
    private static func shortest(_ format: ShortFloat, _ bits: UInt16) -> (UInt64, Int) {
        let value = format.value(bits)
        var exponent = leadingExponent(value)
        while true {
            let scaled = scale(value, by: -exponent)
            var best: (digits: Double, distance: Double)?
            for digits in [scaled.rounded(.down), scaled.rounded(.down) + 1] where digits > 0 {
                let candidate = scale(digits, by: exponent)
                guard format.bits(candidate) == bits else { continue }
                let distance = (digits - scaled).magnitude
                if let other = best {
                    let isEven = digits.truncatingRemainder(dividingBy: 2) == 0
                    let isTie = distance == other.distance
                    guard distance < other.distance || isTie && isEven else { continue }
                }
                best = (digits, distance)
            }
            if let best {
                var digits = UInt64(best.digits)
                while digits % 10 == 0 {
                    digits /= 10
                    exponent += 1
                }
                return (digits, exponent)
            }
            exponent -= 1
        }
    }

    /// The power of ten of a positive number's first digit.
    private static func leadingExponent(_ value: Double) -> Int {
        var exponent = 0
        while scale(value, by: -exponent) >= 10 { exponent += 1 }
        while scale(value, by: -exponent) < 1 { exponent -= 1 }
        return exponent
    }

    /// By powers of ten up to the 45th, which are not all exact, but near enough to tell numbers of
    /// 16 bits apart.
    private static func scale(_ value: Double, by exponent: Int) -> Double {
        exponent < 0 ? value / powers[-exponent] : value * powers[exponent]
    }

    private static let powers: [Double] = (0...45).map { Double("1e\($0)") ?? 0 }
}
