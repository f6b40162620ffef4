// The tool started without standard input or output: what it opens next must not take their place.

import Foundation
import TestSupport
import Testing

@Suite("Closed standard descriptors", .timed)
struct StreamTests {
    @Test(
        "what needs a descriptor that is closed asks nothing of the daemon, and fails with 74",
        arguments: [
            "cat a >&-", "read a >&-", "read a -o - >&-", "get a >&-", "hexdump a >&-",
            "stat a >&-", "ls >&-", "ls --unsorted >&-", "ping >&-", "stats >&-",
            "alloc b 1 --json >&-", "put b <&-", "put b - <&-", "write a 0 --input - <&-",
            "cat a <&- >&-", "cat a >&- 2>&-", "--help >&-", "cat --help >&-", "--version >&-",
            "--generate-completion-script bash >&-",
        ])
    func needed(command: String) throws {
        let shell = try Shell()
        let client = try shell.daemon.text()
        // As a request these bytes would dispose of another allocation.
        let evil =
            "e5010c0000000600070000000000000000000000060000000000000000000000"
            + "0000000000000000766963746d73"
        #expect(try client.ask("alloc a 46") == "OK")
        #expect(try client.ask("write a 0 hex:\(evil)") == "OK")
        #expect(try client.ask("alloc victms 8") == "OK")
        let before = try client.stats()["connections_accepted"]
        let result = try shell.run("cli \(command)")
        #expect(result.code == 74)
        #expect(result.output.isEmpty)
        if command.contains("--json") {
            #expect(result.errors.hasPrefix("{\"error\":{\"status\":\"file\","))
        } else if !command.contains("2>&-") {
            #expect(result.errors.hasPrefix("smalloc-cli: standard "), "\(result.errors)")
            #expect(result.errors.hasSuffix(": Bad file descriptor\n"))
        }
        let stats = try client.stats()
        #expect(stats["connections_accepted"] == before, "no connection was made")
        #expect(stats["allocations"] == "2")
    }

    @Test(
        "what needs none of those that are closed does its work",
        arguments: [
            ("rm a >&- <&- 2>&-", "list", "OK 0"), ("mv a b >&-", "read b", "OK 5"),
            ("read a -o f >&-; cat f >&3", "ping", "OK pong"), ("ping -q >&-", "ping", "OK pong"),
            ("write a 0 6 <&- >&-", "read a", "OK 6"),
            ("put b file <&- >&- 2>&-", "read b", "OK 97"),
            ("cp a b <&-", "read b", "OK 5"), ("alloc b 1 <&- >&- 2>&-", "read b", "OK 0"),
            ("read a <&- 2>&- >&3", "ping", "OK pong"),
        ])
    func needless(command: String, question: String, answer: String) throws {
        let shell = try Shell()
        let client = try shell.daemon.text()
        #expect(try client.ask("alloc a 1") == "OK")
        #expect(try client.ask("write a 0 5") == "OK")
        let result = try shell.run("printf a > file; exec 3>out; cli \(command)")
        #expect(result.code == 0, "\(result.errors)")
        #expect(try client.ask(question) == answer)
        if command.contains(">&3") {
            #expect(try shell.output("cat out") == "5\n")
        }
    }
}
