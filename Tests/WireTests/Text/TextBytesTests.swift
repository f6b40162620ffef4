import Foundation
import SmallocWire
import Testing
import TestSupport

@Suite("Bytes as text", .timed)
struct TextBytesTests {
    private func decode(
        _ text: String, _ codec: (UnsafeRawBufferPointer, inout Output) -> Bool
    ) -> [UInt8]? {
        var out = Output(capacity: 1)
        let good = Array(text.utf8).withUnsafeBytes { codec($0, &out) }
        return good ? contents(out) : nil
    }

    private func hex(_ text: String) -> [UInt8]? {
        decode(text) { TextBytes.decodeHex($0, to: &$1) }
    }
    private func base64(_ text: String) -> [UInt8]? {
        decode(text) { TextBytes.decodeBase64($0, to: &$1) }
    }

    private func encoded(
        _ bytes: [UInt8], _ codec: (UnsafeRawBufferPointer, inout Output) -> Void
    ) -> String {
        var out = Output(capacity: 1)
        bytes.withUnsafeBytes { codec($0, &out) }
        return String(decoding: out.bytes, as: UTF8.self)
    }

    @Test("hex is read in either case and refused when odd or foreign")
    func hexExamples() {
        #expect(hex("") == [])
        #expect(hex("00ff10aB") == [0, 255, 16, 171])
        for text in ["0", "000", "0g", "g0", "0x00", " 00", "00 ", "0/", "0:", "@0", "G0", "`0"] {
            #expect(hex(text) == nil, "\(text)")
        }
    }

    @Test("base64 is read padded or not, and refused when it is not canonical")
    func base64Examples() {
        #expect(base64("") == [])
        #expect(base64("AA==") == [0])
        #expect(base64("AA") == [0])
        #expect(base64("AAA=") == [0, 0])
        #expect(base64("+/+/") == [0xFB, 0xFF, 0xBF])
        let bad = [
            "A", "AAAAA", "=", "==", "A=", "A==", "A===", "AA=", "AAA==", "AAAA=", "AB==", "AAB=",
            "AA==AA==", "-_-_", "AA A", "AAA*", "é",
        ]
        for text in bad { #expect(base64(text) == nil, "\(text)") }
    }

    @Test("random bytes of every size up to 200 go both ways as Foundation has them")
    func random() {
        var random = SplitMix(for: "hex and base64")
        for size in 0...200 {
            let bytes = random.bytes(size)
            let text = encoded(bytes) { TextBytes.encodeBase64($0, to: &$1) }
            #expect(text == Data(bytes).base64EncodedString())
            #expect(base64(text) == bytes)
            #expect(base64(String(text.prefix { $0 != "=" })) == bytes)
            let digits = encoded(bytes) { TextBytes.encodeHex($0, to: &$1) }
            #expect(digits == bytes.map { String(format: "%02x", Int($0)) }.joined())
            #expect(hex(digits) == bytes)
            #expect(hex(digits.uppercased()) == bytes)
        }
    }

    @Test("what Foundation refuses as base64 is refused, with one changed byte at every place")
    func mutated() {
        var random = SplitMix(for: "changed base64")
        for _ in 0..<2_000 {
            var text = Array(Data(random.bytes(Int(random.next() % 12))).base64EncodedString().utf8)
            guard !text.isEmpty else { continue }
            text[Int(random.next() % UInt64(text.count))] = UInt8(random.next() % 128)
            let string = String(decoding: text, as: UTF8.self)
            guard let found = base64(string) else { continue }
            // What is taken is exactly what encodes to it.
            let canonical = Data(found).base64EncodedString()
            #expect(canonical == string || canonical.hasPrefix(string), "\(string)")
        }
    }

    @Test("pieces of whole groups encode as the whole does")
    func pieces() {
        let bytes = (0..<100).map { UInt8($0) }
        var out = Output(capacity: 1)
        bytes.withUnsafeBytes { all in
            for start in stride(from: 0, to: 100, by: 24) {
                let piece = UnsafeRawBufferPointer(rebasing: all[start..<min(100, start + 24)])
                TextBytes.encodeBase64(piece, to: &out)
            }
        }
        #expect(String(decoding: out.bytes, as: UTF8.self) == Data(bytes).base64EncodedString())
    }

    @Test("formats are named in any case")
    func formats() {
        #expect(TextFormat(named: "HEX") == .hex)
        #expect(TextFormat(named: "Base64") == .base64)
        #expect(TextFormat(named: "numbers") == .numbers)
        #expect(TextFormat(named: "") == nil)
        #expect(TextFormat(named: "octal") == nil)
    }
}
