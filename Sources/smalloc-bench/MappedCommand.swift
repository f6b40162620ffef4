// Measuring how fast clients that map the same allocation tell each other something.

import ArgumentParser
import CBench
import Foundation
import Smalloc

/// Shows what a turn takes between two threads with a mapping each, beside two in plain C.
struct MappedCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mapped",
        abstract:
            "Measures atomics, wait and notify on mappings beside bare words and futexes in C.",
        discussion: """
            Two threads on a processor each, with a connection and a mapping each, take turns: one \
            stores a number, the other one sees it, by asking the element again and again or by \
            wait and notify; at once, or after so much work that the other one sleeps meanwhile, \
            which is not counted. Two threads in C do the same on shared memory of their own, \
            alternately. Ends with 1 if the median of the ratios is over \(mark).
            """)

    /// The largest ratio that passes.
    static let mark = 1.3

    @Option(help: "How often each is measured.") var rounds = 9
    @Option(help: "Turns of each measurement.") var turns: UInt32 = 20_000
    @OptionGroup var places: ProgramOptions

    func validate() throws {
        guard rounds >= 1, rounds <= 1000 else {
            throw ValidationError("--rounds takes 1 to 1000")
        }
        guard turns >= 1, turns <= 100_000_000 else {
            throw ValidationError("--turns takes 1 to 100000000")
        }
    }

    func run() throws {
        let processors = Placement.available()
        guard processors.count > 1 else {
            throw BenchError.setup("two processors are needed")
        }
        let programs = try places.programs()
        let server = try ServerProcess(.smallocd, processors: processors) {
            ServerKind.smallocd.arguments($0, threads: 1, programs: programs)
        }
        guard case .unix(let path) = server.address else {
            throw BenchError.setup("mappings need a Unix socket")
        }
        let address = "unix:\(path)"
        let owner = try Smalloc(address)
        var table = Table(["between two threads", "smalloc ns", "C ns", "ratio", ""])
        var isOver = false
        let cases: [(String, sleeps: Bool, work: UInt64)] = [
            ("a value seen", false, 0), ("wait and notify", true, 0),
            ("a thread woken", true, 50_000),
        ]
        for (name, sleeps, work) in cases {
            let turns = work == 0 ? turns : max(1, turns / 10)
            var (own, plain): ([Double], [Double]) = ([], [])
            for round in 0..<rounds {
                log("\(name) \(round)")
                _ = try owner.alloc(1024, named: "turns", .int32)
                let maps = try (0..<2).map { _ in
                    try Smalloc(address).open("turns").map(Int32.self)
                }
                let turn = cbench_turns(
                    Int32(processors[0]), Int32(processors[1]), turns, sleeps ? 1 : 0, work)
                guard turn >= 0 else { throw BenchError.last("mmap") }
                plain.append(turn)
                own.append(try measure(maps, processors, Int32(turns), sleeps, work))
                try owner.dispose(named: "turns")
            }
            let ratio = median(zip(own, plain).map { $0 / $1 })
            if ratio > Self.mark { isOver = true }
            table.add([
                name, Table.number(median(own)), Table.number(median(plain)),
                String(format: "%.2f", ratio), ratio > Self.mark ? "OVER" : "ok",
            ])
        }
        print(table.text)
        print("The mark is \(Self.mark).")
        if isOver { throw ExitCode(1) }
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    /// Nanoseconds of a turn, beside the work before it.
    private func measure(
        _ maps: [Smalloc.Mapping<Int32>], _ processors: [Int], _ turns: Int32, _ sleeps: Bool,
        _ work: UInt64
    ) throws -> Double {
        let (first, second) = (maps[0], maps[1])
        let processor = Int32(processors[1])
        let group = DispatchGroup()
        group.enter()
        Thread {
            withUnsafePointer(to: processor) { _ = cbench_pin($0, 1) }
            for turn in 1...turns {
                Self.await(second, 0, turn, sleeps)
                cbench_work(work)
                Self.tell(second, 512, turn, sleeps)
            }
            group.leave()
        }.start()
        withUnsafePointer(to: Int32(processors[0])) { _ = cbench_pin($0, 1) }
        let start = DispatchTime.now().uptimeNanoseconds
        for turn in 1...turns {
            cbench_work(work)
            Self.tell(first, 0, turn, sleeps)
            Self.await(first, 512, turn, sleeps)
        }
        let end = DispatchTime.now().uptimeNanoseconds
        group.wait()
        return Double(end - start) / (2 * Double(turns)) - Double(work)
    }

    private static func await(
        _ map: Smalloc.Mapping<Int32>, _ index: Int, _ wanted: Int32, _ sleeps: Bool
    ) {
        while true {
            let value = map.atomicLoad(index)
            if value == wanted { return }
            if sleeps { _ = try? map.wait(at: index, while: value) }
        }
    }

    private static func tell(
        _ map: Smalloc.Mapping<Int32>, _ index: Int, _ value: Int32, _ sleeps: Bool
    ) {
        map.atomicStore(value, at: index)
        if sleeps { _ = try? map.notify(at: index, count: 1) }
    }
}
