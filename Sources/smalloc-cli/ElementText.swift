// Elements as text and back: the shortest decimal that reads back to the same value, and the forms
// that text mode takes for values.

import Smalloc

/// A number as text mode prints it: `4`, `-0`, `0.1`, `NaN`, `Infinity`.
func elementText(_ value: Double) -> String {
    special(value) ?? trimmed(value.description)
}

private func special(_ value: Double) -> String? {
    value.isFinite ? nil : value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity"
}

private func trimmed(_ text: String) -> String {
    text.hasSuffix(".0") ? String(text.dropLast(2)) : text
}

/// The elements in some bytes, one after another, as text.
///
/// - Parameters:
///   - bytes: Whole elements.
///   - type: What they are.
///   - body: Called with the text of each.
func forEachElement(
    _ bytes: UnsafeRawBufferPointer, _ type: ElementType, _ body: (String) throws -> Void
) rethrows {
    guard let base = bytes.baseAddress else { return }
    for offset in stride(from: 0, to: bytes.count, by: type.size) {
        try body(type.text(at: base + offset))
    }
}

/// An element's text as JSON has it: what is no number there is a string, which `write` takes.
func jsonText(_ text: String, _ type: ElementType) -> String {
    switch type {
    case .bool: text == "0" ? "false" : "true"
    case .complexFloat, .complexDouble: "\"\(text)\""
    default: text.last == "N" || text.last == "y" ? "\"\(text)\"" : text
    }
}

/// The bytes of values as they stand on a command line.
///
/// - Parameters:
///   - values: Numbers (also `NaN`, `Infinity`, `-Infinity`), `hex:…`, `base64:…`, `text:…`, mixed.
///   - type: What numbers are stored as.
/// - Returns: Whole elements, in the machine's byte order.
/// - Throws: `.invalidArgument` that quotes what could not be read.
func elementBytes(_ values: [String], _ type: ElementType) throws(SmallocError) -> [UInt8] {
    var bytes: [UInt8] = []
    for value in values {
        if let digits = value.dropping("hex:") {
            guard let run = hexBytes(digits) else {
                throw malformed(value, "no hex digits in pairs")
            }
            bytes += run
        } else if let digits = value.dropping("base64:") {
            guard let run = base64Bytes(digits) else { throw malformed(value, "no base64") }
            bytes += run
        } else if let text = value.dropping("text:") {
            bytes += Array(text.utf8)
        } else {
            var element: (UInt64, UInt64) = (0, 0)
            guard type.store(text: value, at: &element) else {
                throw malformed(
                    value, "no \(type.isDouble && type != .bool ? "number" : type.name)")
            }
            withUnsafeBytes(of: element) { bytes += $0[..<type.size] }
        }
    }
    guard bytes.count % type.size == 0 else {
        throw .invalidArgument(
            "\(bytes.count) bytes are not whole elements of \(type.name), \(type.size) bytes each")
    }
    return bytes
}

private func malformed(_ value: String, _ reason: String) -> SmallocError {
    .invalidArgument("\(reason): \(printable(String(value.prefix(64))))")
}

private func hexBytes(_ digits: Substring) -> [UInt8]? {
    let values = digits.utf8.map { byte -> UInt8? in
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x37
        case 0x61...0x66: byte - 0x57
        default: nil
        }
    }
    guard values.count % 2 == 0 else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(values.count / 2)
    for index in stride(from: 0, to: values.count, by: 2) {
        guard let high = values[index], let low = values[index + 1] else { return nil }
        bytes.append(high << 4 | low)
    }
    return bytes
}

private func base64Bytes(_ text: Substring) -> [UInt8]? {
    var bits: UInt32 = 0
    var count = 0
    var bytes: [UInt8] = []
    let body = text.utf8.reversed().drop { $0 == 0x3D }.reversed()
    let padding = text.utf8.count - body.count
    guard padding <= 2, padding == 0 || text.utf8.count % 4 == 0 else { return nil }
    for byte in body {
        let value: UInt8
        switch byte {
        case 0x41...0x5A: value = byte - 0x41
        case 0x61...0x7A: value = byte - 0x61 + 26
        case 0x30...0x39: value = byte - 0x30 + 52
        case 0x2B: value = 62
        case 0x2F: value = 63
        default: return nil
        }
        bits = bits << 6 | UInt32(value)
        count += 6
        if count >= 8 {
            count -= 8
            bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
        }
    }
    // A lone digit is no byte, and what is left over has to be zeros.
    guard count < 6, bits & ((1 << UInt32(count)) - 1) == 0 else { return nil }
    return bytes
}

extension String {
    fileprivate func dropping(_ prefix: String) -> Substring? {
        lowercased().hasPrefix(prefix) ? dropFirst(prefix.count) : nil
    }
}
