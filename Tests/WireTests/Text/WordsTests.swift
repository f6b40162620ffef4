import SmallocWire
import Testing
import TestSupport

@Suite("Words", .timed)
struct WordsTests {
    private func words(_ line: String) -> [String] {
        withSpan(line) { line in
            var found: [String] = []
            var words = Words(line)
            while true {
                let word = words.next()
                if word.byteCount == 0 { return found }
                found.append(word.text)
            }
        }
    }

    @Test("spaces and tabs separate words, in any number and at both ends")
    func separated() {
        #expect(words("") == [])
        #expect(words(" \t ") == [])
        #expect(words("a") == ["a"])
        #expect(words("  read\t\ta  0\t") == ["read", "a", "0"])
        #expect(words("a\u{a0}b c\u{b}d") == ["a\u{a0}b", "c\u{b}d"])
    }

    @Test("the end is known before the last blanks are walked over")
    func atEnd() {
        withSpan("a  ") { line in
            var words = Words(line)
            var isAtEnd = words.isAtEnd
            #expect(!isAtEnd)
            _ = words.next()
            isAtEnd = words.isAtEnd
            #expect(isAtEnd)
            let restSize = words.rest.byteCount
            #expect(restSize == 2)
            let nextSize = words.next().byteCount
            #expect(nextSize == 0)
            isAtEnd = words.isAtEnd
            #expect(isAtEnd)
        }
    }

    @Test("a foreign word is shown as printable ASCII, and not all of it if it is long")
    func printable() {
        #expect(withSpan("foo") { $0.printable } == "foo")
        #expect(withSpan("\u{1b}[31mé\r") { $0.printable } == "?[31m???")
        #expect(withSpan(String(repeating: "x", count: 1000)) { $0.printable.utf8.count } == 64)
    }
}
