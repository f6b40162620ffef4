// Subcommands about the daemon itself.

import ArgumentParser
import Smalloc

struct Ping: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ask the daemon for a sign of life.",
        discussion: "Prints the time each answer took; the exit code tells scripts enough.")

    @OptionGroup var common: CommonOptions
    @Option(name: [.customShort("n"), .long], help: "How often.") var count = 1
    @Flag(name: .shortAndLong, help: "Print nothing.") var quiet = false

    var streams: [Stream] { quiet ? [] : [.output] }

    func validate() throws {
        guard count >= 1 else { throw ValidationError("--count takes 1 or more") }
    }

    func run(_ daemon: Smalloc) throws {
        for turn in 0..<count {
            if turn > 0 { TimeLimit.restart(afterSleeping: 1) }
            let start = monotonicSeconds()
            try daemon.ping()
            let microseconds = (monotonicSeconds() - start) * 1e6
            if quiet { continue }
            if common.json {
                let answer = JSON.object([("microseconds", .number(microseconds.rounded()))])
                try Output.standard.write(answer.text + "\n")
            } else {
                try Output.standard.write(
                    "pong from \(daemon.address) \(decimal(microseconds, 0)) us\n")
            }
            try Output.standard.flush()
        }
    }
}

struct Stats: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the daemon's counters and limits.",
        discussion: """
            With --watch again and again: on a terminal in place, with what changed since a second \
            ago; with --json a line each time.
            """)

    @OptionGroup var common: CommonOptions
    @Flag(name: .shortAndLong, help: "Show them again and again, until Ctrl-C.") var watch = false
    @Option(name: .shortAndLong, help: ArgumentHelp("Seconds between.", valueName: "seconds"))
    var interval = 1.0
    @Option(name: [.customShort("n"), .long], help: "With --watch: stop after so many.")
    var count: Int?
    @Argument(help: "Only keys that begin so.") var prefix = ""

    var streams: [Stream] { [.output] }

    func validate() throws {
        guard interval >= 0.01, interval <= 86_400 else {
            throw ValidationError("--interval takes 0.01 to 86400 seconds")
        }
    }

    func run(_ daemon: Smalloc) throws {
        var earlier: [String: UInt64] = [:]
        var shown = 0
        while true {
            let stats = try daemon.stats()
            let lines = stats.lines.filter { $0.key.hasPrefix(prefix) }
            if common.json {
                let members = lines.map { line in
                    (line.key, Int(line.value).map(JSON.integer) ?? .string(line.value))
                }
                try Output.standard.write(JSON.object(members).text + "\n")
            } else {
                if watch && Output.standard.isTerminal {
                    try Output.standard.write("\u{1B}[H\u{1B}[2J")
                } else if shown > 0 {
                    try Output.standard.write("\n")
                }
                try tell(lines, since: earlier)
            }
            try Output.standard.flush()
            shown += 1
            guard watch, shown < count ?? .max else { return }
            for line in lines { earlier[line.key] = UInt64(line.value) }
            TimeLimit.restart(afterSleeping: interval)
        }
    }

    private func tell(
        _ lines: [(key: String, value: String)], since earlier: [String: UInt64]
    ) throws {
        let rows = lines.map { key, value -> [String] in
            var note = ""
            if key.hasSuffix("_bytes"), let size = UInt64(value), size >= 1024 {
                note = humanSize(size)
            }
            if let now = UInt64(value), let before = earlier[key], now != before {
                let sign = now > before ? "+" : "-"
                let change = now > before ? now - before : before - now
                let rate = decimal(Double(change) / interval, interval == 1 ? 0 : 1)
                note += (note.isEmpty ? "" : "  ") + "\(sign)\(rate)/s"
            }
            return [key, value, note]
        }
        try Output.standard.write(tableText(rows, right: [false, true, false]))
    }
}
