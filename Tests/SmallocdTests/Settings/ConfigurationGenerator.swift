// Random configuration files, for tests of their reader.

import TestSupport

@testable import smallocd

/// Makes configuration files of which it knows what they set.
struct ConfigurationGenerator {
    private var random: SplitMix
    private static let keys = Setting.all.map(\.key)

    /// Texts that mean something to a YAML reader, or nearly so.
    private static let texts = [
        "64M", "1GiB", "80%", "0600", "0o17", "0x1F", "auto", "500ms", "5m", "1.5", "1e3", "-5",
        "-", "---", "~", "null", "true", "no", "on", "off", "y", "Infinity", ".nan", "2026-11-29",
        "unix:/run/smallocd/smallocd.sock", "tcp:127.0.0.1:7077", "tcp:[::1]:7077", "tcp:*:1",
        "a b", "a  b", "a,b", "a, b", "a#b", "a #b", "#a", "a:b", "a: b", "a:", ":a", "it's",
        "'", "''", "\"", "\\", "\\n", "/", "{a: 1}", "[a]", "a]b", "a[b", "a{b", "a?b", "?", "? a",
        "&a", "*a", "!!str a", "|", ">", "%a", "@a", "`a", "<<", "=", "é", "日本", "😀", "\u{A0}",
        " a", "a ", "\t", "a\tb", "\n", "a\r\nb", "\u{7F}", "\u{85}", "\u{2028}", "",
        "-a", "- a", "a-", "a -b", "a - b", "=a", "\\x41", "${HOME}", "a;b", "a|b", "a>b", "(a)",
    ]

    init(_ random: SplitMix) { self.random = random }

    /// A file and what its keys are set to.
    mutating func file() -> (text: String, values: [String: [String]]) {
        var lines: [String] = []
        var values: [String: [String]] = [:]
        addNoise(to: &lines)
        if chance(4) {
            lines.append("---")
            addNoise(to: &lines)
        }
        for key in Self.keys.shuffled(using: &random).prefix(Int.random(in: 0...6, using: &random))
        {
            values[key] = setting(key, in: &lines)
            addNoise(to: &lines)
        }
        let newline = chance(3) ? "\r\n" : "\n"
        let text = lines.joined(separator: newline) + (chance(4) ? "" : newline)
        // A carriage return belongs to a line feed.
        return (text, values)
    }

    /// Adds a key in one of the forms; gives its values.
    private mutating func setting(_ key: String, in lines: inout [String]) -> [String] {
        switch Int.random(in: 0...9, using: &random) {
        case 0:
            lines.append("\(key):" + trailer())
            return [""]
        case 1, 2:
            let values = (0..<Int.random(in: 0...4, using: &random)).map { _ in text() }
            let words = values.map { blanks() + written($0, inList: true) + blanks() }
            let inside = words.isEmpty ? blanks() : words.joined(separator: ",")
            lines.append("\(key):\(gap())[\(inside)]" + trailer())
            return values
        case 3, 4:
            lines.append("\(key):" + trailer())
            let indent = String(repeating: " ", count: Int.random(in: 0...3, using: &random))
            let values = (0..<Int.random(in: 1...4, using: &random)).map { _ in text() }
            for value in values {
                addNoise(to: &lines)
                let word = written(value, inList: false)
                lines.append("\(indent)-" + (word.isEmpty ? "" : spaces() + word) + trailer())
            }
            return values
        default:
            let value = text()
            lines.append("\(key):\(gap())\(written(value, inList: false))" + trailer())
            return [value]
        }
    }

    private mutating func text() -> String { Self.texts.randomElement(using: &random) ?? "" }

    /// A text as it may be written: plain where that is possible, or quoted.
    private mutating func written(_ text: String, inList: Bool) -> String {
        let harmful = text.unicodeScalars.contains { !isHarmless($0) }
        let first = text.unicodeScalars.first
        let isPlain =
            !text.isEmpty && !harmful && text.first != " " && text.last != " "
            && !text.contains("\t") && !text.contains(": ") && !text.contains(" #")
            && !text.hasSuffix(":")
            && !"?:,[]{}#&*!|>'\"%@`".unicodeScalars.contains { $0 == first }
            && text != "-" && !text.hasPrefix("- ")
            && !(inList && text.contains { ",[]{}".contains($0) })
        if isPlain, !chance(4) { return text }
        if !harmful, chance(2) {
            return "'" + text.replacing("'", with: "''") + "'"
        }
        return "\"" + text.unicodeScalars.map { escape($0) }.joined() + "\""
    }

    private func isHarmless(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value >= 0x20 && ![0x7F, 0x85, 0x2028, 0x2029, 0xFEFF].contains(scalar.value)
    }

    private mutating func escape(_ scalar: Unicode.Scalar) -> String {
        func hex(_ digits: Int) -> String {
            let text = String(scalar.value, radix: 16)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        switch scalar {
        case "\"", "\\": return "\\\(scalar)"
        case "/" where chance(2): return "\\/"
        case "\n": return chance(2) ? "\\n" : "\\x0a"
        case "\r": return "\\r"
        case "\t": return chance(2) ? "\\t" : "\t"
        default:
            guard !isHarmless(scalar) || chance(8) else { return "\(scalar)" }
            if scalar.value <= 0xFF, chance(2) { return "\\x" + hex(2) }
            return scalar.value <= 0xFFFF ? "\\u" + hex(4) : "\(scalar)"
        }
    }

    private mutating func addNoise(to lines: inout [String]) {
        while chance(3) {
            let indent = spaces()
            lines.append(chance(2) ? indent : "\(indent)# note: \"[{'\t é")
        }
    }

    /// What may stand behind a value: blanks, a comment.
    private mutating func trailer() -> String {
        if chance(2) { return "" }
        return chance(2) ? blanks() : "\(gap())# a comment: [\"'"
    }

    private mutating func spaces() -> String {
        String(repeating: " ", count: Int.random(in: 1...4, using: &random))
    }

    /// One space or several blanks.
    private mutating func gap() -> String {
        chance(2) ? " " : String((0..<3).map { _ in chance(3) ? "\t" : " " })
    }

    private mutating func blanks() -> String { chance(2) ? "" : gap() }

    private mutating func chance(_ count: Int) -> Bool {
        Int.random(in: 0..<count, using: &random) == 0
    }
}

extension ConfigurationGenerator {
    /// A file with a few characters put in, taken out or doubled.
    mutating func mutated() -> String {
        var characters = Array(file().text.unicodeScalars)
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            let place = Int.random(in: 0...characters.count, using: &random)
            if place < characters.count, chance(3) {
                characters.remove(at: place)
            } else if place < characters.count, chance(4) {
                let end = min(characters.count, place + Int.random(in: 1...9, using: &random))
                characters.insert(contentsOf: characters[place..<end], at: place)
            } else {
                let odd = "-?:,[]{}#&*!|>'\"%@`\\ \t\n\r.=~0a<\u{0}\u{85}\u{2028}\u{FEFF}\u{A0}"
                let choice = Array(odd.unicodeScalars).randomElement(using: &random) ?? " "
                characters.insert(choice, at: place)
            }
        }
        var text = String.UnicodeScalarView()
        text.append(contentsOf: characters)
        return String(text)
    }
}
