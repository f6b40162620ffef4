// The grammar of the configuration file, text by text.

import Testing
import TestSupport

@testable import smallocd

/// What is expected of an odd text.
enum OddOutcome: Sendable {
    /// Key and values, in the order of the file.
    case sets([(String, [String])])
    /// The first line that is outside of the grammar, and why.
    case line(Int, String)

    /// One key with one value.
    static func one(_ value: String) -> OddOutcome { .sets([("loops", [value])]) }
}

/// Texts at the borders of the grammar, by what is odd about them.
let oddTexts: [(name: String, text: String, outcome: OddOutcome)] = [
    ("single quotes", "loops: 'a: b # c'\n", .one("a: b # c")),
    ("a single quote within", "loops: 'it''s'\n", .one("it's")),
    ("no escapes in single quotes", #"loops: 'a\n'"#, .one(#"a\n"#)),
    ("double quotes", "loops: \"a: b # c\"\n", .one("a: b # c")),
    ("escapes", #"loops: "\"\\\/\n\r\t\x41\u00e9""#, .one("\"\\/\n\r\tA\u{E9}")),
    ("an unknown escape", #"loops: "\q""#, .line(1, #"'\q' stands for nothing"#)),
    ("a short escape", #"loops: "\x4""#, .line(1, "2 hexadecimal digits are wanted")),
    (
        "a zero by its code", #"loops: "a\x00""#,
        .line(1, "the code of no character that may stand here")
    ),
    (
        "half a character", #"loops: "\ud800""#,
        .line(1, "the code of no character that may stand here")
    ),
    (
        "a quote left open", "a: 1\nloops: 'a\n'\n",
        .line(2, "a quote (') without its end in the same line")
    ),
    (
        "a double quote left open", "loops: \"a\\\"\n",
        .line(1, "a quote (\") without its end in the same line")
    ),
    (
        "a line that ends in a backslash", "loops: \"a\\\n b\"",
        .line(1, "a backslash without a character behind it")
    ),
    (
        "text behind a quote", "loops: 'a'b\n",
        .line(1, "only a comment (' #') may follow the value")
    ),
    ("comments", "# one\nloops: 2 # two\n  # three\n#four", .one("2")),
    ("a hash within a word", "loops: a#b\n", .one("a#b")),
    ("a comment for a value", "loops: # none\n", .one("")),
    (
        "a comment close to a quote", "loops: 'a'#b\n",
        .line(1, "only a comment (' #') may follow the value")
    ),
    ("a list in brackets", "loops: [a, 'b,c' ,\"d\"]\n", .sets([("loops", ["a", "b,c", "d"])])),
    ("an empty list", "loops: [ ] # none\n", .sets([("loops", [])])),
    ("a comma at the end", "loops: [a,]\n", .line(1, "a value is missing in the list")),
    (
        "a list over two lines", "loops: [a,\n  b]\n",
        .line(1, "a value is missing in the list")
    ),
    (
        "a list left open", "loops: [a\n",
        .line(1, "',' or ']' is missing behind a value of the list")
    ),
    ("a list in a list", "loops: [[a]]\n", .line(1, "a value can't begin with '[' unquoted")),
    (
        "an address of IPv6 in a list", "listen: [tcp:[::1]:7]\n",
        .line(1, "':' at the end of a word has to be quoted")
    ),
    ("an address of IPv6 by itself", "loops: tcp:[::1]:7\n", .one("tcp:[::1]:7")),
    ("items", "loops:\n  - a\n  -  'b'\n", .sets([("loops", ["a", "b"])])),
    ("items at the margin", "loops:\n- a\n\n# c\n- b", .sets([("loops", ["a", "b"])])),
    ("an empty item", "loops:\n-\n- \n", .sets([("loops", ["", ""])])),
    (
        "items of two indents", "loops:\n - a\n  - b\n",
        .line(3, "not indented as the item above it")
    ),
    (
        "an item without a key", "- a\n",
        .line(1, "an item of a list without 'KEY:' alone above it")
    ),
    (
        "an item behind a value", "loops: 1\n- a\n",
        .line(2, "an item of a list without 'KEY:' alone above it")
    ),
    ("an item in an item", "loops:\n- - a\n", .line(2, "a value can't begin with '-' unquoted")),
    ("a mapping", "a:\n  b: 1\n", .line(2, "indented, but not an item of a list ('- VALUE')")),
    (
        "a mapping in braces", "loops: {a: 1}\n",
        .line(1, "a value can't begin with '{' unquoted")
    ),
    (
        "an indented key", "  loops: 1\n",
        .line(1, "indented, but not an item of a list ('- VALUE')")
    ),
    (
        "a value over two lines", "loops: a\n  b\n",
        .line(2, "indented, but not an item of a list ('- VALUE')")
    ),
    ("a block of text", "loops: |\n  b\n", .line(1, "a value can't begin with '|' unquoted")),
    ("CRLF", "loops:\r\n- a\r\n- b\r\n", .sets([("loops", ["a", "b"])])),
    ("CR alone", "loops: 1\rname: 2\n", .line(1, "the character U+D can't stand here")),
    ("tabs behind the colon", "loops:\t1\t# c\n", .one("1")),
    (
        "a tab before a key", "\tloops: 1\n",
        .line(1, "begins with a tab, where only spaces may stand")
    ),
    ("a tab in an item", "loops:\n-\ta\n", .line(2, #"a value can't begin with '\t' unquoted"#)),
    ("an empty value", "loops:\nname:  \n", .sets([("loops", [""]), ("name", [""])])),
    (
        "null and its like are texts", "loops: [null, ~, true, no, .nan]\n",
        .sets([("loops", ["null", "~", "true", "no", ".nan"])])
    ),
    (
        "numbers are texts", "loops: [0600, 0o17, 0x1F, 1e3, -5]\n",
        .sets([("loops", ["0600", "0o17", "0x1F", "1e3", "-5"])])
    ),
    ("a key twice", "loops: 1\n\nloops: 1\n", .line(3, "loops: set in line 1 already")),
    ("a key that is quoted", "'loops': 1\n", .line(1, "not of the form 'KEY: VALUE'")),
    ("no blank behind the colon", "loops:1\n", .line(1, "not of the form 'KEY: VALUE'")),
    ("a blank before the colon", "loops : 1\n", .line(1, "not of the form 'KEY: VALUE'")),
    ("two colons", "loops: a: b\n", .line(1, "':' at the end of a word has to be quoted")),
    ("an anchor", "loops: &a 1\n", .line(1, "a value can't begin with '&' unquoted")),
    ("an alias", "loops: *a\n", .line(1, "a value can't begin with '*' unquoted")),
    ("a tag", "loops: !!str 1\n", .line(1, "a value can't begin with '!' unquoted")),
    ("a document", "# c\n---\nloops: 1\n", .one("1")),
    (
        "two documents", "loops: 1\n---\nloops: 1\n",
        .line(2, "'---' may stand once, before the first key")
    ),
    ("the end of a document", "loops: 1\n...\n", .line(2, "not of the form 'KEY: VALUE'")),
    ("a directive", "%YAML 1.1\n---\n", .line(1, "not of the form 'KEY: VALUE'")),
    ("a byte order mark", "\u{FEFF}loops: 1\n", .line(1, "the character U+FEFF can't stand here")),
    ("a zero", "loops: 1\nname: a\u{0}b\n", .line(2, "the character U+0 can't stand here")),
    ("a zero in a comment", "# a\u{0}\n", .line(1, "the character U+0 can't stand here")),
    (
        "a line break of Unicode", "# a\u{2028}b: 1\n",
        .line(1, "the character U+2028 can't stand here")
    ),
    ("letters of any script", "loops: Größe 日本 😀\n", .one("Größe 日本 😀")),
    (
        "a line of 64 KiB", "loops: " + String(repeating: "x", count: 65_536),
        .one(String(repeating: "x", count: 65_536))
    ),
    ("a comment of 64 KiB", "#" + String(repeating: "x", count: 65_536) + "\nloops: 1", .one("1")),
    ("no newline at the end", "loops: 1", .one("1")),
    ("words", "just words\n", .line(1, "not of the form 'KEY: VALUE'")),
    ("nothing", "", .sets([])),
    ("blanks", "  \n\n \n", .sets([])),
]

@Suite("Configuration text", .timed)
struct ConfigurationTextTests {
    @Test(
        "odd texts are read as written down, or refused with their line",
        arguments: oddTexts.indices)
    func odd(index: Int) throws {
        let (name, text, outcome) = oddTexts[index]
        let bytes = Array(text.utf8)
        switch outcome {
        case .sets(let expected):
            let found = try ConfigurationText.read(bytes)
            #expect(found.map(\.key) == expected.map(\.0), "\(name)")
            #expect(found.map(\.values) == expected.map(\.1), "\(name)")
        case .line(let line, let reason):
            let error = #expect(throws: ConfigurationError.self, "\(name)") {
                try ConfigurationText.read(bytes)
            }
            #expect(error == ConfigurationError(line: line, reason: reason), "\(name)")
        }
    }

    @Test("each key tells its line")
    func lines() throws {
        let found = try ConfigurationText.read(Array("# c\r\na: 1\r\n\r\nb:\r\n- 2\r\nc: 3".utf8))
        #expect(found.map(\.line) == [2, 4, 6])
    }

    @Test("bytes that are not UTF-8 are refused with their line, wherever they stand")
    func encoding() {
        for bytes in [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xE9], [0xF5, 0x80]] as [[UInt8]] {
            for before in ["a: 1\n# ", "a: 1\nb: '", "a: 1\n"] {
                #expect(throws: ConfigurationError(line: 2, reason: "not UTF-8")) {
                    try ConfigurationText.read(Array(before.utf8) + bytes + [0x0A])
                }
            }
        }
    }
}
