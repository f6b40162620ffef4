// Completions in real shells, which must take a name for text, whatever stands in it: another
// client chose it.

import Foundation
import Testing
import TestSupport

@Suite("Completions", .timed, .serialized)
struct CompletionTests {
    private static func path(_ shell: String) -> String? {
        ["/bin/", "/usr/bin/", "/usr/local/bin/"].map { $0 + shell }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    private static let shells = ["bash", "zsh", "fish"]

    @Test("the scripts for bash, zsh and fish are made", arguments: shells)
    func scripts(name: String) throws {
        let script = try Shell().output("cli --generate-completion-script \(name)")
        for word in ["hexdump", "address", "truncate"] { #expect(script.contains(word)) }
        #expect(!script.contains("-W \"$("), "candidates would be expanded")
    }

    @Test("bash parses its script", .enabled(if: path("bash") != nil, "there is no bash"))
    func bashParses() throws { try parses("bash") }

    @Test("zsh parses its script", .enabled(if: path("zsh") != nil, "there is no zsh"))
    func zshParses() throws { try parses("zsh") }

    @Test("fish parses its script", .enabled(if: path("fish") != nil, "there is no fish"))
    func fishParses() throws { try parses("fish") }

    private func parses(_ name: String) throws {
        let shell = try Shell()
        let result = try shell.run(
            "cli --generate-completion-script \(name) > script && \(name) -n script")
        #expect(result == Shell.Result(code: 0, output: "", errors: ""))
    }

    @Test(
        "at a bash, subcommands, options, types and names are completed as text",
        .enabled(if: path("bash") != nil, "there is no bash"))
    func bash() throws {
        let session = try Session("bash")
        try session.completesWords()
        try session.completesTypes()
        try session.completesNames()
        // Within quotes, and where the line was begun in some other way.
        session.expectStat("'a$", session.names[0])
        session.expectStat("\"a$", session.names[0])
        session.expectStat("\"b", session.names[1])
        session.expectStat("'e", "e'f\"g")
        session.expectStat("\"e", "e'f\"g")
        session.expectStat("\"j", "j!k")
        session.expectStat("\"h", "h\\i")
        session.expectStat("a\\$", session.names[0])
        session.expectStat("c:", "c:d=e")
        session.expectStat("c:d=", "c:d=e")
        session.expectStat("c\\:d", "c:d=e")
        session.expectStat("n\\*", "n*?[o]")
        session.expectStat("--address unix:\(session.socket) c:", "c:d=e")
    }

    @Test(
        "at a zsh, subcommands, options, types and names are completed as text",
        .enabled(if: path("zsh") != nil, "there is no zsh"))
    func zsh() throws {
        let session = try Session("zsh")
        try session.completesWords()
        try session.completesTypes()
        try session.completesNames()
        session.expectStat("'a$", session.names[0])
        session.expectStat("\"b", session.names[1])
        session.expectStat("'e", "e'f\"g")
        session.expectStat("a\\$", session.names[0])
        session.expectStat("c:", "c:d=e")
        session.expectStat("c:d=", "c:d=e")
        session.expectStat("n\\*", "n*?[o]")
    }

    @Test(
        "at a fish, subcommands, options and names are completed as text",
        .enabled(if: path("fish") != nil, "there is no fish"))
    func fish() throws {
        let session = try Session("fish")
        try session.completesWords()
        try session.completesNames()
        session.expectStat("'a$", session.names[0])
        session.expectStat("\"b", session.names[1])
        session.expectStat("a\\$", session.names[0])
        session.expectStat("c:", "c:d=e")
        session.expectStat("c:d=", "c:d=e")
    }

    @Test("names come soon or not at all, also from a daemon that has been stopped")
    func deadline() throws {
        let shell = try Shell()
        _ = try shell.output("cli alloc name 1")
        func complete(_ more: String) throws -> (output: String, seconds: Double) {
            let start = Date()
            let output = try shell.output(
                "\(more) cli ---completion stat -- positional@0 2 2 smalloc-cli stat na")
            return (output, Date().timeIntervalSince(start))
        }
        #expect(try complete("SMALLOC_COMPLETION_TIMEOUT=20000").output == "name\n")
        shell.daemon.signal(SIGSTOP)
        defer { shell.daemon.signal(SIGCONT) }
        let isSoon = try mostly { _ in
            let (output, seconds) = try complete("")
            return output.isEmpty && seconds < 0.45
        }
        #expect(isSoon)
        let late = try complete("SMALLOC_COMPLETION_TIMEOUT=600")
        #expect(late.output.isEmpty && late.seconds >= 0.6 && late.seconds < 4, "\(late)")
    }

    /// An interactive shell with the tool's completions, and a daemon that holds hostile names.
    private final class Session {
        let shell: Shell
        let terminal: Terminal
        let names: [String]
        private var count = 0

        var socket: String { shell.daemon.path }
        private var mark: String { shell.folder + "/ran" }

        init(_ name: String) throws {
            shell = try Shell()
            let folder = shell.folder
            let ran = folder + "/ran"
            // Each is the only one of its first letter.
            names = [
                "a$(touch${IFS}\(ran))", "b`touch${IFS}\(ran)`", "c:d=e", "d;touch${IFS}\(ran);",
                "e'f\"g", "h\\i", "j!k", "l~m", "n*?[o]", "p{q,r}", "s#t", "u&v|w<x>y", "z%^@+,.",
                "(touch\(ran))", "A(touch\(ran))", "B$HOME", "C$'x'",
            ]
            let client = try shell.daemon.text()
            for name in names { #expect(try client.ask("alloc \(name) 1") == "OK") }
            let tool = ProjectFolder.executable("smalloc-cli")
            let script = folder + "/\(name == "zsh" ? "_smalloc-cli" : "script")"
            _ = try shell.output("cli --generate-completion-script \(name) > '\(script)'")
            let start =
                switch name {
                case "bash": "PS1='ready> '; . '\(script)'"
                case "zsh":
                    "PS1='ready> '; fpath=('\(folder)' $fpath); autoload -Uz compinit; "
                        + "compinit -u -D"
                default: "function fish_prompt; echo 'ready> '; end; source '\(script)'"
                }
            let path = try #require(CompletionTests.path(name))
            let options =
                switch name {
                case "bash": ["--norc", "--noprofile", "-i"]
                case "zsh": ["-f", "-i"]
                default: ["--no-config", "-i"]
                }
            let tools = URL(fileURLWithPath: tool).deletingLastPathComponent().path
            terminal = try Terminal(
                [path] + options,
                environment: [
                    "PATH": "\(tools):/usr/bin:/bin", "HOME": folder, "TERM": "dumb",
                    "SMALLOC_ADDRESS": "unix:\(shell.daemon.path)", "SWIFT_BACKTRACE": "enable=no",
                    // Names have to come here, however busy the machine is.
                    "SMALLOC_COMPLETION_TIMEOUT": "20000",
                    "LD_LIBRARY_PATH":
                        ProcessInfo.processInfo.environment["LD_LIBRARY_PATH"] ?? "",
                ])
            terminal.settle()
            terminal.type(start + "\r")
            terminal.settle()
        }

        /// Types a line with one TAB at its end, then what follows, and gives what a file holds
        /// after it.
        private func complete(_ line: String, then rest: String) -> String {
            count += 1
            let file = shell.folder + "/out\(count)"
            terminal.type(line + "\t")
            terminal.settle()
            terminal.type(" \(rest) > \(file); echo > \(file).done\r")
            let isDone = terminal.wait {
                FileManager.default.fileExists(atPath: file + ".done")
            }
            #expect(isDone, "\(line): \(terminal.output.suffix(500))")
            if !isDone { terminal.type("\u{3}") }
            terminal.settle()
            #expect(!FileManager.default.fileExists(atPath: mark), "\(line) ran what a name says")
            return (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
        }

        /// Expects that a TAB behind some letters of a name makes the whole name of them.
        func expectStat(_ typed: String, _ name: String) {
            let output = complete("smalloc-cli stat \(typed)", then: "")
            #expect(
                output.hasPrefix("name     \(name)\n"),
                "\(typed): \(output) \(terminal.output.suffix(300))")
        }

        func completesNames() throws {
            // All of them at once are listed, and none is run.
            _ = complete("smalloc-cli stat ", then: "z")
            for name in names {
                expectStat(String(name.prefix(1) == "(" ? "\\(" : name.prefix(1)), name)
            }
        }

        func completesWords() throws {
            #expect(complete("smalloc-cli hexd", then: "c:d=e").hasPrefix("00000000  00"))
            let json = complete("smalloc-cli --js", then: "stat c:d=e")
            #expect(json.hasPrefix("{\"name\":\"c:d=e\""))
        }

        func completesTypes() throws {
            #expect(complete("smalloc-cli alloc typed 1 doub", then: "") == "")
            let client = try shell.daemon.text()
            #expect(try client.ask("stat typed").contains(" type=Double "))
            #expect(try client.ask("dispose typed") == "OK")
        }
    }
}
