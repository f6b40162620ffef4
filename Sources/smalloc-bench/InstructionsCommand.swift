// Measuring by counting.

import ArgumentParser
import Foundation

/// Counts what a request costs the server in user space.
struct InstructionsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "instructions",
        abstract: "Counts the daemon's instructions per operation with callgrind.",
        discussion: """
            Two runs of different lengths, and the difference of their counts by the difference of \
            their lengths: start and end cancel out, and what is left hardly depends on how busy \
            the machine is. Ends with an error if an operation needs more than its budget.
            """)

    @Option(help: "The budgets.") var budgets = "Tests/Budgets/instructions.json"
    @Option(help: "Operations of the shorter run; the longer has six times as many.")
    var length = 20_000
    @Option(help: "Keeps callgrind's files of the longer runs in this folder.") var keep: String?
    @Option(help: "Only these operations, by name, with commas.") var only: String?
    // Not memcached: it sets a descriptor limit that valgrind refuses.
    @Flag(help: "Counts Redis, too, to compare.") var redis = false
    @OptionGroup var places: ProgramOptions

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        var programs = try places.programs()
        // How often an idle loop asks for more is a matter of time, and of no interest here.
        programs.serverOptions += ["--busy-poll", "0"]
        // Valgrind keeps descriptors for itself.
        programs.connectionsMax = 100
        let folder = try TemporaryFolder.make()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        programs.smallocd = try stripped(programs.smallocd, into: folder)
        let file = try InstructionBudgets.read(from: budgets)
        var table = Table(["operation", "server", "instructions", "budget", ""])
        var over: [String] = []
        let names = file.operations.map(\.name)
        let wanted = Set(only?.split(separator: ",").map(String.init) ?? names)
        guard !wanted.isEmpty, wanted.isSubset(of: names) else {
            throw ValidationError("--only takes names of \(budgets): \(names)")
        }
        for budget in file.operations where wanted.contains(budget.name) {
            let count = try counted(budget, .smallocd, programs, depth: file.depth)
            let isOver = count > budget.instructions
            if isOver { over.append(budget.name) }
            table.add([
                budget.name, "smallocd", Table.decimals(count, 1),
                Table.decimals(budget.instructions, 0), isOver ? "OVER" : "ok",
            ])
            if redis {
                let count = try counted(budget, .redis, programs, depth: file.depth)
                table.add([budget.name, "redis", Table.decimals(count, 1)])
            }
        }
        print(table.text)
        guard over.isEmpty else {
            log("over budget: \(over.joined(separator: ", "))")
            throw ExitCode(1)
        }
    }

    /// A copy of a program without its debug information, which valgrind 3.19 fails to read.
    private func stripped(_ program: String, into folder: String) throws -> String {
        let copy = folder + "/smallocd"
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["strip", "--strip-debug", "-o", copy, program]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw BenchError.setup("strip failed on \(program)")
        }
        return copy
    }

    private func counted(
        _ budget: InstructionBudgets.Operation, _ contestant: Contestant, _ programs: Programs,
        depth: Int
    ) throws -> Double {
        guard let work = budget.work else {
            throw BenchError.setup("\(budgets): no work is called \(budget.name)")
        }
        let short = try count(
            work, contestant, programs, depth: depth, preload: budget.preload, jobs: length,
            name: budget.name, keep: nil)
        let long = try count(
            work, contestant, programs, depth: depth, preload: budget.preload, jobs: length * 6,
            name: budget.name, keep: contestant.kind == .smallocd ? keep : nil)
        let more = (
            jobs: long.jobs - short.jobs, instructions: long.instructions - short.instructions
        )
        // No request is done by fewer than some tens.
        guard more.jobs >= length, more.instructions > more.jobs * 10 else {
            throw BenchError.setup("\(budget.name): the two runs tell nothing: \(short), \(long)")
        }
        return Double(more.instructions) / Double(more.jobs)
    }

    func validate() throws {
        guard length >= 1000, length <= 10_000_000 else {
            throw ValidationError("--length takes 1000 to 10000000 operations")
        }
    }

    /// Runs the server under callgrind for so many jobs; how many it did, and its instructions.
    private func count(
        _ work: Work, _ contestant: Contestant, _ programs: Programs, depth: Int, preload: Int,
        jobs: Int, name: String, keep: String?
    ) throws -> (jobs: Int, instructions: Int) {
        let folder = try TemporaryFolder.make()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let output = folder + "/out"
        let point = LoadPoint(name: name, work: work, depth: depth, preload: preload)
        let placement = Placement(available: Placement.available(), serverCount: 1)
        let done = try {
            let load = try PreparedLoad(
                point, contestant, placement, programs: programs, pattern: Pattern(),
                under: [
                    "valgrind", "--tool=callgrind", "--callgrind-out-file=\(output)",
                ], blocks: true)
            let done = try load.run(jobs: jobs)
            try load.verify()
            return done
        }()
        guard let text = try? String(contentsOfFile: output, encoding: .utf8) else {
            throw BenchError.setup("valgrind wrote no counts; is it installed?")
        }
        if let keep {
            try FileManager.default.createDirectory(
                atPath: keep, withIntermediateDirectories: true)
            let place = "\(keep)/callgrind.out.\(name.replacing("/", with: "-"))"
            try text.write(toFile: place, atomically: true, encoding: .utf8)
        }
        for line in text.split(separator: "\n") where line.hasPrefix("totals:") {
            if let value = Int(line.dropFirst(7).trimmingCharacters(in: .whitespaces)) {
                return (done, value)
            }
        }
        throw BenchError.setup("valgrind's file has no totals")
    }
}
