import CBench
import Foundation

/// One run of the bench: what it measures with, and what it has measured.
final class Bench {
    let programs: Programs
    let processors: [Int]
    let pattern = Pattern()
    /// Alternating rounds of each point.
    let rounds: Int
    /// Length of one run, in seconds.
    let seconds: Double
    /// Whether big and slow points are cut down.
    let isQuick: Bool
    let contestants: [Contestant]
    private(set) var series: [Series] = []

    init(
        programs: Programs, rounds: Int, seconds: Double, isQuick: Bool, contestants: [Contestant]
    ) {
        self.programs = programs
        self.rounds = rounds
        self.seconds = seconds
        self.isQuick = isQuick
        self.contestants = contestants
        processors = Placement.available()
    }

    func add(_ new: Series) {
        series.append(new)
        let median = new.statistics.map { Table.number($0.median) } ?? "-"
        log("  \(new.point)  \(new.server): \(median) \(new.unit.rawValue) \(new.note)")
    }

    /// Starts a server for a point that is no load point.
    func start(
        _ contestant: Contestant, threads: Int = 1, on placement: Placement
    ) throws -> ServerProcess {
        try ServerProcess(contestant.kind, processors: placement.servers) {
            contestant.kind.arguments($0, threads: threads, programs: programs)
        }
    }

    /// Measures one point against every contestant that it suits, in alternating rounds.
    ///
    /// - Parameter other: Something that smallocd does in the same rounds, to be compared with.
    func run(
        _ point: LoadPoint, besides yardsticks: [Contestant] = [], only kind: ServerKind? = nil,
        and other: (point: LoadPoint, label: String)? = nil
    ) {
        let placement = Placement(available: processors, serverCount: point.threads)
        placement.pinLoad()
        var prepared: [(load: PreparedLoad, label: String, samples: [Sample])] = []
        func prepare(_ work: LoadPoint, _ contestant: Contestant, _ label: String) {
            attempt(point.name, contestant) {
                let load = try PreparedLoad(
                    work, contestant, placement, programs: programs, pattern: pattern)
                _ = try load.run(seconds: min(0.2, seconds))
                prepared.append((load, label, []))
            }
        }
        for contestant in contestants + yardsticks
        where point.suits(contestant) && (kind ?? contestant.kind) == contestant.kind {
            prepare(point, contestant, contestant.label)
            if let other, contestant.kind == .smallocd {
                prepare(other.point, contestant, other.label)
            }
        }
        for round in 0..<rounds {
            // Each round begins with another server, so that none always follows the same one.
            for turn in prepared.indices {
                let index = (turn + round) % prepared.count
                attempt(point.name, prepared[index].load.contestant) {
                    prepared[index].samples.append(
                        try prepared[index].load.run(seconds: seconds))
                }
            }
        }
        for (load, label, samples) in prepared where !samples.isEmpty {
            attempt(point.name, load.contestant) {
                try load.verify()
                add(
                    Series(
                        point: point.name, server: label, unit: point.work.unit, samples: samples,
                        note: placement.isShared ? "(load on a server core)" : ""))
            }
        }
    }

    /// Does something for a contestant; a failure is told, and the rest goes on.
    func attempt(_ point: String, _ contestant: Contestant, _ body: () throws -> Void) {
        do { try body() } catch { log("  \(point)  \(contestant.label): FAILED: \(error)") }
    }
}

/// Writes a line to standard error.
func log(_ line: String) {
    FileHandle.standardError.write(Data((line + "\n").utf8))
}
