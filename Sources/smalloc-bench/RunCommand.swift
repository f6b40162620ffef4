// Measuring by the clock.

import ArgumentParser
import Foundation

/// Measures smallocd beside its peers.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Measures smallocd beside Redis, memcached and nbdkit, in alternating rounds.",
        discussion: """
            Starts every server itself, on temporary sockets, with persistence off, and stops it. \
            Servers and load run on different processors, where there are enough. Every reply to \
            the load generator is checked, byte for byte. --quick takes 5 minutes, all points with \
            --rounds 3 --seconds 0.35 20, and longer with what they have by default.

            A point's name tells its work, the size, and C x D: C connections, each with D \
            requests in flight, sent together. --points 'read/64B/*' measures three points, \
            --points '*/1MiB/*' all of that size. What the tables' columns mean stands under them.

            Ends with 1 if a server failed or answered wrongly.
            """)

    @Option(help: "Which points, a pattern as of a shell; may be repeated. See --list.")
    var points: [String] = []
    @Flag(help: "Only prints the names of the points.") var list = false
    @Flag(help: "A short run: the points that matter most, less time for each.") var quick = false
    @Option(help: "Alternating rounds of each point (default 5, with --quick 3).")
    var rounds: Int?
    @Option(help: "Seconds of each run (default 0.5, with --quick 0.25).") var seconds: Double?
    @Option(help: "Servers to measure, with commas: smallocd, redis, memcached, nbdkit.")
    var servers = "smallocd,redis,memcached,nbdkit"
    @Option(
        help: ArgumentHelp(
            "Compares smallocd with this other build of it, and with nothing else: of each point "
                + "the median of the rounds' ratios, above 1 where smallocd is better.",
            valueName: "executable"))
    var beside: String?
    @Flag(
        help: ArgumentHelp(
            "Sets the load generator against a server that only answers in each protocol, not in "
                + "smallocd's alone."))
    var calibrate = false
    @Flag(help: "Asks the kernel to prefer the bench to all else on a busy machine (as root).")
    var favour = false
    @Option(help: "File for all figures.") var json: String?
    @Option(help: "File for a plot of the ratios, SVG.") var plot: String?
    @Option(help: "Makes the tables and the plot of an earlier run's JSON file again.")
    var from: String?
    @OptionGroup var places: ProgramOptions

    func validate() throws {
        guard (rounds ?? 1) >= 1, (rounds ?? 1) <= 1000 else {
            throw ValidationError("--rounds takes 1 to 1000")
        }
        guard (seconds ?? 1) > 0, (seconds ?? 1) <= 3600 else {
            throw ValidationError("--seconds takes more than 0, and 3600 at most")
        }
        if let beside, !ProgramOptions.isThere(beside) {
            throw ValidationError("there is no program \(beside)")
        }
        let known = Contestant.all.map(\.label)
        for server in wantedServers where !known.contains(server) {
            throw ValidationError(
                "there is no server \(server), but \(known.joined(separator: ", "))")
        }
    }

    private var wantedServers: [String] { servers.split(separator: ",").map(String.init) }

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        let entries = PointCatalog.entries(
            // A whole run shows that the load does not limit, too.
            quick: quick && points.isEmpty, calibrate: calibrate || points.isEmpty && !quick,
            builds: beside != nil
        ).filter { entry in
            points.isEmpty || points.contains { fnmatch($0, entry.name, 0) == 0 }
        }
        guard !entries.isEmpty else {
            throw ValidationError("no point has such a name; --list prints all")
        }
        if list {
            for entry in entries { print(entry.name) }
            return
        }
        if let from {
            try present(Report.read(from: from))
            return
        }
        Self.raiseDescriptorLimit()
        if favour, !Self.favour() {
            throw ValidationError("--favour was refused: it takes root")
        }
        let programs = try places.programs()
        let bench = Bench(
            programs: programs, rounds: rounds ?? (quick ? 3 : 5),
            seconds: seconds ?? (quick ? 0.25 : 0.5), isQuick: quick,
            contestants: contestants(programs))
        for (index, entry) in entries.enumerated() {
            log("[\(index + 1)/\(entries.count)] \(entry.name)")
            entry.measure(bench)
        }
        let results = Results(series: bench.series)
        let report = Report(
            date: Date(), machine: .here(programs, processors: bench.processors.count),
            arguments: Array(CommandLine.arguments.dropFirst()), rounds: bench.rounds,
            seconds: bench.seconds, series: bench.series, marks: Mark.all(results),
            failures: bench.failures)
        try json.map(report.write(to:))
        try present(report)
    }

    /// Moves the bench, and the servers that it starts, before whatever else runs here.
    ///
    /// Where the kernel groups processes by session, a niceness counts within the session only, so
    /// there is a new one, with a niceness of its own.
    ///
    /// - Returns: False if the kernel refuses it.
    private static func favour() -> Bool {
        setsid()
        try? "-19".write(toFile: "/proc/self/autogroup", atomically: false, encoding: .utf8)
        return setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -15) == 0
    }

    /// Prints the tables and writes the plot.
    ///
    /// - Throws: Once all is printed, if something could not be measured.
    private func present(_ report: Report) throws {
        let results = Results(series: report.series)
        print("smalloc-bench \(report.arguments.joined(separator: " "))")
        print(report.machine.text)
        print("\(report.rounds) alternating rounds of \(report.seconds) s; MB = 10^6 bytes")
        print()
        if let comparison = results.comparison {
            print(comparison)
            return try end(report)
        }
        print(results.text)
        print(Results.legend)
        print()
        let growth = results.growth
        if !growth.isEmpty {
            print("With 1, 2 and 3 loops; with 10 thousand, 1 million and 10 million allocations:")
            print(growth)
        }
        let calibration = results.calibration
        if !calibration.isEmpty {
            print("The load generator against a server that only answers, by protocol:")
            print(calibration)
        }
        print(Mark.text(report.marks))
        if let plot {
            let subtitle =
                "\(report.machine.processor), \(report.machine.processors) processors; medians of "
                + "\(report.rounds) rounds of \(report.seconds) s, lines from least to most"
            try Plot(results, subtitle: subtitle).svg
                .write(toFile: plot, atomically: true, encoding: .utf8)
        }
        try end(report)
    }

    /// Prints what failed.
    ///
    /// - Throws: `ExitCode`, if anything did.
    private func end(_ report: Report) throws {
        guard !report.failures.isEmpty else { return }
        print("FAILED:")
        for failure in report.failures { print("  \(failure)") }
        throw ExitCode(1)
    }

    /// Raises the descriptor limit, here and for the servers: thousands of connections need as
    /// many.
    static func raiseDescriptorLimit() {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// The servers that were asked for and are there.
    private func contestants(_ programs: Programs) -> [Contestant] {
        if let beside { return [.smallocd, .other(beside)] }
        let wanted = Set(wantedServers)
        let there = [programs.smallocd, programs.redis, programs.memcached, programs.nbdkit]
        return zip(Contestant.all, there).filter { contestant, program in
            guard wanted.contains(contestant.label) else { return false }
            if ProgramOptions.isThere(program) { return true }
            log("\(contestant.label) is left out: there is no \(program)")
            return false
        }.map(\.0)
    }
}
