// Files of numpy's: what is understood of them, and what is refused. Their headers are not trusted.

import Foundation
import TestSupport
import Testing

@testable import smalloc_cli

@Suite("Files of numpy's", .timed)
struct NpyTests {
    /// A file as numpy writes it.
    private func file(_ text: String, version: UInt8 = 1, _ elements: [UInt8]) -> [UInt8] {
        let size = text.utf8.count
        let digits = (0..<(version == 1 ? 2 : 4)).map { UInt8(size >> (8 * $0) & 255) }
        return [0x93] + Array("NUMPY".utf8) + [version, 0] + digits + Array(text.utf8) + elements
    }

    private func put(
        _ shell: Shell, _ bytes: [UInt8], options: String = "", piped: Bool = false
    ) throws -> Shell.Result {
        try Data(bytes).write(to: URL(fileURLWithPath: shell.folder + "/f.npy"))
        let show =
            "cli stat a --json | sed 's/.*\"type\":\"\\([^\"]*\\)\".*\"shape\":\\([^ ]*\\),.*/\\1 \\2/'"
        let put =
            piped ? "cat f.npy | cli put -f a --format npy" : "cli put -f a f.npy"
        return try shell.run("\(put) \(options) && \(show) && cli read a")
    }

    @Test("type, shape and byte order are taken from the header, of versions 1 to 3")
    func understood() throws {
        let shell = try Shell()
        let cases: [(String, [UInt8], String)] = [
            (
                "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }   \n",
                [1, 0, 255, 255, 0, 1], "Int16 [3]\n1 -1 256\n"
            ),
            (
                "{'descr': '>i2', 'fortran_order': False, 'shape': (1, 3)}",
                [1, 0, 255, 255, 0, 1], "Int16 [1,3]\n256 -1 1\n"
            ),
            (
                "{'descr': '>c8', 'fortran_order': False, 'shape': (), }",
                [0x3F, 0x80, 0, 0, 0xC0, 0, 0, 0], "ComplexFloat []\n1,-2\n"
            ),
            (
                "{\"shape\": (2L, 1L), \"descr\": \"|b1\", \"fortran_order\": True}",
                [1, 0], "Bool [2,1]\n1 0\n"
            ),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (4, 0), }", [], "Float [4,0]\n\n"),
            (
                "{'descr': '=u8', 'fortran_order': False, 'shape': (1,), }",
                [UInt8](repeating: 255, count: 8), "Uint64 [1]\n18446744073709551615\n"
            ),
            // What stands behind the array is not its.
            (
                "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", [1, 2, 3],
                "Uint8 [2]\n1 2\n"
            ),
        ]
        for (index, (text, elements, output)) in cases.enumerated() {
            for version: UInt8 in 1...3 {
                let result = try put(
                    shell, file(text, version: version, elements), piped: index % 2 == 0)
                #expect(result.output == output && result.code == 0, "\(text): \(result.errors)")
            }
        }
        let shorts = file(
            "{'descr': '<V2', 'fortran_order': False, 'shape': (1,), }", [0x80, 0x3F])
        #expect(try put(shell, shorts, options: "-t bfloat16").output == "Bfloat16 [1]\n1\n")
    }

    @Test("what no allocation can hold is refused, and says why")
    func refused() throws {
        let shell = try Shell(["--length-max", "1M"])
        func dictionary(
            _ type: String = "'<i4'", _ order: String = "False", _ shape: String = "(2,)"
        ) -> String { "{'descr': \(type), 'fortran_order': \(order), 'shape': \(shape), }" }
        let element = [UInt8](repeating: 1, count: 24)
        let huge = "9223372036854775807"
        let cases: [([UInt8], String, Int32)] = [
            (file(dictionary("'<i4'", "True", "(2, 3)"), element), "in Fortran order", 2),
            (file(dictionary("'<U3'"), element), "numpy's type <U3", 2),
            (file(dictionary("'|O'"), element), "numpy's type |O", 2),
            (file(dictionary("'<M8[ns]'"), element), "numpy's type <M8[ns]", 2),
            (file(dictionary("'|V4'"), element), "give --type", 2),
            (file(dictionary("[('a', '<i4')]"), element), "several fields", 2),
            (file(dictionary("'<i4'", "False", "(1,1,1,1,1,1,1,1,1)"), element), "9 dimensions", 2),
            (file(dictionary("'<i4'", "False", "(\(huge), \(huge))"), element), "2^63 bytes", 2),
            (
                file(dictionary("'<i4'", "False", "(\(huge)0,)"), element), "a header that is none",
                2
            ),
            (file(dictionary("'<i4'", "False", "(-1,)"), element), "a header that is none", 2),
            (file(dictionary("'<i4'", "False", "(2"), element), "a header that is none", 2),
            (file(dictionary("'<i4'", "0"), element), "a header that is none", 2),
            (file("{'descr': '<i4', 'shape': (2,)}", element), "a header that is none", 2),
            (file("{'descr': '<i4', 'descr': '<i4'}", element), "a header that is none", 2),
            (file("__import__('os').system('x')", element), "a header that is none", 2),
            (file(dictionary() + "x", element), "a header that is none", 2),
            (file("", element), "a header that is none", 2),
            (file(dictionary(), [1, 2, 3, 4, 5]), "ends after 5 of 8 bytes of elements", 74),
            (Array(file(dictionary(), []).prefix(30)), "ends within the header", 2),
            (Array("hello, world".utf8), "no file of numpy's", 2),
            ([], "ends within the header", 2),
            (file(dictionary(), version: 4, element), "version 4.0", 2),
            ([0x93] + Array("NUMPY".utf8) + [2, 0, 255, 255, 255, 255], "4294967295 bytes", 2),
            (
                file(
                    dictionary("'<i4'", "False", "(1000000,)"),
                    [UInt8](repeating: 1, count: 4_000_000)), "n > kMaxLength", 3
            ),
        ]
        for (bytes, words, code) in cases {
            let result = try put(shell, bytes)
            #expect(result.errors.contains(words) && result.code == code, "\(words): \(result)")
            #expect(result.errors.split(separator: "\n").count == 1)
        }
        let twice = try put(shell, file(dictionary(), element), options: "-t int32")
        #expect(twice.errors.contains("leave out --type") && twice.code == 2)
        #expect(try shell.output("cli stats allocations") == "allocations  0\n")
        #expect(
            try put(shell, Array("abc".utf8), options: "--format raw").output
                == "Uint8 null\n97 98 99\n")
    }

    @Test("no header is read further than it goes, whatever it holds")
    func random() {
        var random = SplitMix(for: "NpyTests")
        let seed = random.seed
        let text = Array("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }".utf8)
        var good = NpyText(text)
        #expect((try? good.parse()) == .init(type: "<f8", isFortran: false, shape: [3, 4]))
        for _ in 0..<Scale.count(20_000) {
            var bytes = text
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let at = Int.random(in: 0..<max(1, bytes.count), using: &random)
                switch Int.random(in: 0...3, using: &random) {
                case 0: bytes = Array(bytes.prefix(at))
                case 1: bytes.insert(text[Int.random(in: 0..<text.count, using: &random)], at: at)
                case 2 where !bytes.isEmpty: bytes.remove(at: at)
                default:
                    if !bytes.isEmpty { bytes[at] = .random(in: .min ... .max, using: &random) }
                }
                if bytes.isEmpty { break }
            }
            var parser = NpyText(bytes)
            guard let facts = try? parser.parse() else { continue }
            #expect(facts.shape.count <= 8 && facts.shape.allSatisfy { $0 >= 0 }, "seed \(seed)")
        }
    }

    @Test("what get writes is what put reads, and its header fills 64 bytes")
    func there() throws {
        let output = try Shell().output(
            """
            set -e
            cli alloc a --shape 2x3 float16; cli write a 0 1 2 3 4 5 6
            cli get a a.npy; head -c 128 a.npy | tail -c +11 | head -c 118 | tr -s ' '
            cli put b a.npy; cli read b; cli stat b | grep shape
            cli alloc c 2 uint8clamped; cli get c --format npy > c; cli put d c --format npy
            cli ls d; cli alloc e 1 bfloat16; cli get e e.npy; cli put f e.npy -t bfloat16; cli ls f
            cli alloc g --shape scalar; cli get g g.npy; cli put h g.npy; cli stat h | grep shape
            for file in a.npy c e.npy g.npy; do
                echo $(($(od -An -tu2 -j8 -N2 $file) % 64))
            done
            cli get a --format raw raw.npy; stat -c %s raw.npy
            """)
        #expect(
            output == """
                {'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), } 
                1 2 3 4 5 6
                shape    2x3
                d\tUint8\t2\t2
                f\tBfloat16\t1\t2
                shape    scalar
                54
                54
                54
                54
                12

                """)
    }
}
