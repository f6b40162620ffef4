// `put`, `cp` and `mv` onto a name that is taken: what stands there stays, or is replaced at one
// stroke.

import Foundation
import TestSupport
import Testing

@Suite("Replacing by the tool", .timed)
struct ReplacingTests {
    private let tool = ProjectFolder.executable("smalloc-cli")

    @Test("without --force what has the name stays, and the exit code is 2")
    func refused() throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            cli alloc a 2; cli write a 0 1 2; cli alloc b 3
            cli cp b a; echo $?
            printf abc | cli put a; echo $?
            cli mv b a; echo $?
            cli read a; cli read b
            """)
        #expect(result.output == "2\n2\n2\n1 2\n0 0 0\n")
        let line = "TypeError: object already has external array data; --force takes its place\n"
        #expect(
            result.errors
                == "smalloc-cli: b to a: \(line)smalloc-cli: a: \(line)smalloc-cli: b to a: \(line)"
        )
    }

    @Test("a put that finds the name free and loses it meanwhile leaves what has it")
    func lostRace() throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            mkfifo pipe
            '\(tool)' put a pipe & put=$!
            exec 3> pipe; head -c 20000000 /dev/zero >&3
            # It has asked for the name, and allocated.
            \(waitForAllocations(1))
            cli alloc a 2; cli write a 0 1 2
            exec 3>&-
            wait $put; echo $?
            cli read a; cli stats allocations
            """)
        #expect(result.output == "2\n1 2\nallocations  1\n", "\(result.errors)")
    }

    /// Lines of a script that wait until the daemon holds so many.
    private func waitForAllocations(_ count: Int) -> String {
        """
        for turn in $(seq 200); do
            [ "$(cli stats allocations)" = "allocations  \(count)" ] && break; sleep 0.05
        done
        """
    }

    @Test("with --force put, cp and mv take the place of what has the name")
    func forced() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc a 2; cli alloc b 3 int16; cli fill b 0 3 7
            printf abc | cli put -f a; cli cat a; echo
            cli cp -f b a; cli read a
            cli mv --force b a; cli ls
            cli mv -f a a; cli read a
            """)
        #expect(output == "abc\n7 7 7\na\tInt16\t3\t6\n7 7 7\n")
    }

    @Test("while put -f, cp -f and mv -f replace it, others always find it, and whole")
    func neverMissing() throws {
        let shell = try Shell()
        _ = try shell.run(
            """
            cli alloc x 4; cli fill x 0 4 7
            cli alloc y 4; cli fill y 0 4 8
            (
                for turn in $(seq \(Scale.count(20))); do
                    printf '\\011\\011\\011\\011' | cli put -f x
                    cli cp -f y x
                    cli cp y z; cli mv -f z x
                done
                echo > finished
            ) &
            """)
        let reader = try shell.daemon.text()
        let end = Date(timeIntervalSinceNow: 60)
        var reads = 0
        var seen: Set<String> = []
        while !FileManager.default.fileExists(atPath: shell.folder + "/finished"), Date() < end {
            seen.insert(try reader.ask("read x"))
            reads += 1
        }
        #expect(seen.isSubset(of: ["OK 7 7 7 7", "OK 8 8 8 8", "OK 9 9 9 9"]), "\(seen)")
        #expect(seen.count >= 2 && reads > 100)
        #expect(FileManager.default.fileExists(atPath: shell.folder + "/finished"))
        #expect(try reader.stats()["allocations"] == "2")
    }

    @Test("a put -f that is killed leaves the old bytes, and nothing else")
    func killed() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            cli alloc x 3; cli write x 0 1 2 3
            mkfifo pipe
            '\(tool)' put -f x pipe & put=$!
            exec 3> pipe; head -c 20000000 /dev/zero >&3
            \(waitForAllocations(2))
            cli stats allocations
            kill -9 $put; exec 3>&-; wait $put
            \(waitForAllocations(1))
            cli stats allocations; cli read x; cli ls | wc -l
            """)
        #expect(output == "allocations  2\nallocations  1\n1 2 3\n1\n")
    }
}
