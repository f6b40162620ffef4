// The command line tool: a subcommand for each operation, and those that people miss first. A user
// of the library Smalloc like any other; it knows nothing of frames.

import ArgumentParser

/// The tool's version, that of the package.
let version = "0.1.0"

/// `smalloc-cli`.
@main
struct SmallocCLI: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "smalloc-cli",
        abstract: "Allocates, reads, writes, copies and disposes of memory that smallocd holds.",
        discussion: """
            START, COUNT and LENGTH are elements, sizes and offsets are bytes: numbers as 100, 4K, \
            1MiB (K, M, G, T, P, E or KiB, MiB, ... are powers of 1024) or 1MB (KB, MB, ... are \
            powers of 1000). Behind -- every word is a name or a value.

            The daemon is found at --address, else at $SMALLOC_ADDRESS, else at \
            unix:$XDG_RUNTIME_DIR/smallocd.sock, or unix:/run/smallocd/smallocd.sock where there \
            is no XDG_RUNTIME_DIR.

            --timeout is one limit for all that the daemon keeps a command waiting for: \
            connecting, its greeting, its answers. It begins anew with each 16 MiB of a transfer, \
            each page of a listing, each 1000 names of rm --prefix and each round of ping, stats \
            and top. Waiting for files, pipes and keys does not count, nor what wait, await and \
            watch wait for.

            Exit codes:
              0   done
              1   Error: nothing of that name (or exists says no), a limit, no memory, ...
              2   TypeError: the name is taken, an unknown type, a malformed value, ...
              3   RangeError: outside the allocation, over the largest length
              4   wait: the integer is gone
              64  wrong command line, or address in $SMALLOC_ADDRESS
              69  no daemon there, the connection was lost, or no answer in time
              74  a file or a pipe could not be read or written
              124 wait: the time of --for is over
              130 interrupted, as all programs are by Ctrl-C; wait has taken its wait back

            Completions: smalloc-cli --generate-completion-script bash (or zsh, fish) prints a \
            script; allocations' names are completed too.
            """,
        version: "smalloc-cli \(version)",
        groupedSubcommands: [
            CommandGroup(
                name: "Allocations",
                subcommands: [
                    Alloc.self, List.self, Stat.self, Remove.self, Truncate.self, Freeze.self,
                    Rename.self, Exists.self, Await.self, Watch.self,
                ]),
            CommandGroup(
                name: "Elements",
                subcommands: [
                    Read.self, Write.self, Fill.self, Copy.self, Duplicate.self, Atomic.self,
                    Wait.self, Notify.self,
                ]),
            CommandGroup(
                name: "Bytes",
                subcommands: [Put.self, Get.self, Concatenate.self, Hexdump.self]),
            CommandGroup(
                name: "Daemon",
                subcommands: [
                    Ping.self, Stats.self, Clients.self, Slowlog.self, Top.self, Doctor.self,
                ]),
        ])

    /// Here for the help and for the shells, that they may stand before the subcommand.
    @OptionGroup var common: CommonOptions

    /// Parses and runs; exits with one of the codes above where that fails.
    static func main() {
        do {
            try Stream.openMissing()
            let words = Array(CommandLine.arguments.dropFirst())
            if let script = CompletionScript.text(askedBy: words) {
                return try finish(script + "\n")
            }
            // A shell waits for it with one key pressed.
            if words.first == "---completion" { CompletionDeadline.start() }
            if let unknown = unknownHelp(words) {
                throw ValidationError("Unknown subcommand '\(printable(unknown))'")
            }
            var command = try parseAsRoot(CommandWords(words).arranged)
            try command.run()
        } catch {
            finish(error)
        }
    }

    /// What `help` is asked about and is no subcommand.
    private static func unknownHelp(_ words: [String]) -> String? {
        guard words.count >= 2, words[0] == "help", !words[1].hasPrefix("-") else { return nil }
        return words[1] == "help" || subcommand(words[1]) != nil ? nil : words[1]
    }

    private static func subcommand(_ name: String) -> (any ParsableCommand.Type)? {
        configuration.groupedSubcommands.flatMap(\.subcommands).first { command in
            command._commandName == name || command.configuration.aliases.contains(name)
        }
    }

    /// What is wrong with a command line, where the parser blames a word that is missing for an
    /// option that there is not.
    private static func unknownOption(_ words: [String]) -> String? {
        let words = CommandWords(words).arranged.prefix { $0 != "--" }
        guard let at = words.firstIndex(where: { subcommand($0) != nil }),
            let command = subcommand(words[at])
        else { return nil }
        let known = Set(
            helpMessage(for: command).split { $0.isWhitespace || $0 == "," || $0 == "/" })
        let option = words[(at + 1)...].first { word in
            word.hasPrefix("-") && word != "-" && !known.contains(word.prefix { $0 != "=" })
        }
        return option.map {
            "Unknown option '\(printable($0))'; a name or a value that begins so stands behind --"
        }
    }

    /// Prints what is for standard output, or fails as a command does.
    private static func finish(_ text: String) throws {
        do {
            try Stream.output.require()
            try Output.standard.write(text)
            try Output.standard.flush()
        } catch {
            let failure = (error as? Failure) ?? Failure("standard output", error)
            failure.tell(isJSON: false)
            throw ExitCode(failure.exitCode)
        }
    }

    private static func finish(_ error: any Error) {
        let code = exitCode(for: error)
        if code != .success {
            let text = message(for: error)
            // What a command has said already has no text here.
            guard code == .validationFailure, !text.isEmpty else { exit(withError: error) }
            let words = Array(CommandLine.arguments.dropFirst())
            let better = text.hasPrefix("Missing expected") ? unknownOption(words) : nil
            guard words.prefix(while: { $0 != "--" }).contains("--json") else {
                if let better { exit(withError: ValidationError(better)) }
                exit(withError: error)
            }
            let members = [("status", JSON.string("usage")), ("message", .string(better ?? text))]
            try? Output(descriptor: 2).write(
                JSON.object([("error", .object(members))]).text + "\n")
            exit(withError: code)
        }
        // Help, the version or a completion: all of it is text for standard output.
        do {
            let text = fullMessage(for: error)
            if !text.isEmpty { try finish(text + "\n") }
        } catch {
            exit(withError: error)
        }
    }
}
