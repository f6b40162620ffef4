// One line of the configuration file, taken apart from left to right: the key, a list in brackets,
// plain and quoted texts, a comment. Which of them may stand where is ConfigurationText's to say.

/// A place in a line.
struct LineCursor {
    private let line: [Unicode.Scalar]
    private var index = 0

    /// Starts at the beginning of a line.
    init(_ line: [Unicode.Scalar]) { self.line = line }

    /// Whether nothing is left of the line.
    var isAtEnd: Bool { index == line.count }
    /// The character at the place; nil at the end.
    var next: Unicode.Scalar? { index < line.count ? line[index] : nil }
    private var following: Unicode.Scalar? { index + 1 < line.count ? line[index + 1] : nil }

    /// Skips spaces; gives their number.
    @discardableResult
    mutating func skipSpaces() -> Int {
        let start = index
        while next == " " { index += 1 }
        return index - start
    }

    /// Skips spaces and tabs.
    mutating func skipBlanks() {
        while next.map(isBlank) ?? false { index += 1 }
    }

    /// Takes the dash before an item.
    mutating func takeDash() -> Bool {
        guard next == "-", following.map(isBlank) ?? true else { return false }
        index += 1
        return true
    }

    /// Takes `---`, alone in its line.
    mutating func takeMarker() -> Bool {
        guard line == ["-", "-", "-"] else { return false }
        index = line.count
        return true
    }

    /// Takes `KEY:`; nil if there is none.
    mutating func takeKey() -> String? {
        let start = index
        while let scalar = next, scalar.isASCII,
            scalar.properties.isAlphabetic
                || index > start && isWithinKey(scalar)
        { index += 1 }
        guard index > start, next == ":", following.map(isBlank) ?? true else { return nil }
        defer { index += 1 }
        return string(line[start..<index])
    }

    private func isWithinKey(_ scalar: Unicode.Scalar) -> Bool {
        "0"..."9" ~= scalar || scalar == "-" || scalar == "_" || scalar == "."
    }

    /// Takes `[A, B]`; nil if no bracket opens here.
    mutating func takeList() throws(InvalidValue) -> [String]? {
        guard next == "[" else { return nil }
        index += 1
        skipBlanks()
        if next == "]" {
            index += 1
            return []
        }
        var values: [String] = []
        while true {
            guard let first = next, first != "," && first != "]" && first != "#" else {
                throw InvalidValue(reason: "a value is missing in the list")
            }
            values.append(try takeValue(inList: true))
            skipBlanks()
            guard next == "," || next == "]" else {
                throw InvalidValue(reason: "',' or ']' is missing behind a value of the list")
            }
            index += 1
            if line[index - 1] == "]" { return values }
            skipBlanks()
        }
    }

    /// Takes a plain or quoted text; an empty one where the line or its content ends.
    ///
    /// - Parameter inList: Whether it stands in brackets.
    mutating func takeValue(inList: Bool) throws(InvalidValue) -> String {
        switch next {
        case nil, "#": ""
        case "'": try takeSingleQuoted()
        case "\"": try takeDoubleQuoted()
        default: try takePlain(inList: inList)
        }
    }

    private mutating func takePlain(inList: Bool) throws(InvalidValue) -> String {
        let start = index
        var end = index
        if let first = next {
            let isDash = first == "-" && !(following.map(isBlank) ?? true)
            guard isDash || !"-?:,[]{}#&*!|>%@`\t".unicodeScalars.contains(first) else {
                throw InvalidValue(
                    reason: "a value can't begin with '\(escaped("\(first)".utf8))' unquoted")
            }
        }
        while let scalar = next {
            if isBlank(scalar) {
                skipBlanks()
                if next == "#" { break }
                continue
            }
            if scalar == ":", following.map({ isBlank($0) || inList && isFlow($0) }) ?? true {
                throw InvalidValue(reason: "':' at the end of a word has to be quoted")
            }
            if inList, scalar == "," || scalar == "]" { break }
            if inList, isFlow(scalar), scalar != "?" {
                throw InvalidValue(reason: "'\(scalar)' within a list has to be quoted")
            }
            index += 1
            end = index
        }
        index = end
        return string(line[start..<end])
    }

    private mutating func takeSingleQuoted() throws(InvalidValue) -> String {
        index += 1
        var text = String.UnicodeScalarView()
        while let scalar = next {
            index += 1
            guard scalar == "'" else {
                text.append(scalar)
                continue
            }
            guard next == "'" else { return String(text) }
            text.append(scalar)
            index += 1
        }
        throw InvalidValue(reason: "a quote (') without its end in the same line")
    }

    private mutating func takeDoubleQuoted() throws(InvalidValue) -> String {
        index += 1
        var text = String.UnicodeScalarView()
        while let scalar = next {
            index += 1
            switch scalar {
            case "\"": return String(text)
            case "\\": text.append(try takeEscape())
            default: text.append(scalar)
            }
        }
        throw InvalidValue(reason: "a quote (\") without its end in the same line")
    }

    private mutating func takeEscape() throws(InvalidValue) -> Unicode.Scalar {
        guard let scalar = next else {
            throw InvalidValue(reason: "a backslash without a character behind it")
        }
        index += 1
        switch scalar {
        case "\\", "\"", "/": return scalar
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "x": return try takeCode(digits: 2)
        case "u": return try takeCode(digits: 4)
        default:
            throw InvalidValue(reason: "'\\\(escaped("\(scalar)".utf8))' stands for nothing")
        }
    }

    /// Takes hexadecimal digits for a character, neither zero nor the byte order mark.
    private mutating func takeCode(digits: Int) throws(InvalidValue) -> Unicode.Scalar {
        var code: UInt32 = 0
        for _ in 0..<digits {
            guard let scalar = next, scalar.isASCII,
                let digit = Character(scalar).hexDigitValue
            else { throw InvalidValue(reason: "\(digits) hexadecimal digits are wanted") }
            code = code << 4 | UInt32(digit)
            index += 1
        }
        guard code != 0, code != 0xFEFF, let scalar = Unicode.Scalar(code) else {
            throw InvalidValue(reason: "the code of no character that may stand here")
        }
        return scalar
    }

    /// Refuses all but blanks and a comment behind them.
    mutating func expectEnd() throws(InvalidValue) {
        let start = index
        skipBlanks()
        guard isAtEnd || next == "#" && index > 0 && (index > start || isBlank(line[start - 1]))
        else { throw InvalidValue(reason: "only a comment (' #') may follow the value") }
    }

    private func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
        var text = String.UnicodeScalarView()
        text.append(contentsOf: scalars)
        return String(text)
    }
}

private func isBlank(_ scalar: Unicode.Scalar) -> Bool { scalar == " " || scalar == "\t" }

/// What has a meaning within brackets.
private func isFlow(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case ",", "[", "]", "{", "}", "?": true
    default: false
    }
}
