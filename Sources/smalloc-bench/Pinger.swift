// The client that tells how long others wait.

import ArgumentParser
import CBench
import Foundation
import Synchronization

/// Started by the bench itself, as a process of its own: pings again and again until it is told to
/// end, then says how long the answers took.
struct Pinger: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pinger", abstract: "Pings (started by the bench itself).",
        shouldDisplay: false)

    @Option(help: "Unix socket of the daemon.") var path: String

    /// From an answer to the next ping, in microseconds.
    private static let pause: UInt32 = 300

    func run() throws {
        signal(SIGTERM) { _ in isToldToEnd.store(true, ordering: .relaxed) }
        let wire = try Wire(to: .unix(path), speaking: SmallocDialect())
        var builder = BatchBuilder(Pattern())
        wire.dialect.ping(&builder)
        let arena = Arena()
        let ping = builder.finish(jobs: 1, in: arena)
        // The load may run on this processor: it must not be waited for, only the daemon.
        _ = cbench_set_realtime(1)
        var times = Histogram()
        var longest: UInt64 = 0
        say("ready")
        while !isToldToEnd.load(ordering: .relaxed) {
            let start = clockNanoseconds()
            try withExtendedLifetime(arena) { try wire.exchange(ping) }
            let taken = clockNanoseconds() - start
            times.record(taken)
            longest = max(longest, taken)
            usleep(Self.pause)
        }
        say("\(times.count) \(times.percentile(0.5)) \(times.percentile(0.99)) \(longest)")
    }

    private func say(_ line: String) {
        FileHandle.standardOutput.write(Data((line + "\n").utf8))
    }
}

private let isToldToEnd = Atomic<Bool>(false)

/// What a pinger saw, in nanoseconds.
struct Waits {
    let count: Int
    let p50: Double
    let p99: Double
    let longest: Double

    /// What another process sees of a server while `body` runs.
    ///
    /// - Throws: What `body` throws; `BenchError` if the pinger does not start, or fails.
    static func measure(
        _ server: ServerProcess, on processor: Int, while body: () throws -> Void
    ) throws -> Waits {
        guard case .unix(let path) = server.address else {
            throw BenchError.setup("the pinger has no TCP")
        }
        let folder = try TemporaryFolder.make()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let output = folder + "/out"
        let command = [try executablePath(), "pinger", "--path", path]
        var words = command.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var place = Int32(processor)
        let identifier = cbench_spawn(&words, &place, 1, output)
        guard identifier > 0 else { throw BenchError.last("fork") }
        var hasEnded = false
        func end() {
            guard !hasEnded else { return }
            hasEnded = true
            kill(identifier, SIGTERM)
            var status: Int32 = 0
            waitpid(identifier, &status, 0)
        }
        defer { end() }
        func lines() -> [Substring] {
            ((try? String(contentsOfFile: output, encoding: .utf8)) ?? "").split(separator: "\n")
        }
        for _ in 0..<1000 where lines().isEmpty { usleep(10_000) }
        guard lines().first == "ready" else {
            throw BenchError.setup("the pinger does not start: \(lines())")
        }
        try body()
        end()
        let numbers = lines().last?.split(separator: " ").compactMap { Double($0) } ?? []
        guard numbers.count == 4 else { throw BenchError.setup("the pinger failed: \(lines())") }
        return Waits(
            count: Int(numbers[0]), p50: numbers[1], p99: numbers[2], longest: numbers[3])
    }
}
