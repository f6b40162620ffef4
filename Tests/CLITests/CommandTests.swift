import Foundation
import Testing
import TestSupport

@Suite("Command line tool", .timed)
struct CommandTests {
    @Test("the document's example, subcommand by subcommand")
    func example() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc a 4; cli alloc b 4
            cli write a 0 0 1 2 3; cli write b 0 0 2 4 6
            cli copy b 2 a 0 2
            cli read a
            """)
        #expect(output == "4 6 2 3\n")
    }

    @Test("elements of every type print and read back")
    func types() throws {
        let shell = try Shell()
        let values = "-1.5 300 NaN -Infinity 1e300 -0 0.1"
        for (type, expected) in [
            ("int8", "-1 44 0 0 0 0 0"), ("uint8", "255 44 0 0 0 0 0"),
            ("int16", "-1 300 0 0 0 0 0"), ("uint32", "4294967295 300 0 0 0 0 0"),
            ("float", "-1.5 300 NaN -Infinity Infinity -0 0.1"),
            ("double", "-1.5 300 NaN -Infinity 1e+300 -0 0.1"),
            ("uint8clamped", "0 255 0 0 255 0 0"),
        ] {
            let output = try shell.output(
                "cli alloc \(type) 7 \(type) && cli write \(type) 0 \(values) && cli read \(type)")
            #expect(output == expected + "\n", "\(type)")
        }
    }

    @Test("elements come in the format that was asked for, and from where")
    func formats() throws {
        let shell = try Shell()
        #expect(
            try shell.output(
                """
                set -e
                cli alloc a 3 int16; cli write a 0 1 -2 300
                cli read a 1; cli read a 1 1; cli read a 3; cli read a --format lines
                cli read a -f hex; cli read a --json; cli read a -f raw | od -An -tx1 | tr -d ' '
                cli read a -o file; cat file
                cli fill a 1 2 -7; cli read a
                """)
                    == """
                    -2 300
                    -2

                    1
                    -2
                    300
                    0100feff2c01
                    {"name":"a","type":"Int16","start":0,"values":[1,-2,300]}
                    0100feff2c01
                    1 -2 300
                    1 -7 -7

                    """)
    }

    @Test("what JSON has no word for is a string, so that all of it is JSON")
    func jsonNumbers() throws {
        let shell = try Shell()
        for type in ["double", "float"] {
            let output = try shell.output(
                """
                cli alloc a 5 \(type); cli write a 0 NaN Infinity -Infinity -0 0.5
                cli read a --json; cli rm a
                """)
            let parsed = try JSONSerialization.jsonObject(with: Data(output.utf8))
            let values = try #require((parsed as? [String: Any])?["values"] as? [Any])
            #expect(values.prefix(3).map { $0 as? String } == ["NaN", "Infinity", "-Infinity"])
            #expect(values.suffix(2).map { $0 as? Double } == [0, 0.5])
        }
    }

    @Test("hexdump prints what hexdump -C prints")
    func hexdump() throws {
        let shell = try Shell()
        #expect(
            try shell.output("printf 'smalloc\\001\\377 and more' | cli put a && cli hexdump a")
                == """
                00000000  73 6d 61 6c 6c 6f 63 01  ff 20 61 6e 64 20 6d 6f  |smalloc.. and mo|
                00000010  72 65                                             |re|
                00000012

