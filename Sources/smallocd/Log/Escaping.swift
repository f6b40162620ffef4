// Text from outside, made fit for one line of a log, a terminal or an error message: a peer must
// not be able to forge a line, move the cursor, or turn the direction of the text.

/// Most bytes of outside text that are shown.
private let shownSizeMax = 256

/// Bytes that came from a peer, as printable ASCII on one line.
///
/// Everything but 0x20 to 0x7e comes out as `\n`, `\r`, `\t` or `\xNN`; backslash and double quote
/// are escaped, so that no two inputs look alike. After 256 bytes follows `...` and how many there
/// were. The result needs no further escaping, and `singleLine` leaves it as it is.
///
/// - Parameter bytes: Any bytes at all.
/// - Returns: ASCII without control characters.
func escaped(_ bytes: some Sequence<UInt8>) -> String {
    var text = ""
    var size = 0
    for byte in bytes {
        size += 1
        guard size <= shownSizeMax else { continue }
        switch byte {
        case 0x0A: text += "\\n"
        case 0x0D: text += "\\r"
        case 0x09: text += "\\t"
        case 0x22: text += "\\\""
        case 0x5C: text += "\\\\"
        case 0x20...0x7E: text.unicodeScalars.append(Unicode.Scalar(byte))
        default: text += hexadecimal(byte)
        }
    }
    if size > shownSizeMax { text += "...(\(size) bytes)" }
    return text
}

/// A text of the daemon's own, or of its operator, kept on one line.
///
/// Letters of any script stay; control characters, line and paragraph separators, and the invisible
/// format characters (among them those that turn the direction of text) come out as `\xNN` or
/// `\u{N}`. Backslashes stay: unlike `escaped`, this is the last net and not a quotation.
func singleLine(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isHarmful) else { return text }
    var line = ""
    for scalar in text.unicodeScalars {
        if !isHarmful(scalar) {
            line.unicodeScalars.append(scalar)
        } else if scalar.isASCII {
            line += hexadecimal(UInt8(scalar.value))
        } else {
            line += "\\u{\(String(scalar.value, radix: 16))}"
        }
    }
    return line
}

private func isHarmful(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII { return scalar.value < 0x20 || scalar.value == 0x7F }
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate,
        .unassigned:
        return true
    default:
        return false
    }
}

private func hexadecimal(_ byte: UInt8) -> String {
    "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
}
