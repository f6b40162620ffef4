import ArgumentParser
import Foundation

/// Measures smallocd beside its peers.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Measures smallocd beside Redis, memcached and nbdkit, in alternating rounds.",
        discussion: """
            Starts every server itself, on temporary sockets, with persistence off, and stops it. \
            Servers and load run on different processors. Every reply is checked, byte for byte.
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
    @Flag(help: "Sets the load generator against a server that only answers, in each protocol.")
    var calibrate = false
    @Flag(help: "Asks the kernel to prefer the bench to all else on a busy machine (as root).")
    var favour = false
    @Option(help: "File for all figures.") var json: String?
    @Option(help: "File for a plot of the ratios, SVG.") var plot: String?
    @Option(help: "Makes the tables and the plot of an earlier run's JSON file again.")
    var from: String?
    @OptionGroup var places: ProgramOptions

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        let entries = PointCatalog.entries(quick: quick && points.isEmpty, calibrate: calibrate)
            .filter { entry in
                points.isEmpty || points.contains { fnmatch($0, entry.name, 0) == 0 }
            }
        if list {
            for entry in entries { print(entry.name) }
            return
        }
        if let from {
            try present(Report.read(from: from))
            return
        }
        raiseDescriptorLimit()
        if favour { Self.favour() }
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
            rounds: bench.rounds, seconds: bench.seconds,
            series: bench.series, marks: Mark.all(results))
        try json.map(report.write(to:))
        try present(report)
    }

    /// Moves the bench, and the servers that it starts, before whatever else runs here.
    ///
    /// Where the kernel groups processes by session, a niceness counts within the session only, so
    /// there is a new one, with a niceness of its own.
    private static func favour() {
        setsid()
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -15)
        try? "-19".write(toFile: "/proc/self/autogroup", atomically: false, encoding: .utf8)
    }

    /// Prints the tables and writes the plot.
    private func present(_ report: Report) throws {
        let results = Results(series: report.series)
        print(report.machine.text)
        print("\(report.rounds) alternating rounds of \(report.seconds) s; MB = 10^6 bytes")
        print()
        print(results.text)
        let calibration = results.calibration
        if !calibration.isEmpty {
            print("The load generator against a server that only answers, by protocol:")
            print(calibration)
        }
        print(Mark.text(report.marks))
        guard let plot else { return }
        let subtitle =
            "\(report.machine.processor), \(report.machine.processors) processors; medians of "
            + "\(report.rounds) rounds, lines from least to most"
        try Plot(results, subtitle: subtitle).svg
            .write(toFile: plot, atomically: true, encoding: .utf8)
    }

    /// The servers that were asked for and are there.
    private func contestants(_ programs: Programs) -> [Contestant] {
        let wanted = Set(servers.split(separator: ",").map(String.init))
        return [
            (Contestant.smallocd, programs.smallocd), (.redis, programs.redis),
            (.memcached, programs.memcached), (.nbdkit, programs.nbdkit),
        ].filter { contestant, program in
            guard wanted.contains(contestant.label) else { return false }
            if ProgramOptions.isThere(program) { return true }
            log("\(contestant.label) is left out: there is no \(program)")
            return false
        }.map(\.0)
    }
}

/// Raises the descriptor limit, here and for the servers: thousands of connections need as many.
func raiseDescriptorLimit() {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}

/// Where the programs are.
struct ProgramOptions: ParsableArguments {
    @Option(help: "The daemon (default: smallocd beside this program).") var smallocd: String?
    @Option(help: "The Redis server.") var redisServer = "redis-server"
    @Option(help: "The memcached server.") var memcached = "memcached"
    @Option(help: "nbdkit, with its memory plugin.") var nbdkit = "nbdkit"
    @Option(help: "Further options for smallocd, separated by spaces.")
    var serverOptions = ""

    func programs() throws -> Programs {
        var own = try executablePath().split(separator: "/").dropLast().map(String.init)
        own.append("smallocd")
        return Programs(
            smallocd: smallocd ?? "/" + own.joined(separator: "/"), redis: redisServer,
            memcached: memcached, nbdkit: nbdkit,
            serverOptions: serverOptions.split(separator: " ").map(String.init))
    }

    /// Whether a program can be run, by its path or by looking through `PATH`.
    static func isThere(_ program: String) -> Bool {
        if program.contains("/") { return access(program, X_OK) == 0 }
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
    }
}

@main
struct SmallocBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "smalloc-bench",
        abstract: "Measures smallocd, by the clock and by counting instructions.",
        subcommands: [RunCommand.self, InstructionsCommand.self, NullServer.self],
        defaultSubcommand: RunCommand.self)
}
