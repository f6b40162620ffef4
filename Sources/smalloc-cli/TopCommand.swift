// The subcommand that shows the largest or oldest allocations, and the busiest connections, again
// and again.

import ArgumentParser
import Smalloc

struct Top: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the largest allocations and the busiest connections, again and again.",
        discussion: """
            On a terminal in place, until q or Ctrl-C; else as plain text, an empty line between \
            two rounds. Connections are those that clients tells, by what they moved since the \
            round before, in the first round since they connected. All names are asked for in each \
            round, with --sort age each allocation, too.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Only names that begin so.", completion: .allocation) var prefix = ""
    @Option(help: ArgumentHelp("size: the largest first; age: the oldest first.", valueName: "key"))
    var sort = SortKey.size
    @Option(name: .shortAndLong, help: ArgumentHelp("Seconds between.", valueName: "seconds"))
    var interval = 2.0
    @Option(name: [.customShort("n"), .long], help: "Stop after so many rounds.") var count: Int?
    @Option(help: "Lines of each; else what fits the terminal, and 20 in a pipe.")
    var rows: Int?

    var streams: [Stream] { [.output] }

    func validate() throws {
        guard interval >= 0.01, interval <= 86_400 else {
            throw ValidationError("--interval takes 0.01 to 86400 seconds")
        }
        guard count ?? 1 >= 1 else { throw ValidationError("--count takes 1 or more") }
        guard (1...1_000_000).contains(rows ?? 1) else {
            throw ValidationError("--rows takes 1 to 1000000")
        }
        if sort == .name { throw ValidationError("--sort takes size or age") }
    }

    func run(_ daemon: Smalloc) throws {
        let isInPlace = Output.standard.isTerminal && !common.json
        if isInPlace && count != 1 { Screen.enter() }
        defer { Screen.leave() }
        var earlier: TopFigures?
        var traffic: [UInt64: Int] = [:]
        var shown = 0
        while true {
            let figures = TopFigures(try daemon.stats())
            let size = Screen.size
            // Two lines of figures, two titles, and an empty line before each of them.
            let room = max(2, size.lines - 7)
            let best = try best(rows ?? (isInPlace ? room - room / 3 : 20), daemon)
            let clients = try busiest(
                rows ?? (isInPlace ? room / 3 : 20), daemon, since: &traffic)
            if common.json {
                try Output.standard.write(figures.json(best, clients).text + "\n")
            } else {
                var lines = figures.lines(since: earlier, address: "\(daemon.address)")
                for section in sections(best, clients) {
                    lines += [""] + tableLines(section.rows, right: section.right)
                }
                if isInPlace { lines = lines.map { String($0.prefix(size.columns)) } }
                let head = isInPlace && count != 1 ? "\u{1B}[H\u{1B}[2J" : shown > 0 ? "\n" : ""
                let end = isInPlace && count != 1 ? "" : "\n"
                try Output.standard.write(head + lines.joined(separator: "\n") + end)
            }
            try Output.standard.flush()
            shown += 1
            guard shown < count ?? .max else { return }
            earlier = figures
            if isInPlace {
                _ = TimeLimit.pause()
                if Screen.isEnded(within: interval) { return }
                TimeLimit.restart()
            } else {
                TimeLimit.restart(afterSleeping: interval)
            }
        }
    }

    /// A part of what is shown.
    private typealias Section = (rows: [[String]], right: [Bool])

    private func sections(
        _ allocations: [TopAllocation], _ clients: [TopClient]
    ) -> [Section] {
        let rows = allocations.map { allocation in
            [
                allocation.entry.name, allocation.entry.type.name,
                String(allocation.entry.length), humanSize(allocation.entry.size),
                ageText(allocation.stat), String(allocation.stat.handles),
                "\(allocation.stat.maps)",
            ]
        }
        let titles = ["NAME", "TYPE", "LENGTH", "SIZE", "AGE", "HANDLES", "MAPS"]
        var sections: [Section] = [
            ([titles] + rows, [false, false, true, true, true, true, false])
        ]
        if !clients.isEmpty {
            let rows = clients.map { found in
                [
                    String(found.client.id), found.client.program,
                    found.client.user.map { String($0) } ?? "-",
                    found.client.process.map { String($0) } ?? "-",
                    humanTime(found.client.age), String(found.client.handles),
                    String(found.client.requests), humanSize(found.moved),
                ]
            }
            let titles = ["ID", "PROGRAM", "UID", "PID", "AGE", "HANDLES", "REQUESTS", "MOVED"]
            sections.append(
                ([titles] + rows, [true, false, true, true, true, true, true, true]))
        }
        return sections
    }

    /// The connections that moved most; none from a daemon that does not tell.
    ///
    /// - Parameter traffic: What each had moved a round ago, by its number; then what it has now.
    private func busiest(
        _ most: Int, _ daemon: Smalloc, since traffic: inout [UInt64: Int]
    ) throws -> [TopClient] {
        let clients: [Smalloc.Client]
        do throws(SmallocError) { clients = try daemon.clients() } catch {
            guard error.status == .unknownOperation else { throw error }
            return []
        }
        var now: [UInt64: Int] = [:]
        var found: [TopClient] = []
        for client in clients {
            let moved = client.readSize.addedClamped(client.writtenSize)
            now[client.id] = moved
            found.append(TopClient(client: client, moved: moved - (traffic[client.id] ?? 0)))
        }
        traffic = now
        found.sort { $0.moved != $1.moved ? $0.moved > $1.moved : $0.client.id < $1.client.id }
        return Array(found.prefix(most))
    }

    /// The first allocations of the order, as many as are to be shown; never more than some
    /// thousand in memory at a time.
    private func best(_ most: Int, _ daemon: Smalloc) throws -> [TopAllocation] {
        var best: [TopAllocation] = []
        var largest: [Smalloc.Entry] = []
        try forEachPage(prefix, daemon) { page in
            if sort == .age {
                best += try asked(page, daemon)
                best.sort { left, right in
                    let (first, second) = (
                        left.stat.createdMilliseconds, right.stat.createdMilliseconds
                    )
                    return first != second
                        ? first < second : left.entry.name < right.entry.name
                }
                best.removeLast(max(0, best.count - most))
            } else {
                largest += page
                largest.sort { $0.size != $1.size ? $0.size > $1.size : $0.name < $1.name }
                largest.removeLast(max(0, largest.count - most))
            }
        }
        return sort == .age ? best : try asked(largest, daemon)
    }

    /// Allocations with what is asked for of each; without those that are gone by now.
    private func asked(_ entries: [Smalloc.Entry], _ daemon: Smalloc) throws -> [TopAllocation] {
        zip(entries, try daemon.stat(entries.map(\.name))).compactMap { entry, stat in
            stat.map { TopAllocation(entry: entry, stat: $0) }
        }
    }
}

/// An allocation as `top` shows it.
struct TopAllocation {
    let entry: Smalloc.Entry
    let stat: Smalloc.Stat
}

/// A connection as `top` shows it.
struct TopClient {
    let client: Smalloc.Client
    /// Bytes in both directions since the round before.
    let moved: Int
}

/// The daemon's figures at one time.
struct TopFigures {
    private let stats: Smalloc.Stats
    private let time = monotonicSeconds()

    init(_ stats: Smalloc.Stats) { self.stats = stats }

    private func number(_ key: String) -> UInt64 { stats.number(key) ?? 0 }

    private var requests: UInt64 {
        stats.lines.filter { $0.key.hasPrefix("requests_") }
            .reduce(0) { $0 &+ (UInt64($1.value) ?? 0) }
    }

    /// Lines for people.
    ///
    /// - Parameter earlier: Figures that rates are told since; nil: none are told.
    func lines(since earlier: TopFigures?, address: String) -> [String] {
        let (used, limit) = (number("memory_used_bytes"), number("limit_memory_bytes"))
        let part = limit == 0 ? "" : " (\(used / max(limit / 100, 1))%)"
        var rates = ""
        if let earlier {
            let seconds = max(time - earlier.time, 0.001)
            func rate(_ now: UInt64, _ before: UInt64) -> Double {
                now < before ? 0 : Double(now - before) / seconds
            }
            func size(_ key: String) -> String {
                humanSize(Int(min(rate(number(key), earlier.number(key)), 1e18)))
            }
            rates =
                ", \(decimal(rate(requests, earlier.requests), 0)) requests/s, "
                + "\(size("bytes_read"))/s in, \(size("bytes_written"))/s out"
        }
        return [
            "\(printable(address)), process \(number("pid")), "
                + "up \(humanTime(Double(number("uptime_seconds"))))",
            "\(number("allocations")) allocations, "
                + "\(humanSize(used)) of \(humanSize(limit))\(part), "
                + "\(number("connections")) connections\(rates)",
        ]
    }

    /// One line of JSON.
    func json(_ allocations: [TopAllocation], _ clients: [TopClient]) -> JSON {
        let keys = [
            "uptime_seconds", "allocations", "memory_used_bytes", "limit_memory_bytes",
            "connections", "bytes_read", "bytes_written",
        ]
        var members = keys.map { ($0, JSON.integer(Int(clamping: number($0)))) }
        members.append(("requests", .integer(Int(clamping: requests))))
        let rows = allocations.map { allocation in
            JSON.object([
                ("name", .string(allocation.entry.name)),
                ("type", .string(allocation.entry.type.name)),
                ("length", .integer(allocation.entry.length)),
                ("size", .integer(allocation.entry.size)),
                ("createdMilliseconds", .integer(Int(allocation.stat.createdMilliseconds))),
                ("handles", .integer(allocation.stat.handles)),
                ("maps", .string("\(allocation.stat.maps)")),
            ])
        }
        members.append(("top", .array(rows)))
        let connections = clients.map { found in
            JSON.object([
                ("id", .integer(Int(clamping: found.client.id))),
                ("program", .string(found.client.program)),
                ("uid", found.client.user.map { .integer(Int($0)) } ?? .null),
                ("pid", found.client.process.map { .integer(Int($0)) } ?? .null),
                ("handles", .integer(found.client.handles)),
                ("requests", .integer(found.client.requests)), ("moved", .integer(found.moved)),
            ])
        }
        members.append(("clients", .array(connections)))
        return .object(members)
    }
}

private func tableLines(_ rows: [[String]], right: [Bool]) -> [String] {
    tableText(rows, right: right).split(separator: "\n").map(String.init)
}
