import Testing
import TestSupport

/// What words on the command line may look like, and what is said of those that can't be used.
@Suite("Arguments", .timed)
struct ArgumentTests {
    @Test("after -- every word is a value or a name, and negative numbers need none")
    func terminator() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc a 3 int16
            cli write a 0 -- -1 2 -3; cli read a
            cli write a 0 -1 -2 --no-progress -3; cli read a
            cli write -- a 1 -4; cli read a -- 1 1; cli read -f lines -- a
            cli fill a 0 2 -- -7; cli read a
            cli fill a 0 2 -8; cli read a; cli -- read a
            cli fill a --json 0 -- 2 -9; cli --json -- read a
            cli alloc -- -x 1; cli stat -- -x | head -1
            cli alloc -- -1 1; cli read -- -1 0 1; cli rm -- -x -1; cli ls
            """)
        #expect(
            output == """
                -1 2 -3
                -1 -2 -3
                -4
                -1
                -4
                -3
                -7 -7 -3
                -8 -8 -3
                -8 -8 -3
                {"name":"a","type":"Int16","start":0,"values":[-9,-9,-3]}
                name     -x
                0
                a\tInt16\t3\t6

                """)
    }

    @Test("an option after -- is a value that can't be read")
    func optionAsValue() throws {
        let result = try Shell().run("cli alloc a 4; cli write a 0 -- 1 --json")
        #expect(
            result
                == Shell.Result(
                    code: 2, output: "", errors: "smalloc-cli: a: TypeError: no number: --json\n"))
    }

    @Test(
        "a negative or huge number of elements is out of range, and the text names the argument",
        arguments: [
            ("alloc y -1", "y: RangeError: n > kMaxLength (LENGTH is -1)"),
            ("alloc y -1K", "y: RangeError: n > kMaxLength (LENGTH is -1K)"),
            (
                "alloc y 99999999999999999999 double",
                "y: RangeError: n > kMaxLength (LENGTH is 99999999999999999999)"
            ),
            ("alloc y 8E", "y: RangeError: n > kMaxLength (LENGTH is 8E)"),
            ("alloc y 1E", "y: RangeError: n > kMaxLength (1152921504606846976 bytes)"),
            ("read a -1", "a: RangeError: start > length (START is -1)"),
            ("read a 0 -1", "a: RangeError: start + count > length (COUNT is -1)"),
            ("read a 3 -1 --json", nil),
            (
                "read a 99999999999999999999",
                "a: RangeError: start > length (START is 99999999999999999999)"
            ),
            ("hexdump a -1", "a: RangeError: start > length (START is -1)"),
            ("hexdump a 0 16E", "a: RangeError: start + count > length (COUNT is 16E)"),
            ("write a -1 5", "a: RangeError: start > length (START is -1)"),
            ("write a -1 --input /dev/null", "a: RangeError: start > length (START is -1)"),
            ("write a 8E --input /dev/null", "a: RangeError: start > length (START is 8E)"),
            ("fill a -1 2 3", "a: RangeError: start > length (START is -1)"),
            ("fill a 0 -2 -3", "a: RangeError: start + count > length (COUNT is -2)"),
            (
                "truncate a -1",
                "a: RangeError: truncate length is bigger than kMaxLength (LENGTH is -1)"
            ),
            (
                "copy a -1 a 0 1",
                "a to a: RangeError: source_start > source_length (SOURCE-START is -1)"
            ),
            (
                "copy a 0 a -1 1",
                "a to a: RangeError: dest_start > dest_length (DEST-START is -1)"
            ),
            (
                "copy a 0 a 0 -1",
                "a to a: RangeError: copy_length > source_length (COUNT is -1)"
            ),
        ] as [(String, String?)])
    func outOfReach(command: String, line: String?) throws {
        let result = try Shell(["--length-max", "1M"]).run("cli alloc a 4; cli \(command)")
        #expect(result.code == 3)
        #expect(result.output.isEmpty)
        let expected =
            line.map { "smalloc-cli: \($0)\n" }
            ?? #"{"error":{"status":"outOfRange","class":"RangeError","message":"start + count "#
            + "> length (COUNT is -1)\",\"subject\":\"a\"}}\n"
        #expect(result.errors == expected)
    }

    @Test("minus zero is zero")
    func minusZero() throws {
        #expect(try Shell().output("cli alloc a 2 && cli read a -0 1") == "0\n")
    }

    @Test(
        "an unknown type is a TypeError, as the daemon has it",
        arguments: ["alloc a 1 float128", "alloc a -1 float128", "put a --type float128 /dev/null"])
    func unknownType(command: String) throws {
        let result = try Shell().run("cli \(command)")
        #expect(
            result
                == Shell.Result(
                    code: 2, output: "",
                    errors: "smalloc-cli: a: TypeError: unknown external array type: float128\n"))
    }

    @Test(
        "an option's value that can't be used is a usage error that tells what can",
        arguments: [
            ("ping --address foo", "\"foo\" is no connection string: unix:PATH or tcp:HOST:PORT"),
            ("--address foo ls", "\"foo\" is no connection string: unix:PATH or tcp:HOST:PORT"),
            ("ping --timeout 1e300", "--timeout takes 0 to 1000000000 seconds"),
            ("ping --timeout nan", "--timeout takes 0 to 1000000000 seconds"),
        ])
    func optionValues(command: String, text: String) throws {
        let result = try Shell().run("cli \(command)")
        #expect(result.code == 64)
        #expect(result.output.isEmpty)
        #expect(result.errors.contains(text), "\(result.errors)")
    }

    @Test("an address in the environment that is none is a usage error, where it is needed")
    func addressOfEnvironment() throws {
        let result = try Shell().run("export SMALLOC_ADDRESS=foo; cli ping")
        #expect(result.code == 64)
        #expect(
            result.errors.contains(
                "$SMALLOC_ADDRESS: \"foo\" is no connection string: unix:PATH or tcp:HOST:PORT"),
            "\(result.errors)")
        let others = try Shell().run(
            """
            there=$SMALLOC_ADDRESS; export SMALLOC_ADDRESS=foo
            cli --address $there ping >/dev/null && cli --help >/dev/null && cli ls --help >/dev/null
            """)
        #expect(others == Shell.Result(code: 0, output: "", errors: ""))
    }

    @Test(
        "nothing is printed or overwritten before it is known that there is something to print",
        arguments: [
            "read b 0 99", "read nope", "hexdump b 0 99", "ls \u{fc}", "read b 0 99 -o kept",
        ])
    func nothingBeforeFailure(command: String) throws {
        let shell = try Shell()
        let result = try shell.run(
            "cli alloc b 4; echo old > kept; cli \(command) --json; cat kept")
        #expect(result.output == "old\n")
        #expect(result.errors.hasPrefix("{\"error\":{"))
        #expect(result.errors.hasSuffix("}}\n"))
    }

    @Test("hexdump is JSON where JSON was asked for")
    func hexdumpJSON() throws {
        let output = try Shell().output(
            """
            set -e
            cli alloc a 3 int16; cli write a 0 1 -2 300
            cli hexdump a --json; cli hexdump a 1 1 --json; cli hexdump a 3 --json
            """)
        #expect(
            output == """
                {"name":"a","type":"Int16","offset":0,"size":6,"hex":"0100feff2c01"}
                {"name":"a","type":"Int16","offset":2,"size":2,"hex":"feff"}
                {"name":"a","type":"Int16","offset":6,"size":0,"hex":""}

                """)
    }
}
