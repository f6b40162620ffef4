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
                smalloc-cli: b: Error: object has no external array data (no allocation has this name)
                1
                {"error":{"status":"noData","class":"Error","message":"object has no external \
                array data","detail":"no allocation has this name","subject":"b"}}
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

    @Test("alloc --lease ends by itself, and stat and ls tell what is left")
    func leases() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc a 4 --lease 50ms; sleep 0.02
            cli alloc b 4 --lease 2h; cli stat b | grep -E '^(flags|lease)' | sed 's/1h 59m 5.s/X/'
            cli stat b --json | grep -o '"leaseMilliseconds":7200000,"leaseLeftMilliseconds":7[12]' 
            cli ls -l b | sed 's/1h 59m 5.s/X/'; cli ls -l b --json | grep -c leaseLeft
            cli alloc c 4 --lease 1d; cli stat c | grep ^lease | sed 's/.*left/left/'
            for i in 1 2 3 4 5 6 7 8 9; do cli exists a || break; sleep 0.2; done
            cli exists a || echo gone
            for time in 0s 5 s 1w -1s 99999999999999999999d connection; do
            cli alloc x 1 --lease $time 2>/dev/null && echo ok || echo $?; done
            """)
        #expect(
            output == """
                flags    leased
                lease    X left of 2h
                "leaseMilliseconds":7200000,"leaseLeftMilliseconds":71
                b\tUint8\t4\t4\t-\tX
                1
                left of 1d
                gone
                64
                64
                64
                64
                64
                64
                64

                """)
    }
}
