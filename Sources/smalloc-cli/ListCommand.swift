// The subcommand that lists allocations, in any order.

import ArgumentParser
import Glibc
import Smalloc

/// What allocations are ordered by.
enum SortKey: String, ExpressibleByArgument, CaseIterable {
    /// From A to Z, by bytes.
    case name
    /// The largest first.
    case size
    /// The oldest first.
    case age
}

struct List: DaemonCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List the named allocations.",
        discussion: """
            On a terminal: a table with sizes for people. Else a line each, name, type, length and \
            size in bytes, separated by tabs. With --long also the shape, and what is left of \
            the lease, or - where there is none. With --sort age also when it was made.
            """,
        aliases: ["list"])

    @OptionGroup var common: CommonOptions
    @Argument(help: "Only names that begin so.", completion: .allocation) var prefix = ""
    @Flag(name: .shortAndLong, help: "Sizes in bytes, also on a terminal.") var bytes = false
    @Flag(name: .shortAndLong, help: "Sizes for people, also in a pipe.") var human = false
    @Flag(name: .shortAndLong, help: "Shapes and leases, too, which are asked for.")
    var long = false
    @Option(
        help: ArgumentHelp(
            "size: the largest first; age: the oldest first; name.", valueName: "key"))
    var sort: SortKey?
    @Flag(name: .shortAndLong, help: "The other way round.") var reverse = false
    @Flag(help: "In the daemon's order, as it comes: any number of names in little memory.")
    var unsorted = false

    var streams: [Stream] { [.output] }

    func validate() throws {
        if bytes && human { throw ValidationError("--bytes and --human exclude each other") }
        if unsorted && (sort != nil || reverse) {
            throw ValidationError("--unsorted and --sort or --reverse exclude each other")
        }
    }

    func run(_ daemon: Smalloc) throws {
        let table = (Output.standard.isTerminal || human) && !common.json
        var isFirst = true
        if unsorted {
            try forEachPage(prefix, daemon) { page in
                for line in try lines(page, daemon) {
                    try tell(line, isFirst: isFirst)
                    isFirst = false
                }
            }
        } else {
            var found: [Line] = []
            try forEachPage(prefix, daemon) { found += try lines($0, daemon) }
            found = order(found)
            if table {
                try tell(table: found)
            } else {
                for line in found {
                    try tell(line, isFirst: isFirst)
                    isFirst = false
                }
            }
        }
        if common.json { try Output.standard.write(isFirst ? "[]\n" : "]\n") }
    }

    /// An allocation, and what has been asked for of it beside.
    private typealias Line = (entry: Smalloc.Entry, stat: Smalloc.Stat?)

    private var isAged: Bool { sort == .age }

    private func lines(_ entries: [Smalloc.Entry], _ daemon: Smalloc) throws -> [Line] {
        guard long || isAged else { return entries.map { ($0, nil) } }
        let stats = try daemon.stat(entries.map(\.name))
        // One that is gone by now has no age.
        return zip(entries, stats).filter { !isAged || $1 != nil }.map { ($0, $1) }
    }

    private func order(_ lines: [Line]) -> [Line] {
        var lines = lines
        lines.sort { left, right in
            switch sort {
            case .size where left.entry.size != right.entry.size:
                return left.entry.size > right.entry.size
            case .age where left.stat?.createdMilliseconds != right.stat?.createdMilliseconds:
                return left.stat?.createdMilliseconds ?? 0 < right.stat?.createdMilliseconds ?? 0
            default: return left.entry.name < right.entry.name
            }
        }
        return reverse ? lines.reversed() : lines
    }

    /// What `--long` adds to a line.
    private func more(_ stat: Smalloc.Stat?) -> [String] {
        guard long else { return [] }
        let left = stat?.lease == .connection ? "connection" : stat?.leaseLeft.map(timeText)
        return [stat?.shape.map(shapeText) ?? "-", left ?? "-"]
    }

    private func tell(_ line: Line, isFirst: Bool) throws {
        let entry = line.entry
        if common.json {
            var members: [(String, JSON)] = [
                ("name", .string(entry.name)), ("type", .string(entry.type.name)),
                ("length", .integer(entry.length)), ("size", .integer(entry.size)),
            ]
            if long {
                members.append(("shape", JSON(line.stat?.shape)))
                let left = line.stat?.leaseLeft
                members.append(("leaseLeftMilliseconds", JSON(milliseconds: left)))
            }
            if isAged, let stat = line.stat {
                members.append(("createdMilliseconds", .integer(Int(stat.createdMilliseconds))))
            }
            try Output.standard.write((isFirst ? "[" : ",\n ") + JSON.object(members).text)
            return
        }
        var columns = [
            entry.name, entry.type.name, String(entry.length),
            human ? humanSize(entry.size) : String(entry.size),
        ]
        columns += more(line.stat)
        if isAged, let stat = line.stat { columns.append(timestamp(stat.createdMilliseconds)) }
        try Output.standard.write(columns.joined(separator: "\t") + "\n")
    }

    private func tell(table lines: [Line]) throws {
        let rows = lines.map { entry, stat in
            [
                entry.name, entry.type.name, String(entry.length),
                bytes ? String(entry.size) : humanSize(entry.size),
            ] + more(stat) + (isAged ? [ageText(stat)] : [])
        }
        let titles =
            ["NAME", "TYPE", "LENGTH", "SIZE"] + (long ? ["SHAPE", "LEASE"] : [])
            + (isAged ? ["AGE"] : [])
        try Output.standard.write(
            tableText(
                [titles] + rows, right: titles.map { ["LENGTH", "SIZE", "AGE"].contains($0) }))
    }
}

/// Calls with each page of a listing; the time limit begins anew with each.
func forEachPage(
    _ prefix: String, _ daemon: Smalloc, _ body: ([Smalloc.Entry]) throws -> Void
) throws {
    var pages = try daemon.pages(prefix)
    while let page = pages.next() {
        try body(try page.get())
        TimeLimit.restart()
    }
}

/// All allocations whose names begin so, in the daemon's order.
func allEntries(_ prefix: String, _ daemon: Smalloc) throws -> [Smalloc.Entry] {
    var entries: [Smalloc.Entry] = []
    try forEachPage(prefix, daemon) { entries += $0 }
    return entries
}

/// How long ago an allocation was made, by the clocks of both machines.
func ageText(_ stat: Smalloc.Stat?) -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return stat.map { humanTime(Double(now.tv_sec) - Double($0.createdMilliseconds) / 1000) } ?? "-"
}
