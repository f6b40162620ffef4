// The values of a `write` or `fill` line as bytes of an element type.

/// Reads value words: numbers, `hex:`, `base64:`, `text:`.
public enum TextValues {
    /// Appends the bytes that `words` say, which must be whole elements.
    ///
    /// Numbers are stored as `NumberText.store` does. `text:` takes the rest of the line as it is.
    /// - Throws: `.invalidArgument`; what was appended by then is of no use. `.outOfMemory`.
    public static func encode(
        _ values: RawSpan, as type: ElementType, to out: inout Output
    ) throws(SmallocError) {
        var done = 0
        while try !encode(values, as: type, from: &done, sizeMax: .max, to: &out) {}
    }

    /// The same, as far as some bytes of words at a time.
    ///
    /// - Parameters:
    ///   - out: Holds what earlier calls appended, and nothing else.
    ///   - done: Bytes of `values` that are read already; moved on.
    ///   - sizeMax: Bytes of `values` after which it stops, at the end of a word.
    /// - Returns: Whether that was all.
    public static func encode(
        _ values: RawSpan, as type: ElementType, from done: inout Int, sizeMax: Int,
        to out: inout Output
    ) throws(SmallocError) -> Bool {
        let all = values.byteCount
        let end = all - done > sizeMax ? done + sizeMax : all
        var words = Words(values.extracting(droppingFirst: done))
        while true {
            words.dropBlanks()
            done = all - words.rest.byteCount
            if done >= end, done < all { return false }
            if let text = words.rest.dropping(prefix: "text:") {
                out.append(text)
                break
            }
            let word = words.next()
            guard word.byteCount > 0 else { break }
            if let digits = word.dropping(prefix: "hex:") {
                guard digits.withUnsafeBytes({ TextBytes.decodeHex($0, to: &out) }) else {
                    throw .invalidArgument("hex: takes pairs of hexadecimal digits")
                }
            } else if let digits = word.dropping(prefix: "base64:") {
                guard digits.withUnsafeBytes({ TextBytes.decodeBase64($0, to: &out) }) else {
                    throw .invalidArgument("base64: takes base64 as in RFC 4648")
                }
            } else if !NumberText.store(word, as: type, at: out.reserve(type.size)) {
                if word.byteCount > NumberText.sizeMax, beginsAsNumber(word) {
                    throw .invalidArgument("a number has at most \(NumberText.sizeMax) characters")
                }
                throw .invalidArgument(
                    "a value is \(NumberText.form(of: type)), hex:, base64: or text:")
            }
            if out.isLost { throw .outOfMemory }
        }
        done = all
        if out.isLost { throw .outOfMemory }
        guard out.count % type.size == 0 else {
            throw .invalidArgument("the values are not whole elements of \(type.name)")
        }
        return true
    }

    private static func beginsAsNumber(_ word: RawSpan) -> Bool {
        word.withUnsafeBytes { "+-.0123456789".utf8.contains($0[0]) }
    }
}

extension RawSpan {
    /// What follows `prefix`, compared without regard to case; nil if the bytes start otherwise.
    ///
    /// - Parameter prefix: Begins with a small letter.
    @_lifetime(copy self)
    func dropping(prefix: StaticString) -> RawSpan? {
        let size = prefix.utf8CodeUnitCount
        guard byteCount >= size else { return nil }
        let matches = withUnsafeBytes { bytes in
            // Numbers, of which a line has many, are none at first sight.
            guard bytes[0] | 0x20 == prefix.utf8Start[0] else { return false }
            return (0..<size).allSatisfy { index in
                let byte = bytes[index]
                let isUpper = (0x41...0x5A).contains(byte)
                return (isUpper ? byte | 0x20 : byte) == prefix.utf8Start[index]
            }
        }
        return matches ? extracting(droppingFirst: size) : nil
    }
}
