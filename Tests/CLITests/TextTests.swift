import Smalloc
import Testing
import TestSupport

@testable import smalloc_cli

@Suite("Text of the command line tool", .timed)
struct TextTests {
    @Test(
        "numbers print as the shortest text that reads back",
        arguments: [
            (4.0, "4"), (-0.0, "-0"), (0.1, "0.1"), (1e300, "1e+300"), (.nan, "NaN"),
            (.infinity, "Infinity"), (-.infinity, "-Infinity"), (.leastNonzeroMagnitude, "5e-324"),
        ] as [(Double, String)])
    func numbers(value: Double, text: String) throws {
        #expect(elementText(value) == text)
        let bytes = try elementBytes([text], .double)
        let read = bytes.withUnsafeBytes { $0.loadUnaligned(as: Double.self) }
        #expect(read.bitPattern == value.bitPattern || read.isNaN && value.isNaN)
    }

    @Test("values of all forms may be mixed, and convert as Node's stores do")
    func values() throws {
        #expect(
            try elementBytes(["1", "hex:0aFF", "base64:AQI=", "text:hé", "300", "-1"], .uint8)
                == [1, 10, 255, 1, 2, 0x68, 0xC3, 0xA9, 44, 255])
        #expect(try elementBytes(["HEX:", "base64:", "text:"], .uint8) == [])
        #expect(try elementBytes(["1.5", "255.9"], .uint8Clamped) == [2, 255])
        #expect(try elementBytes(["-1"], .uint16) == [255, 255])
    }

    @Test(
        "what is no value is an error",
        arguments: [
            "", "x", "0x10", "1e", "--1", "+-1", "hex:0", "hex:0g", "base64:A", "base64:AB==C",
            "base64:AB", "base64:AQI", "1 2", "nan2", "١",
        ])
    func malformed(value: String) {
        // Base64 without its padding is taken: the digits alone say how many bytes there are.
        if value == "base64:AQI" {
            #expect(throws: Never.self) { try elementBytes([value], .uint8) }
            return
        }
        #expect(throws: SmallocError.self) { try elementBytes([value], .uint8) }
    }

    @Test("bytes that are no whole elements are an error")
    func parts() {
        #expect(throws: SmallocError.self) { try elementBytes(["hex:010203"], .uint16) }
    }

    @Test("base64 of every length and byte reads back")
    func base64() throws {
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
        for length in 0..<70 {
            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ length) }
            var text = ""
            for first in stride(from: 0, to: length, by: 3) {
                let group = bytes[first..<min(first + 3, length)]
                let bits =
                    group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                    << UInt32(8 * (3 - group.count))
                for position in 0..<4 {
                    text +=
                        position <= group.count
                        ? String(digits[Int(bits >> UInt32(18 - 6 * position)) & 63]) : "="
                }
            }
            #expect(try elementBytes(["base64:" + text], .uint8) == bytes)
        }
    }

    @Test("sizes, times and dates are as people read them")
    func human() {
        #expect(humanSize(0) == "0 B")
        #expect(humanSize(1023) == "1023 B")
        #expect(humanSize(1024) == "1.0 KiB")
        #expect(humanSize(1536) == "1.5 KiB")
        #expect(humanSize(10 << 20) == "10 MiB")
        #expect(humanSize((1 << 30) - 1) == "1.0 GiB")
        #expect(humanSize(UInt64.max) == "16 EiB")
        #expect(humanTime(7) == "7s")
        #expect(humanTime(185) == "3m05s")
        #expect(humanTime(8040) == "2h14m")
        #expect(humanTime(-1) == "0s")
        #expect(timestamp(0) == "1970-01-01T00:00:00Z")
        #expect(timestamp(951_782_400_000) == "2000-02-29T00:00:00Z")
        #expect(timestamp(1_795_420_799_999) == "2026-11-23T07:59:59Z")
    }

    @Test("a progress line fits the terminal, with a bar where there is room")
    func progress() {
        let wide = Progress.line("a", 512 << 20, 1 << 30, seconds: 1, columns: 100)
        #expect(
            wide == "a  [####################--------------------]  "
                + "50%  512 MiB of 1.0 GiB  512 MiB/s  1s")
        for columns in [10, 40, 60, 80] {
            #expect(
                Progress.line("name", 1 << 30, 4 << 30, seconds: 2, columns: columns).count
                    <= columns)
        }
        #expect(
            Progress.line("pipe", 3 << 20, nil, seconds: 1, columns: 80)
                == "pipe  3.0 MiB  3.0 MiB/s")
    }

    @Test("JSON escapes what it has to")
    func json() {
        let value = JSON.object([
            ("a\"\\\n", .string("\u{1}\u{7f}é")), ("n", .number(.nan)),
            ("x", .array([.integer(1), .null, .number(-0.5)])),
        ])
        #expect(value.text == #"{"a\"\\\n":"\u0001\u007fé","n":"NaN","x":[1,null,-0.5]}"#)
    }

    @Test("what goes to a terminal has no control characters")
    func terminal() {
        #expect(printable("a\u{1B}[2J\n\u{202E}é") == "a\\u{1b}[2J\\u{a}\\u{202e}é")
    }

    @Test("negative numbers and what follows -- stand where no option can be")
    func negativeNumbers() {
        func arranged(_ line: String) -> String {
            CommandWords(line.split(separator: " ").map(String.init)).arranged
                .joined(separator: " ")
        }
        #expect(arranged("read a -1 --json") == "read --json -- a -1")
        #expect(arranged("read -o -1 a -inf -i") == "read -o -1 -i -- a -inf")
        #expect(arranged("read -o=-1 a -.5") == "read -o=-1 -- a -.5")
        #expect(arranged("read --output -- -h") == "read --output -- -h")
        #expect(arranged("write a 0 --input - -- --json") == "write --input - -- a 0 --json")
        #expect(arranged("--timeout 3 fill a 0 1 -2") == "--timeout 3 fill -- a 0 1 -2")
        #expect(arranged("--json -- fill a") == "--json fill -- a")
        for line in [
            "rm -- -1", "alloc --help", "--json --address x ls a", "--timeout=3 ls", "--json",
            "--address", "--help", "---completion read -- x", "help read",
        ] {
            #expect(arranged(line) == line)
        }
    }
}
