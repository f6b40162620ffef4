// exists, await and alloc --exist-ok at a shell.

import Testing
import TestSupport

@Suite("Names at a shell", .timed)
struct NameTests {
    @Test("exists says it by its exit code alone")
    func exists() throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            cli exists a; echo $?
            cli alloc a 1; cli exists a; echo $?
            cli exists a --json && echo yes || echo no
            cli exists none || echo no
            """)
        #expect(result.output == "1\n0\nyes\nno\n")
        #expect(result.errors == "")
        let wrong = try shell.run("cli exists 'a b'; echo $?")
        #expect(wrong.output == "2\n" && wrong.errors.contains("a name is 1 to 255"))
        #expect(try shell.run("cli exists a --address unix:/nowhere").code == 69)
    }

    @Test("await ends when another program makes, freezes or renames it, or with its time")
    func awaits() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            (sleep 0.2; cli alloc a 4; sleep 0.2; cli freeze a) &
            cli await a --for 30; cli ls a
            cli await a --frozen; cli stat a | grep flags
            wait
            cli await a --frozen --for 0
            cli await b --for 0.05 2>&1 || echo $?
            cli await b --for 0 --json 2>&1 || echo $?
            (sleep 0.1; cli mv a b) &
            cli await b --frozen --for 30 --timeout 5
            cli await b --for -1 2>/dev/null || echo $?
            """)
        #expect(
            output == """
                a\tUint8\t4\t4
                flags    frozen
                smalloc-cli: b: Error: object has no external array data
                1
                {"error":{"status":"noData","class":"Error","message":"object has no external \
                array data","subject":"b"}}
                1
                64

                """)
    }

    @Test("Ctrl-C takes an await back")
    func interrupted() throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            cli await a & pid=$!; sleep 0.3; kill -TERM $pid; wait $pid; echo $?
            """)
        #expect(result.output == "143\n")
    }

    @Test("alloc --exist-ok takes what is there, if it is the same")
    func existOk() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            cli alloc a 6 double --exist-ok; cli write a 0 5; echo $?
            cli alloc a 6 double --exist-ok; echo $?; cli read a 0 1
            cli alloc a 6 double 2>/dev/null; echo $?
            cli alloc a 5 double --exist-ok 2>/dev/null; echo $?
            cli alloc a 6 int64 --exist-ok 2>/dev/null; echo $?
            cli alloc a double --shape 2x3 --exist-ok 2>/dev/null; echo $?
            cli alloc s int8 --shape 2x3 --exist-ok
            cli alloc s int8 --shape 2x3 --exist-ok; echo $?
            cli alloc s int8 --shape 3x2 --exist-ok 2>/dev/null; echo $?
            cli alloc s 6 int8 --exist-ok --json | grep -c created
            """)
        #expect(output == "0\n0\n5\n2\n2\n2\n2\n0\n2\n1\n")
    }
}
