// Measuring what it takes to have an allocation as memory of one's own, and what that memory costs.

import ArgumentParser
import CBench
import Smalloc

/// Shows how long a map takes beside passing a descriptor in plain C, a loop over mapped elements
/// beside one over a buffer, and how long an allocation lives that is made to be mapped.
struct SharingCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sharing",
        abstract: "Measures maps beside plain C, and loops over them beside plain memory.",
        discussion: """
            A map is asked for, its first byte read, and released, of an allocation of 1 MiB that \
            is there; in C a thread asks another one for a descriptor, maps it, reads and unmaps. \
            A loop stores and adds up doubles. Each beside its counterpart, alternately. Then \
            allocations are made, mapped, touched, released and disposed of: the first cycle, and \
            the median of those that follow. Ends with 1 if a ratio is over its mark.
            """)

    @Option(help: "How often each is measured.") var rounds = 9
    @Option(help: "Maps of each measurement.") var maps: UInt32 = 2000
    @OptionGroup var places: ProgramOptions

    func validate() throws {
        guard rounds >= 1, rounds <= 1000 else {
            throw ValidationError("--rounds takes 1 to 1000")
        }
        guard maps >= 1, maps <= 10_000_000 else {
            throw ValidationError("--maps takes 1 to 10000000")
        }
    }

    func run() throws {
        let processors = Placement.available()
        guard processors.count > 1 else {
            throw BenchError.setup("two processors are needed")
        }
        let programs = try places.programs()
        let server = try ServerProcess(.smallocd, processors: [processors[0]]) {
            ServerKind.smallocd.arguments($0, threads: 1, programs: programs)
        }
        guard case .unix(let path) = server.address else {
            throw BenchError.setup("mappings need a Unix socket")
        }
        withUnsafePointer(to: Int32(processors[1])) { _ = cbench_pin($0, 1) }
        let client = try Smalloc("unix:\(path)")
        var table = Table(["", "smalloc us", "plain us", "ratio", "mark", ""])
        let results = [
            (
                "map of 1MiB, first byte, release", 1.5,
                try measure { try (map(client), pass(processors)) }
            ),
            ("store 16Ki doubles", 1 / 0.95, try loops(client) { ($0.store, $1.store) }),
            ("add up 16Ki doubles", 1 / 0.95, try loops(client) { ($0.sum, $1.sum) }),
        ]
        for (name, mark, (own, plain, ratio)) in results {
            table.add([
                name, Table.number(own), Table.number(plain), Table.decimals(ratio, 2),
                Table.decimals(mark, 2), ratio > mark ? "OVER" : "ok",
            ])
        }
        print(table.text)
        print(try cycles(client))
        if results.contains(where: { $2.ratio > $1 }) { throw ExitCode(1) }
    }

    private typealias Times = (own: Double, plain: Double, ratio: Double)

    /// Medians of microseconds, and of the ratios of each pair.
    private func measure(_ pair: () throws -> (Double, Double)) throws -> Times {
        let pairs = try (0..<rounds).map { _ in try pair() }
        return (
            median(pairs.map(\.0)), median(pairs.map(\.1)), median(pairs.map { $0 / $1 })
        )
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    private func microseconds(_ body: () throws -> Void) rethrows -> Double {
        let start = clockNanoseconds()
        try body()
        return Double(clockNanoseconds() - start) / 1000
    }

    // MARK: Maps

    private func map(_ client: Smalloc) throws -> Double {
        let allocation = try client.alloc(1 << 20)
        try allocation.fill(1)
        // The first one moves it to memory that can be mapped.
        _ = try allocation.map(UInt8.self)
        return try microseconds {
            for _ in 0..<maps {
                guard try allocation.map(UInt8.self)[0] == 1 else {
                    throw BenchError.setup("the mapping has other bytes")
                }
            }
        } / Double(maps)
    }

    private func pass(_ processors: [Int]) throws -> Double {
        let time = cbench_passing(Int32(processors[0]), Int32(processors[1]), 1 << 20, maps)
        guard time >= 0 else { throw BenchError.last("passing a descriptor") }
        return time / 1000
    }

    // MARK: Loops

    /// Few enough for a processor's own cache: the loop is measured, not the memory.
    private static let count = 16 << 10
    private static let repeats = 256

    /// What is done with the elements, in microseconds.
    private struct Loops {
        let store: Double
        let sum: Double
    }

    private func loops(
        _ client: Smalloc, _ choose: (Loops, Loops) -> (Double, Double)
    ) throws -> Times {
        let mapping = try client.alloc(Self.count, .double).map(Double.self)
        let buffer = UnsafeMutableBufferPointer<Double>.allocate(capacity: Self.count)
        defer { buffer.deallocate() }
        buffer.initialize(repeating: 0)
        return try measure {
            choose(try Self.loops(over: mapping), try Self.loops(over: buffer))
        }
    }

    /// As the document that the library follows writes them: by index.
    @inline(never)
    private static func loops(over elements: Smalloc.Mapping<Double>) throws -> Loops {
        let start = clockNanoseconds()
        for _ in 0..<repeats { for index in 0..<elements.count { elements[index] = Double(index) } }
        let middle = clockNanoseconds()
        var sum = 0.0
        for _ in 0..<repeats { for index in 0..<elements.count { sum += elements[index] } }
        return try loops(start, middle, sum)
    }

    @inline(never)
    private static func loops(over elements: UnsafeMutableBufferPointer<Double>) throws -> Loops {
        let start = clockNanoseconds()
        for _ in 0..<repeats { for index in 0..<elements.count { elements[index] = Double(index) } }
        let middle = clockNanoseconds()
        var sum = 0.0
        for _ in 0..<repeats { for index in 0..<elements.count { sum += elements[index] } }
        return try loops(start, middle, sum)
    }

    private static func loops(_ start: UInt64, _ middle: UInt64, _ sum: Double) throws -> Loops {
        let end = clockNanoseconds()
        guard sum == Double(repeats) * Double(count) * Double(count - 1) / 2 else {
            throw BenchError.setup("the loop has another sum")
        }
        return Loops(
            store: Double(middle - start) / 1000 / Double(repeats),
            sum: Double(end - middle) / 1000 / Double(repeats))
    }

    // MARK: Cycles

    /// Allocations that live for one byte.
    private func cycles(_ client: Smalloc) throws -> String {
        var table = Table(["alloc, map, first byte, release, dispose", "first us", "then us"])
        for size in [64 << 10, 1 << 20, 64 << 20] {
            let first = try cycle(client, size)
            let then = try (0..<(size > 1 << 20 ? 100 : 1000)).map { _ in try cycle(client, size) }
            table.add([sizeName(size), Table.number(first), Table.number(median(then))])
        }
        return table.text
    }

    private func cycle(_ client: Smalloc, _ size: Int) throws -> Double {
        try microseconds {
            let allocation = try client.alloc(size, named: "cycle", shareable: true)
            do {
                let mapping = try allocation.map(UInt8.self)
                mapping[0] = 1
            }
            try allocation.dispose()
        }
    }
}
