// The grammar of the configuration file: a small part of YAML, read in one walk over the lines.
// deploy/README.md states it. Whatever is outside of it is an error that names its line, so that
// no text means something else here than it does to a full YAML reader.

/// A key of the configuration file with what it is set to.
struct ConfigurationEntry: Sendable, Equatable {
    /// The key, known or not.
    let key: String
    /// The line of the key, from 1.
    let line: Int
    /// One text for a value, any number for a list, unquoted.
    ///
    /// A key without a value has one empty text.
    var values: [String]
}

/// Why a text is no configuration.
struct ConfigurationError: Error, Sendable, Equatable {
    /// The line, from 1.
    let line: Int
    /// What is wrong with it, as a clause.
    let reason: String
}

/// Reads a text line by line.
struct ConfigurationText {
    private var entries: [ConfigurationEntry] = []
    private var lines: [String: Int] = [:]
    private var isAfterMarker = false
    /// Whether the last key has had no value yet, so that `- ` items may follow.
    private var takesItems = false
    /// Spaces before the first item of the list at work; nil: no item yet.
    private var itemIndent: Int?

    /// Reads a whole file.
    ///
    /// - Parameter bytes: Any bytes at all.
    /// - Returns: Its keys in their order, each once.
    /// - Throws: The first line that is outside of the grammar.
    /// - Complexity: O(size).
    static func read(_ bytes: [UInt8]) throws(ConfigurationError) -> [ConfigurationEntry] {
        var text = ConfigurationText()
        var number = 0
        var start = 0
        while start < bytes.count {
            number += 1
            let newline = bytes[start...].firstIndex(of: 0x0A)
            var end = newline ?? bytes.count
            let next = end + 1
            if newline != nil, end > start, bytes[end - 1] == 0x0D { end -= 1 }
            do {
                try text.take(line: ConfigurationText.scalars(bytes[start..<end]), number)
            } catch {
                throw ConfigurationError(line: number, reason: error.reason)
            }
            start = next
        }
        return text.entries
    }

    /// The characters of a line, all of them printable or tabs.
    private static func scalars(
        _ bytes: ArraySlice<UInt8>
    ) throws(InvalidValue) -> [Unicode.Scalar] {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw InvalidValue(reason: "not UTF-8")
        }
        let scalars = Array(text.unicodeScalars)
        for scalar in scalars where !isPrintable(scalar) {
            let digits = String(scalar.value, radix: 16, uppercase: true)
            throw InvalidValue(reason: "the character U+\(digits) can't stand here")
        }
        return scalars
    }

    /// What YAML takes as it is, less the byte order mark and the line breaks other than LF.
    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x09, 0x20...0x7E, 0xA0...0x2027, 0x202A...0xFEFE, 0xFF00...0xFFFD: true
        case 0x10000...: true
        default: false
        }
    }

    private mutating func take(line: [Unicode.Scalar], _ number: Int) throws(InvalidValue) {
        var cursor = LineCursor(line)
        let indent = cursor.skipSpaces()
        if cursor.isAtEnd || cursor.next == "#" { return }
        if cursor.next == "\t" {
            throw InvalidValue(reason: "begins with a tab, where only spaces may stand")
        }
        if cursor.takeDash() {
            try takeItem(&cursor, indent: indent)
        } else if indent > 0 {
            throw InvalidValue(reason: "indented, but not an item of a list ('- VALUE')")
        } else if cursor.takeMarker() {
            guard entries.isEmpty, !isAfterMarker else {
                throw InvalidValue(reason: "'---' may stand once, before the first key")
            }
            isAfterMarker = true
        } else {
            try takeKey(&cursor, number)
        }
        try cursor.expectEnd()
    }

    private mutating func takeItem(
        _ cursor: inout LineCursor, indent: Int
    ) throws(InvalidValue) {
        guard takesItems, !entries.isEmpty else {
            throw InvalidValue(reason: "an item of a list without 'KEY:' alone above it")
        }
        guard indent == itemIndent ?? indent else {
            throw InvalidValue(reason: "not indented as the item above it")
        }
        cursor.skipSpaces()
        let value = try cursor.takeValue(inList: false)
        if itemIndent == nil { entries[entries.count - 1].values = [] }
        entries[entries.count - 1].values.append(value)
        itemIndent = indent
    }

    private mutating func takeKey(
        _ cursor: inout LineCursor, _ number: Int
    ) throws(InvalidValue) {
        guard let key = cursor.takeKey() else {
            throw InvalidValue(reason: "not of the form 'KEY: VALUE'")
        }
        if let line = lines[key] {
            throw InvalidValue(reason: "\(escaped(key.utf8)): set in line \(line) already")
        }
        lines[key] = number
        cursor.skipBlanks()
        takesItems = cursor.isAtEnd || cursor.next == "#"
        itemIndent = nil
        let values: [String]
        if let list = try cursor.takeList() {
            values = list
        } else {
            values = [try cursor.takeValue(inList: false)]
        }
        entries.append(ConfigurationEntry(key: key, line: number, values: values))
    }
}
