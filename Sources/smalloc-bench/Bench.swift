// One run of the bench: every comparison goes through its rounds.

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
    /// Two builds of the daemon are compared, and nothing else takes part.
    let comparesBuilds: Bool
    private(set) var series: [Series] = []
    /// What could not be measured, or was answered wrongly: a line for each.
    private(set) var failures: [String] = []

    init(
        programs: Programs, rounds: Int, seconds: Double, isQuick: Bool, contestants: [Contestant]
    ) {
        self.programs = programs
        self.rounds = rounds
        self.seconds = seconds
        self.isQuick = isQuick
        self.contestants = contestants
        comparesBuilds = contestants.contains { $0.label == Contestant.otherLabel }
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
            contestant.arguments($0, threads: threads, programs: programs)
        }
    }

    /// Measures one point against every contestant that it suits, in alternating rounds.
    ///
    /// - Parameters:
    ///   - kind: only this one of the contestants.
    ///   - yardsticks: servers that are no peers, in the same rounds.
    ///   - others: what else smallocd does in the same rounds, to be compared with.
    ///   - further: who else takes part.
    func run(
        _ point: LoadPoint, besides yardsticks: [Contestant] = [], only kind: ServerKind? = nil,
        and others: [(point: LoadPoint, label: String)] = [],
        with further: (Bench) -> [Entrant] = { _ in [] }
    ) {
        let placement = Placement(available: processors, serverCount: point.threads)
        pinLoad(placement)
        var entrants: [Entrant] = []
        let isOwnThere = contestants.contains(where: \.isMeasured)
        let yardsticks =
            comparesBuilds ? [] : yardsticks.filter { $0.kind != .smallocd || isOwnThere }
        for contestant in contestants + yardsticks
        where point.suits(contestant) && (kind ?? contestant.kind) == contestant.kind {
            var works = [(point: point, label: contestant.label)]
            if contestant.isMeasured, !comparesBuilds { works += others }
            for work in works {
                attempt(point.name, work.label) {
                    entrants.append(try load(work.point, contestant, work.label, placement))
                }
            }
        }
        compete(point.name, point.work.unit, entrants + (comparesBuilds ? [] : further(self)))
    }

    /// The load generator against a server that it starts.
    private func load(
        _ point: LoadPoint, _ contestant: Contestant, _ label: String, _ placement: Placement
    ) throws -> Entrant {
        let load = try PreparedLoad(
            point, contestant, placement, programs: programs, pattern: pattern)
        _ = try load.run(seconds: min(0.2, seconds))
        return Entrant(
            label: label, note: placement.isShared ? "load on a server's core" : "",
            run: load.run(seconds:), finish: load.verify)
    }

    /// Lets all run in turn, as often as there are rounds.
    ///
    /// Each round begins with another one, so that none always follows the same. Who fails once is
    /// out, so that the others' figures remain pairs of the same round.
    func compete(_ point: String, _ unit: Unit, _ entrants: [Entrant]) {
        var samples = entrants.map { _ in [Sample]() }
        var isOut = entrants.map { _ in false }
        for round in 0..<rounds {
            for turn in entrants.indices {
                let index = (turn + round) % entrants.count
                guard !isOut[index] else { continue }
                isOut[index] = !attempt(point, entrants[index].label) {
                    samples[index].append(try entrants[index].run(seconds))
                }
            }
        }
        for (index, entrant) in entrants.enumerated() where !isOut[index] {
            attempt(point, entrant.label) {
                try entrant.finish()
                add(
                    Series(
                        point: point, server: entrant.label, unit: unit, samples: samples[index],
                        note: entrant.note))
            }
        }
    }

    /// Does something for one of them; a failure is noted, and the rest goes on.
    ///
    /// - Returns: Whether it was done.
    @discardableResult
    func attempt(_ point: String, _ label: String, _ body: () throws -> Void) -> Bool {
        do {
            try body()
            return true
        } catch {
            failures.append("\(point)  \(label): \(error)")
            log("  \(point)  \(label): FAILED: \(error)")
            return false
        }
    }

    /// Binds the calling thread to the load's processor; without that the figures are noted as
    /// failed.
    func pinLoad(_ placement: Placement) {
        guard !placement.pinLoad() else { return }
        let failure = "the load could not be bound to processor \(placement.load)"
        if !failures.contains(failure) { failures.append(failure) }
    }
}

/// Writes a line to standard error.
func log(_ line: String) {
    FileHandle.standardError.write(Data((line + "\n").utf8))
}
