// The subcommand that disposes of allocations: of some, or of all whose names begin so.

import ArgumentParser
import Glibc
import Smalloc

struct Remove: DaemonCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Dispose of allocations.",
        discussion: """
            Who has one open loses it; its name is free at once. With --prefix it asks first, \
            which needs a terminal, and tells how many they were.
            """, aliases: ["dispose"])

    @OptionGroup var common: CommonOptions
    @Argument(help: "Names.", completion: .allocation) var names: [String] = []
    @Option(
        help: ArgumentHelp("All whose names begin so.", valueName: "prefix"),
        completion: .allocation)
    var prefix: String?
    @Flag(
        name: .shortAndLong, help: "Names that aren't there are no error, and --prefix asks not.")
    var force = false

    var streams: [Stream] { prefix == nil ? [] : [.output] }

    func validate() throws {
        guard let prefix else {
            if names.isEmpty { throw ValidationError("names are needed, or --prefix") }
            return
        }
        guard names.isEmpty else { throw ValidationError("names and --prefix exclude each other") }
        // An empty variable of a script would be the end of everything.
        guard !prefix.isEmpty else { throw ValidationError("--prefix takes 1 or more characters") }
        guard force || isatty(0) == 1 else {
            throw ValidationError(
                "standard input is no terminal to ask at; with --force nothing is asked")
        }
    }

    func run(_ daemon: Smalloc) throws {
        if let prefix { return try removeAll(prefix, daemon) }
        try forEach(names) { name in
            do throws(SmallocError) {
                try daemon.dispose(named: name)
            } catch {
                guard force, error.status == .noData else { throw error }
            }
        }
    }

    private func removeAll(_ prefix: String, _ daemon: Smalloc) throws {
        let entries = try about(prefix) {
            try allEntries(prefix, daemon).sorted { $0.name < $1.name }
        }
        guard force || !entries.isEmpty else {
            let text = "no allocation's name begins so"
            throw Failure(prefix, SmallocError(.noData, .error, text))
        }
        if !force, try !isWanted(prefix, entries) {
            try? Output(descriptor: 2).write("nothing was disposed of\n")
            throw ExitCode(1)
        }
        var (count, size) = (0, 0)
        defer { try? tell(count, size) }
        for (index, entry) in entries.enumerated() {
            if index % 1000 == 0 { TimeLimit.restart() }
            do throws(SmallocError) {
                try daemon.dispose(named: entry.name)
                count += 1
                size = size.addedClamped(entry.size)
            } catch {
                // Another client was quicker.
                if error.status != .noData { throw Failure(entry.name, error) }
            }
        }
    }

    private func isWanted(_ prefix: String, _ entries: [Smalloc.Entry]) throws -> Bool {
        let size = entries.reduce(0) { $0.addedClamped($1.size) }
        try Output(descriptor: 2).write(
            "Dispose of \(Remove.text(entries.count, size)), whose names begin with "
                + "\(printable(prefix))? [y/N] ")
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        return ["y", "yes"].contains(readLine()?.lowercased())
    }

    private func tell(_ count: Int, _ size: Int) throws {
        if common.json {
            let members = [("disposed", JSON.integer(count)), ("size", .integer(size))]
            try Output.standard.write(JSON.object(members).text + "\n")
        } else {
            try Output.standard.write("disposed of \(Remove.text(count, size))\n")
        }
    }

    /// So many allocations, in words.
    private static func text(_ count: Int, _ size: Int) -> String {
        let bytes =
            size < 1024
            ? "\(size) byte\(size == 1 ? "" : "s")" : "\(humanSize(size)) (\(size) bytes)"
        return "\(count) allocation\(count == 1 ? "" : "s"), \(bytes)"
    }
}
