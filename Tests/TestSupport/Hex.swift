// Bytes as hexadecimal text, as the files in protocol/ have them.

/// Reads pairs of hexadecimal digits; blanks between pairs are skipped. Nil: anything else.
public func bytes(hex text: some StringProtocol) -> [UInt8]? {
    let digits = text.utf8.filter { $0 != 0x20 }
    guard digits.count % 2 == 0 else { return nil }
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: digits.count, by: 2) {
        let pair = String(decoding: digits[index...index + 1], as: UTF8.self)
        guard pair.allSatisfy(\.isHexDigit), let byte = UInt8(pair, radix: 16) else { return nil }
        bytes.append(byte)
    }
    return bytes
}

/// Prints bytes as lower-case hexadecimal.
public func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
