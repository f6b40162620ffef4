// Bytes as text: hex and base64 (RFC 4648), both ways.

/// How text mode shows data.
public enum TextFormat: Sendable {
    case numbers
    case hex
    case base64

    /// `numbers`, `hex` or `base64`, in any case.
    public init?(named word: String) {
        switch word.lowercased() {
        case "numbers": self = .numbers
        case "hex": self = .hex
        case "base64": self = .base64
        default: return nil
        }
    }
}

/// Hex and base64 codecs that append to an `Output`.
public enum TextBytes {
    /// Appends what `digits` says in hex, either case.
    ///
    /// False: odd count or no hex digit.
    public static func decodeHex(_ digits: UnsafeRawBufferPointer, to out: inout Output) -> Bool {
        guard digits.count % 2 == 0 else { return false }
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = nibble(digits[index]), let low = nibble(digits[index + 1]) else {
                return false
            }
            out.append(high << 4 | low)
        }
        return true
    }

    /// Appends what `text` says in base64, standard alphabet, padded or not.
    ///
    /// False: anything else, bits left over that are not zero among it.
    public static func decodeBase64(_ text: UnsafeRawBufferPointer, to out: inout Output) -> Bool {
        var digits = text[...]
        if digits.count % 4 == 0, digits.last == UInt8(ascii: "=") {
            digits = digits.dropLast()
            if digits.last == UInt8(ascii: "=") { digits = digits.dropLast() }
        }
        guard digits.count % 4 != 1 else { return false }
        var bits: UInt32 = 0
        var held = 0
        for digit in digits {
            guard let value = sextet(digit) else { return false }
            bits = bits << 6 | value
            held += 6
            if held >= 8 {
                held -= 8
                out.append(UInt8(truncatingIfNeeded: bits >> UInt32(held)))
                bits &= (1 << UInt32(held)) - 1
            }
        }
        return bits == 0
    }

    /// Appends bytes in lower-case hex.
    public static func encodeHex(_ bytes: UnsafeRawBufferPointer, to out: inout Output) {
        let target = out.reserve(bytes.count * 2)
        for (index, byte) in bytes.enumerated() {
            target.storeBytes(of: hexDigit(byte >> 4), toByteOffset: index * 2, as: UInt8.self)
            target.storeBytes(of: hexDigit(byte & 15), toByteOffset: index * 2 + 1, as: UInt8.self)
        }
    }

    /// Appends bytes in padded base64.
    ///
    /// Pieces of a longer text must be multiples of 3 bytes.
    public static func encodeBase64(_ bytes: UnsafeRawBufferPointer, to out: inout Output) {
        for index in stride(from: 0, to: bytes.count, by: 3) {
            let left = bytes.count - index
            var bits = UInt32(bytes[index]) << 16
            if left > 1 { bits |= UInt32(bytes[index + 1]) << 8 }
            if left > 2 { bits |= UInt32(bytes[index + 2]) }
            out.append(base64Digit(bits >> 18))
            out.append(base64Digit(bits >> 12 & 63))
            out.append(left > 1 ? base64Digit(bits >> 6 & 63) : UInt8(ascii: "="))
            out.append(left > 2 ? base64Digit(bits & 63) : UInt8(ascii: "="))
        }
    }

    private static func nibble(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x41...0x46: digit - 0x41 + 10
        case 0x61...0x66: digit - 0x61 + 10
        default: nil
        }
    }

    private static func sextet(_ digit: UInt8) -> UInt32? {
        switch digit {
        case 0x41...0x5A: UInt32(digit - 0x41)
        case 0x61...0x7A: UInt32(digit - 0x61) + 26
        case 0x30...0x39: UInt32(digit - 0x30) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }

    private static func hexDigit(_ nibble: UInt8) -> UInt8 {
        nibble < 10 ? 0x30 + nibble : 0x61 + nibble - 10
    }

    private static func base64Digit(_ sextet: UInt32) -> UInt8 {
        let value = UInt8(truncatingIfNeeded: sextet)
        return switch value {
        case 0..<26: 0x41 + value
        case 26..<52: 0x61 + value - 26
        case 52..<62: 0x30 + value - 52
        case 62: UInt8(ascii: "+")
        default: UInt8(ascii: "/")
        }
    }
}
