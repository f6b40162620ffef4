// Numbers in a text, put into an allocation.

import Foundation
import Smalloc
import TestSupport
import Testing

@testable import smalloc_cli

@Suite("Numbers in a text", .timed)
struct NumberFileTests {
    @Test("what read prints can be written again, exactly, of every type")
    func back() throws {
        let output = try Shell().output(
            """
            set -e
            for type in int8 uint8 int16 uint16 int32 uint32 float double uint8clamped int64 \\
                uint64 float16 bfloat16 bool complexfloat complexdouble; do
                cli alloc a 1024 $type; cli alloc b 1024 $type
                head -c 16384 /dev/urandom > f; size=$(cli stat a | sed -n 's/^size *\\([0-9]*\\).*/\\1/p')
                [ $type = bool ] && head -c 1024 /dev/zero > f
                head -c $size f | cli write a 0 --input -
                for format in numbers lines; do
                    cli read a -f $format | cli write b 0 --from -
                    cli read b -f $format > second; cli read a -f $format | cmp - second
                done
                cli rm a b
            done
            cli alloc i 3 int64; printf '9223372036854775807 -9223372036854775808 9007199254740993' > n
            cli write i --from n; cli read i
            """)
        #expect(output == "9223372036854775807 -9223372036854775808 9007199254740993\n")
    }

    @Test("separators of any kind stand between numbers, and a header is left out")
    func separators() throws {
        let shell = try Shell()
        for text in [
            "1,2\\n3,4\\n", "1;2;3;4", "1 2\\t3\\r\\n4", "1 , 2\\n\\n\\n3 ; 4\\n", "1|2|\\n3|4|\\n",
            "\\n1,2 ,\\n\\n3; 4;", "1;2;3;4;",
            "\\357\\273\\277 1,2,3,4", "\\357\\273\\2771,2,3,4", "  1\\v2\\f3 4  ",
        ] {
            let output = try shell.output(
                "cli alloc a 4; printf '\(text)' | cli write a 0 --from -; cli read a; cli rm a")
            #expect(output == "1 2 3 4\n", "\(text)")
        }
        let output = try shell.output(
            """
            printf 'x,y\\n# more\\n1.5,2\\n-3e2,NaN\\n' > t.csv
            cli alloc a 5 double; cli write a 1 --from t.csv --skip 2; cli read a
            cli alloc c 2 complexfloat; printf '1,2; 3,-4' | cli write c 0 --from -; cli read c
            cli write a 0 --from /dev/null; cli write a 0 --from t.csv --skip 9; cli read a
            """)
        #expect(output == "0 1.5 2 -300 NaN\n1,2 3,-4\n0 1.5 2 -300 NaN\n")
    }

    @Test("what is wrong is told with its line, and nothing is written")
    func wrong() throws {
        let shell = try Shell()
        for (text, options, code, words) in [
            ("1,2\\n3,x\\n", "", 2, "a: TypeError: no Int64: x (line 2 of f)"),
            ("1,,2", "", 2, "a: TypeError: a number is missing before , (line 1 of f)"),
            ("1\\n ;2", "", 2, "a: TypeError: a number is missing before ; (line 2 of f)"),
            (
                "h\\n1,2,\\n\\n3,4", "--skip 1", 2,
                "a: TypeError: a number is missing behind , as line 4 does not end so (line 2 of f)"
            ),
            ("1,2\\n3,", "", 2, "a: TypeError: a number is missing behind , (line 2 of f)"),
            ("1\\n2 ; \\n3", "", 2, "a: TypeError: a number is missing behind ; (line 2 of f)"),
            (
                "h\\n9223372036854775808", "--skip 1", 2,
                "no Int64: 9223372036854775808 (line 2 of f)"
            ),
            (
                "1 2 3 4 5", "", 3,
                "a: RangeError: start + count > length (f: start 0, count 5 or more"
            ),
            ("\\033[2J", "", 2, "no Int64: \\u{1b}[2J (line 1 of f)"),
        ] as [(String, String, Int32, String)] {
            let result = try shell.run(
                "cli alloc a 4 int64; printf '\(text)' > f; cli write a 0 --from f \(options)")
            #expect(result.code == code && result.errors.contains(words), "\(result)")
            #expect(try shell.output("cli read a; cli rm a") == "0 0 0 0\n")
        }
        for command in ["--from f --input f", "--from f 1", "--skip 1 1", "--from f --skip -1"] {
            #expect(try shell.run("cli write a 0 \(command)").code == 64, "\(command)")
        }
        _ = try shell.output("cli alloc a 4")
        #expect(try shell.run("cli write a 0 --from none").code == 74)
        #expect(try shell.run("cli write a 0 --from - <&-").code == 74)
    }

    @Test("however a text is cut into pieces, the same numbers come of it")
    func pieces() throws {
        let text = Array("\u{FEFF}skipped,1\n1, -2;3\n\n4 | 5\n+6.5e1 NaN".utf8)
        for size in 1...text.count {
            var numbers = NumberText(.double, skippingLines: 1)
            for first in stride(from: 0, to: text.count, by: size) {
                try text[first..<min(first + size, text.count)].withUnsafeBytes {
                    try numbers.take($0)
                }
            }
            try numbers.end()
            let values = numbers.bytes.withUnsafeBytes { Array($0.bindMemory(to: Double.self)) }
            #expect(values.prefix(6) == [1, -2, 3, 4, 5, 65] && values[6].isNaN)
        }
        var numbers = NumberText(.uint8, skippingLines: 0)
        let endless = [UInt8](repeating: UInt8(ascii: "1"), count: 5000)
        #expect(throws: NumberText.Malformed.self) {
            try endless.withUnsafeBytes { try numbers.take($0) }
        }
    }
}
