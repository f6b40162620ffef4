// A line of text as words, borrowed.

/// Walks over the words of a line; spaces and tabs separate them.
@frozen
public struct Words: ~Escapable {
    /// What has not been walked over yet.
    public private(set) var rest: RawSpan

    /// Starts at the first byte of `line`.
    @_lifetime(copy line)
    public init(_ line: RawSpan) { rest = line }

    /// The next word; empty at the end of the line.
    @_lifetime(copy self)
    public mutating func next() -> RawSpan {
        dropBlanks()
        let size = rest.withUnsafeBytes { bytes in
            bytes.firstIndex { Words.isBlank($0) } ?? bytes.count
        }
        let word = rest.extracting(first: size)
        rest = rest.extracting(droppingFirst: size)
        return word
    }

    /// Walks over the blanks before the next word.
    @_lifetime(self: copy self)
    public mutating func dropBlanks() {
        let blanks = rest.withUnsafeBytes { bytes in
            bytes.firstIndex { !Words.isBlank($0) } ?? bytes.count
        }
        rest = rest.extracting(droppingFirst: blanks)
    }

    /// Whether nothing but blanks is left.
    public var isAtEnd: Bool {
        rest.withUnsafeBytes { bytes in bytes.allSatisfy { Words.isBlank($0) } }
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
}

extension RawSpan {
    /// The bytes as a string, invalid UTF-8 replaced.
    ///
    /// For verbs, types and messages; names are compared as bytes.
    public var text: String {
        withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// The first 64 bytes with all that is not printable ASCII as `?`: a word of a peer that goes
    /// into a message must not move a cursor or end a line.
    public var printable: String {
        withUnsafeBytes { bytes in
            let shown = bytes.prefix(64).map { (0x20...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }
            return String(decoding: shown, as: UTF8.self)
        }
    }
}