                """)
    }

    @Test("ls is a table for people, tabs in a pipe, JSON for scripts")
    func list() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc b/x 3K double; cli alloc a 5; cli alloc b/y 0
            cli ls; cli ls b/ --human; cli ls --sort size -b | head -1; cli ls --json b/
            cli list --unsorted | sort
            cli ls nothing; cli ls nothing --json
            """)
        #expect(
            output == """
                a\tUint8\t5\t5
                b/x\tDouble\t3072\t24576
                b/y\tUint8\t0\t0
                NAME  TYPE    LENGTH    SIZE
                b/x   Double    3072  24 KiB
                b/y   Uint8        0     0 B
                b/x\tDouble\t3072\t24576
                [{"name":"b/x","type":"Double","length":3072,"size":24576},
                 {"name":"b/y","type":"Uint8","length":0,"size":0}]
                a\tUint8\t5\t5
                b/x\tDouble\t3072\t24576
                b/y\tUint8\t0\t0
                []

                """)
    }

    @Test("stat, truncate, mv, cp and rm do what their names say")
    func names() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc a 4 uint16; cli write a 0 1 2 3 4
            cli truncate a 3; cli mv a b; cli cp b c; cli read c
            cli write b 0 9; cli cp --force b c; cli read c
            cli stat c | grep -E '^(name|type|length|size)'
            cli stat c --json | sed 's/"created.*//'
            cli rm b c; cli ls; cli rm -f b c
            """)
        #expect(
            output == """
                1 2 3
                9 2 3
                name     c
                type     Uint16
                length   3
                size     6 (6 B)
                {"name":"c","type":"Uint16","length":3,"size":6,

                """)
    }

    @Test("files and pipes of any size go in and come out unchanged")
    func transfers() throws {
        let shell = try Shell()
        // Over one block of the tool and one chunk of the library, and no multiple of either.
        let output = try shell.output(
            """
            set -e
            head -c 50000001 /dev/urandom > in
            cli put whole in
            cat in | cli put piped
            cli cp whole copied
            cli get copied out; cmp in out
            cli cat piped | cmp in -
            cli get whole - | cmp in -
            cli alloc room 50000011
            cli write room 10 --input in
            cat in | cli write room 10 --input -
            cli read room 10 --format raw | cmp in -
            : | cli put empty; cli get empty none; test ! -s none
            printf 12345678 | cli put typed --type double; cli ls typed
            """)
        #expect(output == "typed\tDouble\t1\t8\n")
    }

    @Test("a name appears only when its allocation is whole")
    func publishing() throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            cli alloc a 1
            printf abc | cli put a; echo $?
            (printf abc; cli ls b >&2; printf def) | cli put b; cli cat b; echo
            printf abc | cli put a --force; cli cat a; echo
            printf abc | cli put c --type int16; echo $?; cli ls
            """)
        #expect(result.output == "2\nabcdef\nabc\n2\na\tUint8\t3\t3\nb\tUint8\t6\t6\n")
        #expect(
            result.errors == """
                smalloc-cli: a: TypeError: object already has external array data; --force takes \
                its place
                smalloc-cli: c: TypeError: standard input has 3 bytes, which are not whole elements \
                of Int16, 2 bytes each

                """)
    }

    @Test(
        "each class of error has its exit code and one line",
        arguments: [
            (
                "cli read none", 1,
                "none: Error: object has no external array data (no allocation has this name)"
            ),
            (
                "cli rm none", 1,
                "none: Error: obj has no external array data (no allocation has this name)"
            ),
            ("cli copy none 0 a 0 1", 1, "none to a: Error: source has no external array data"),
            ("cli copy a 0 none 0 1", 1, "a to none: Error: dest has no external array data"),
            (
                "cli alloc a 4", 2,
                "a: TypeError: object already has external array data (the name is taken)"
            ),
            (
                "cli truncate none 1", 1,
                "none: Error: object has no external array data (no allocation has this name)"
            ),
            ("cli write a 0 x", 2, "a: TypeError: no number: x"),
            ("cli alloc b 64M", 3, "b: RangeError: n > kMaxLength (67108864 bytes)"),
            ("cli read a 5", 3, "a: RangeError: start > length (start 5, length 4)"),
            (
                "cli read a 1 4", 3,
                "a: RangeError: start + count > length (start 1, count 4, length 4)"
            ),
            (
                "cli write a 4 1", 3,
                "a: RangeError: start + count > length (start 4, count 1, length 4)"
            ),
            (
                "printf 12345 | cli write a 0 --input -", 3,
                "a: RangeError: start + count > length (standard input: start 0, count 5, length 4)"
            ),
            (
                "cli copy a 0 a 0 5", 3,
                "a to a: RangeError: copy_length > source_length (from a: start 0, count 5, length 4; "
                    + "onto a: start 0, length 4)"
            ),
            (
                "cli truncate a 5", 3,
                "a: RangeError: truncate length is bigger than current one (length 4)"
            ),
            (
                "cli ping --address unix:/no/such", 69,
                "Error: no connection to unix:/no/such: No such file or directory"
            ),
            ("cli get a /no/such/file", 74, "/no/such/file: can't open: No such file or directory"),
            ("cli put b none", 74, "none: can't open: No such file or directory"),
            ("cli read a > /dev/full", 74, "standard output: can't write: No space left on device"),
        ] as [(String, Int32, String)])
    func exitCodes(script: String, code: Int32, line: String) throws {
        let shell = try Shell(["--length-max", "1M"])
        let result = try shell.run("cli alloc a 4; \(script)")
        #expect(result == Shell.Result(code: code, output: "", errors: "smalloc-cli: \(line)\n"))
    }

    @Test(
        "a wrong command line is a usage error",
        arguments: [
            "cli read", "cli nothing", "cli alloc a x", "cli alloc a 1.5", "cli write a 0",
            "cli write a 0 --bogus", "cli write a 0 1 --input x", "cli ls --bytes --human",
            "cli ping --timeout -1", "cli fill a 0 1 -x", "cli fill a 0 1 2 3",
            "cli read a --timeout -1", "cli read a --output -- 0",
        ])
    func usage(script: String) throws {
        let result = try Shell().run(script)
        #expect(result.code == 64)
        #expect(result.output.isEmpty)
        #expect(result.errors.contains("Usage:"))
    }

    @Test("rm removes what it can, and tells each failure")
    func removal() throws {
        let shell = try Shell()
        let result = try shell.run("cli alloc a 1; cli alloc b 1; cli rm a x b y; echo $?; cli ls")
        #expect(result.output == "1\n")
        #expect(result.errors.split(separator: "\n").count == 2)
    }

    @Test("errors are JSON where JSON was asked for")
    func jsonErrors() throws {
        let result = try Shell().run("cli --json stat none")
        #expect(result.code == 1)
        #expect(
            result.errors == """
                {"error":{"status":"noData","class":"Error","message":"object has no external array \
                data","detail":"no allocation has this name","subject":"none"}}

                """)
    }

    @Test("ping and stats tell of the daemon; stats again and again if asked")
    func daemon() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli ping -n 1 | grep -c '^pong from unix:'
            cli ping --quiet
            cli stats limit_line | sed 's/  */ /g'
            cli stats --watch -n 3 -i 0.05 requests_stats --json | wc -l
            """)
        #expect(output == "1\nlimit_line_bytes 1048576 1.0 MiB\n3\n")
    }

    @Test("a reader that leaves early ends the tool without a word")
    func brokenPipe() throws {
        let shell = try Shell()
        let result = try shell.run("cli alloc a 32M; cli cat a | head -c 1 | wc -c; cli ls | wc -l")
        #expect(result.output.filter { !$0.isWhitespace } == "11")
        #expect(result.errors.isEmpty)
    }

    @Test("help names every subcommand's purpose and the exit codes, the version is the package's")
    func help() throws {
        let shell = try Shell()
        let help = try shell.output("cli --help")
        for word in [
            "alloc", "ls", "stat", "rm", "truncate", "mv", "read", "write", "fill", "copy", "cp",
            "put", "get", "cat", "hexdump", "ping", "stats", "atomic", "wait", "notify", "top",
            "doctor", "watch",
        ] {
            #expect(help.contains("\n  \(word)"), "\(word)")
            #expect(try shell.output("cli \(word) --help").contains("USAGE: smalloc-cli \(word)"))
        }
        #expect(help.contains("  69  no daemon there"))
        let version = try shell.output("cli --version").split(separator: " ").last
        let changes = try String(
            contentsOf: ProjectFolder.root.appendingPathComponent("CHANGELOG.md"), encoding: .utf8)
        let newest = try #require(changes.split(separator: "\n").first { $0.hasPrefix("## ") })
        #expect(newest.contains(try #require(version).trimmingCharacters(in: .newlines)))
    }
}
