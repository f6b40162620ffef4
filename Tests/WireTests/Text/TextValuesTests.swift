import SmallocWire
import Testing
import TestSupport

@Suite("Values of a line", .timed)
struct TextValuesTests {
    private func encode(_ words: String, _ type: ElementType = .uint8) -> [UInt8]? {
        withSpan(words) { words in
            var out = Output(capacity: 1)
            do throws(SmallocError) {
                try TextValues.encode(words, as: type, to: &out)
                return contents(out)
            } catch {
                #expect(error.status == .invalidArgument)
                return nil
            }
        }
    }

    @Test("numbers, hex, base64 and text mix, in order")
    func mixed() {
        #expect(encode("1 2 300 -1") == [1, 2, 44, 255])
        #expect(
            encode(" hex:0aFF  base64:AQI= 3\ttext: a  b ") == [
                10, 255, 1, 2, 3, 32, 97, 32, 32, 98, 32,
            ])
        #expect(encode("HEX:00 Base64:AA== TEXT:x") == [0, 0, 120])
        #expect(encode("hex: base64: text:") == [])
        #expect(encode("1", .double) == [0, 0, 0, 0, 0, 0, 0xF0, 0x3F])
        #expect(encode("258 hex:0102", .uint16) == [2, 1, 1, 2])
        #expect(encode("0.5 1.5 2.5 999 -5 nan", .uint8Clamped) == [0, 2, 2, 255, 0, 0])
    }

    @Test("text: is taken as it is, other words for words inside it too")
    func text() {
        #expect(encode("text:hex:00 text:a") == Array("hex:00 text:a".utf8))
        #expect(encode("text:é\r") == Array("é\r".utf8))
    }

    @Test("a number that is too long is said to be, and not to be none")
    func longNumbers() {
        func message(_ words: String) -> String? {
            withSpan(words) { words in
                var out = Output(capacity: 1)
                do throws(SmallocError) {
                    try TextValues.encode(words, as: .double, to: &out)
                    return nil
                } catch { return error.message }
            }
        }
        let zeros = String(repeating: "0", count: 400)
        #expect(message(zeros) == nil)
        #expect(message(zeros + "1") == "a number has at most 400 characters")
        #expect(message("1e") == "a value is a number, hex:, base64: or text:")
    }

    @Test("all values together are whole elements")
    func wholeElements() {
        #expect(encode("hex:0102 hex:0304", .uint32) == [1, 2, 3, 4])
        #expect(encode("hex:01", .uint16) == nil)
        #expect(encode("1 hex:01", .int32) == nil)
        #expect(encode("text:abc", .float) == nil)
        #expect(encode("text:abcd", .float) == Array("abcd".utf8))
    }

    @Test(
        "anything else is an invalid argument",
        arguments: [
            "x", "1 x", "hex:0", "hex:zz", "base64:A", "base64:!", "hexa:00", "hex", "1,2",
            "hex :00", "true", "1e", "hex:00,00", "hex\u{1a}00", "text\u{1a}a",
            "base64\u{1a}AA==", "base\u{16}4:AA==", "base6\u{14}:AA==",
        ])
    func refused(_ words: String) { #expect(encode(words) == nil) }
}
