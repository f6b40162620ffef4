// Element types beyond Node's, shapes and metadata, through the command line tool.

import Smalloc
import Testing
import TestSupport

@testable import smalloc_cli

@Suite("Types and shapes of the command line tool", .timed)
struct DescribedTests {
    @Test("elements of every type are written, filled and read as they are")
    func elements() throws {
        let output = try Shell().output(
            """
            set -e
            cli alloc i 3 int64; cli write i 0 -9223372036854775808 9223372036854775807
            cli fill i 2 1 9007199254740993; cli read i; cli read i --json
            cli alloc u 1 UINT64; cli write u 0 18446744073709551615; cli read u
            cli alloc h 2 float16; cli write h 0 0.1 65504; cli read h
            cli alloc b 2 13; cli write b 0 257 nan; cli read b; cli read b --json
            cli alloc t 4 bool; cli fill t 0 4 true; cli write t 1 0 hex:07 False; cli read t
            cli read t --json
            cli alloc c 2 complexfloat; cli write c 0 1.5,-2 0,nan; cli read c; cli read c --json
            cli alloc d 2 complexdouble; cli fill d 0 2 0.1,1e300; cli read d
            """)
        #expect(
            output == """
                -9223372036854775808 9223372036854775807 9007199254740993
                {"name":"i","type":"Int64","start":0,"values":[-9223372036854775808,\
                9223372036854775807,9007199254740993]}
                18446744073709551615
                0.1 65500
                256 NaN
                {"name":"b","type":"Bfloat16","start":0,"values":[256,"NaN"]}
                1 0 1 0
                {"name":"t","type":"Bool","start":0,"values":[true,false,true,false]}
                1.5,-2 0,NaN
                {"name":"c","type":"ComplexFloat","start":0,"values":["1.5,-2","0,NaN"]}
                0.1,1e+300 0.1,1e+300

                """)
    }

    @Test(
        "what is no element of the type is refused, and changes nothing",
        arguments: [
            ("int64", "9223372036854775808"), ("int64", "1.5"), ("uint64", "-1"), ("bool", "2"),
            ("complexfloat", "1"), ("complexdouble", "1,2,3"), ("uint64", "1e3"),
        ])
    func refused(type: String, value: String) throws {
        let shell = try Shell()
        _ = try shell.output("cli alloc a 1 \(type)")
        for command in ["write a 0", "fill a 0 1"] {
            let result = try shell.run("cli \(command) \(value)")
            #expect(result.code == 2 && result.errors.contains(value), "\(result)")
        }
        #expect(try shell.output("cli hexdump a").hasPrefix("00000000  00"))
    }

    @Test("alloc describes, and stat and ls tell")
    func shapes() throws {
        let output = try Shell().output(
            """
            set -e
            cli alloc a 6 int16 --shape 2x3 --meta hello
            cli alloc b --shape 2Kx1 float16
            cli alloc c --shape scalar --meta hex:00ff
            cli alloc d 2 --meta text:a,b
            cli stat a | tail -2; cli stat b | tail -1; cli stat c | tail -2; cli stat d | tail -1
            cli stat a --json | sed 's/.*"shape"/"shape"/'
            cli stat d --json | sed 's/.*"shape"/"shape"/'
            cli ls; cli ls --long; cli ls -l --human
            cli ls -l --json | sed 's/,"leaseLeftMilliseconds":null//'
            cli ls -l --unsorted b
            cli cp a ca; cli cp d cd; cli cp -f c cd; cli stat ca cd | grep -E '^(shape|metadata)'
            cli cp -f d cd; cli stat cd | grep -E '^(shape|metadata)'
            """)
        #expect(
            output == """
                shape    2x3
                metadata text:hello
                shape    2048x1
                shape    scalar
                metadata base64:AP8=
                metadata text:a,b
                "shape":[2,3],"metadata":"base64:aGVsbG8="}
                "shape":null,"metadata":"base64:YSxi"}
                a\tInt16\t6\t12
                b\tFloat16\t2048\t4096
                c\tUint8\t1\t1
                d\tUint8\t2\t2
                a\tInt16\t6\t12\t2x3\t-
                b\tFloat16\t2048\t4096\t2048x1\t-
                c\tUint8\t1\t1\tscalar\t-
                d\tUint8\t2\t2\t-\t-
                NAME  TYPE     LENGTH     SIZE  SHAPE   LEASE
                a     Int16         6     12 B  2x3     -
                b     Float16    2048  4.0 KiB  2048x1  -
                c     Uint8         1      1 B  scalar  -
                d     Uint8         2      2 B  -       -
                [{"name":"a","type":"Int16","length":6,"size":12,"shape":[2,3]},
                 {"name":"b","type":"Float16","length":2048,"size":4096,"shape":[2048,1]},
                 {"name":"c","type":"Uint8","length":1,"size":1,"shape":[]},
                 {"name":"d","type":"Uint8","length":2,"size":2,"shape":null}]
                b\tFloat16\t2048\t4096\t2048x1\t-
                shape    2x3
                metadata text:hello
                shape    scalar
                metadata base64:AP8=
                metadata text:a,b

                """)
    }

    @Test("what is shareable, frozen and mapped is told")
    func maps() throws {
        let shell = try Shell()
        let script = """
            cli stat a | sed -n '/^flags/p;/^maps/p'
            cli stat a --json | sed 's/.*\\("flags.*\\),"owner.*/\\1/'
            """
        #expect(
            try shell.output("cli alloc a 4 float --shareable --shape 2x2; \(script)") == """
                flags    shareable,described
                maps     none
                "flags":["shareable","described"],"maps":"none"

                """)
        let map = try Smalloc("unix:\(shell.daemon.path)").open("a").map(Float.self)
        #expect(
            try shell.output(script) == """
                flags    shareable,described,shared
                maps     write
                "flags":["shareable","described","shared"],"maps":"write"

                """)
        #expect(map.count == 4)
        #expect(
            try shell.output("cli alloc b 1; cli freeze b; cli stat b | grep flags")
                == "flags    frozen\n")
        #expect(try shell.output("cli alloc c 1; cli stat c | grep flags") == "flags    none\n")
    }

    @Test(
        "what is no description is a usage error, or the daemon's",
        arguments: [
            ("alloc a", 64), ("alloc a int8", 64), ("alloc a int8 --meta x", 64),
            ("alloc a int8 int16 --shape 2", 64), ("alloc a --shape 2x", 64),
            ("alloc a --shape -2", 64), ("alloc a --shape 2,3", 64),
            ("alloc a 1 --meta base64:A", 64), ("alloc a 6 --shape 2x4", 2),
            ("alloc a --shape 1x1x1x1x1x1x1x1x1", 2), ("alloc a nope --shape 2", 2),
            ("alloc a --shape 8Ex8E", 3), ("alloc a 1 --meta $(printf '%0257d' 0)", 2),
        ] as [(String, Int32)])
    func wrong(command: String, code: Int32) throws {
        let shell = try Shell()
        #expect(try shell.run("cli \(command)").code == code)
        #expect(try shell.output("cli ls") == "")
    }

    @Test("metadata of every length is shown as base64 reads back")
    func base64() throws {
        for count in 0..<70 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 91 &+ 128) }
            #expect(try elementBytes(["base64:" + base64Text(bytes)], .uint8) == bytes)
            #expect(base64Text(bytes).count % 4 == 0)
        }
        #expect(metadataText([0x20, 0x7E]) == "text: ~")
        #expect(metadataText([0x7F]) == "base64:fw==")
    }
}
