// `rm` by the beginning of names: it asks, and where it can't ask it refuses.

import Foundation
import TestSupport
import Testing

@Suite("Disposing of many", .timed)
struct RemovingTests {
    @Test("with --force all whose names begin so go, and it is told how many they were")
    func forced() throws {
        let output = try Shell().output(
            """
            set -e
            for name in tmp/a tmp/b tmpc keep; do cli alloc $name 3K; done
            cli rm --prefix tmp/ -f; cli ls; cli rm --prefix tmp --force --json
            cli rm --prefix tmp -f; cli ls
            """)
        #expect(
            output == """
                disposed of 2 allocations, 6.0 KiB (6144 bytes)
                keep\tUint8\t3072\t3072
                tmpc\tUint8\t3072\t3072
                {"disposed":1,"size":3072}
                disposed of 0 allocations, 0 bytes
                keep\tUint8\t3072\t3072

                """)
    }

    @Test("each thousand of many has the time limit to itself", FileFaults.isThere)
    func many() throws {
        let shell = try Shell()
        let client = try shell.daemon.text()
        for number in 0..<4000 { #expect(try client.ask("alloc n/\(number) 1") == "OK") }
        let result = try shell.run(
            """
            export LD_PRELOAD='\(FileFaults.library ?? "")' SMALLOC_TEST_SLOW_SEND=1000
            cli rm --prefix n/ -f --timeout 3
            """)
        #expect(result.output == "disposed of 4000 allocations, 3.9 KiB (4000 bytes)\n")
        #expect(result.errors.isEmpty && result.code == 0, "\(result)")
    }

    @Test(
        "without a terminal to ask at nothing goes, nor by an empty prefix",
        arguments: [
            "--prefix a", "--prefix a < /dev/null", "--prefix ''", "--prefix '' -f", "-f",
            "a --prefix a -f", "--prefix a <&-",
        ])
    func refused(words: String) throws {
        let shell = try Shell()
        let result = try shell.run("cli alloc a 1; cli rm \(words); echo $?; cli ls | wc -l")
        #expect(result.output == "64\n1\n", "\(result)")
    }

    @Test(
        "a terminal is asked, and only yes is yes", arguments: ["y", "yes", "Y", "n", "", "\u{4}"])
    func asked(answer: String) throws {
        let shell = try Shell()
        _ = try shell.output("for name in t/a t/b keep; do cli alloc $name 1K; done")
        let terminal = try Terminal(
            [ProjectFolder.executable("smalloc-cli"), "rm", "--prefix", "t/"],
            environment: [
                "SMALLOC_ADDRESS": "unix:\(shell.daemon.path)", "SWIFT_BACKTRACE": "enable=no",
                "LD_LIBRARY_PATH": ProcessInfo.processInfo.environment["LD_LIBRARY_PATH"] ?? "",
            ])
        let question =
            "Dispose of 2 allocations, 2.0 KiB (2048 bytes), whose names begin with t/? [y/N] "
        #expect(terminal.wait { terminal.output.contains(question) }, "\(terminal.output)")
        #expect(try shell.output("cli ls | wc -l") == "3\n")
        terminal.type(answer + (answer == "\u{4}" ? "" : "\r"))
        let isYes = answer.lowercased().hasPrefix("y")
        let said = isYes ? "disposed of 2 allocations" : "nothing was disposed of"
        #expect(terminal.wait { terminal.output.contains(said) }, "\(terminal.output)")
        #expect(try shell.output("cli ls | wc -l") == (isYes ? "1\n" : "3\n"))
    }
}
