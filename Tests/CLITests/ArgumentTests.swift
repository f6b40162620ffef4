import TestSupport
import Testing

/// What words on the command line may look like, and what is said of those that can't be used.
@Suite("Arguments")
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
}
