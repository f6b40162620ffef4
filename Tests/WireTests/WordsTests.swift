import SmallocWire
import Testing

@Suite("Words")
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
            #expect(!words.isAtEnd)
            _ = words.next()
            #expect(words.isAtEnd)
            #expect(words.rest.byteCount == 2)
            #expect(words.next().byteCount == 0)
            #expect(words.isAtEnd)
        }
    }
}
