// The bundled Swift client, as those who use it meet it: what it makes of the daemon.

import Dispatch
import Glibc
import Smalloc
import Synchronization

/// What the Swift client makes of the daemon, in the rounds of the load generator and of a
/// yardstick.
enum ClientPoints {
    static let label = "Swift client"
    /// Tasks that say nothing of where they run.
    static let plainLabel = "Swift client, plain tasks"
    /// Tasks that ask so many requests at a time, by a batch.
    static let batchLabel = "Swift client, batches of \(batchCount)"
    private static let batchCount = 16

    /// The synchronous client at 64-byte reads or writes, one at a time, beside a C ping-pong.
    static func roundTrip(_ bench: Bench, _ point: LoadPoint) -> [Entrant] {
        let client = blocking(bench, point) { client, seconds in
            let allocation = try client.alloc(64)
            var bytes = (0..<64).map { UInt8($0) }
            let expected = bytes
            try allocation.write(bytes)
            let isRead = point.work.isRead
            if !isRead { try allocation.fill(0) }
            let sample = try timed(seconds, perJob: 1) {
                if isRead {
                    bytes[63] = 0
                    try allocation.read(into: &bytes)
                    guard bytes == expected else { throw wrongData }
                } else {
                    try allocation.write(expected)
                }
            }
            guard try allocation.read(UInt8.self) == expected else { throw wrongData }
            return sample
        }
        return [Yardsticks.pingPong(bench, point)] + client
    }

    /// Reads or writes of a whole `[Double]`, beside a C stream of as much the same way.
    static func bulk(_ bench: Bench, _ point: LoadPoint) -> [Entrant] {
        let client = entrant(
            bench, point, label,
            connecting: { try Bulk(Smalloc($0) as Smalloc, count: point.work.size / 8) }
        ) { (bulk: Bulk, seconds) in
            bulk.clear()
            if point.work.isRead { try bulk.write() } else { try bulk.wipe() }
            let sample = try timed(seconds, perJob: Double(point.work.size) / 1e6) {
                if point.work.isRead { try bulk.read() } else { try bulk.write() }
            }
            // Not within the time: to compare takes a tenth of it.
            if !point.work.isRead { try bulk.read() }
            guard bulk.isRight else { throw wrongData }
            return sample
        }
        return [Yardsticks.stream(bench, size: point.work.size, toServer: !point.work.isRead)]
            + client
    }

    /// Arrays that are there already: fresh pages cost more than what is measured.
    private final class Bulk {
        private let allocation: Allocation
        private let expected: [Double]
        private var numbers: [Double]

        init(_ client: Smalloc, count: Int) throws {
            allocation = try client.alloc(count, .double)
            expected = (0..<count).map { Double($0) }
            numbers = [Double](repeating: 0, count: count)
        }

        func clear() {
            _ = numbers.withUnsafeMutableBytes { bytes in
                bytes.initializeMemory(as: UInt8.self, repeating: 0)
            }
        }

        func read() throws {
            numbers[numbers.count - 1] = -1
            try allocation.read(into: &numbers)
        }

        func write() throws { try allocation.write(expected) }

        /// Zeros in the daemon, so that what is found there afterwards was written since.
        func wipe() throws { try allocation.fill(0) }

        var isRight: Bool { numbers == expected }
    }

    /// 64-byte reads of so many tasks on one connection of the async client: one at a time each, on
    /// the client's executor and on the runtime's own threads, and by batches.
    static func tasks(_ bench: Bench, _ point: LoadPoint) -> [Entrant] {
        [Suspensions.entrant(tasks: point.depth)]
            + tasks(bench, point, label, onExecutor: true, readOneByOne)
            + tasks(bench, point, plainLabel, onExecutor: false, readOneByOne)
            + tasks(bench, point, batchLabel, onExecutor: true, readByBatches)
    }

    private static let pattern: [Double] = [1, 2, 3, 4, 5, 6, 7, 8]

    /// Reads until the time is over.
    ///
    /// - Returns: How often.
    private static func readOneByOne(
        _ client: AsyncSmalloc, _ end: UInt64
    ) async throws -> Int {
        let allocation = try await client.alloc(8, .double)
        try await allocation.write(pattern)
        let expected = pattern
        var jobs = 0
        // A look at the clock costs a twentieth of a read.
        while jobs & 15 != 0 || clockNanoseconds() < end {
            let numbers = try await allocation.read(Double.self)
            guard numbers == expected else { throw wrongData }
            jobs += 1
        }
        return jobs
    }

    private static func readByBatches(
        _ client: AsyncSmalloc, _ end: UInt64
    ) async throws -> Int {
        let allocation = try await client.alloc(8, .double)
        try await allocation.write(pattern)
        let expected = pattern
        var numbers = expected
        var tickets: [AsyncSmalloc.Batch.Ticket] = []
        var jobs = 0
        while clockNanoseconds() < end {
            tickets.removeAll(keepingCapacity: true)
            let replies = try await client.batch { batch in
                for _ in 0..<batchCount { tickets.append(batch.read(8, of: allocation)) }
            }
            for ticket in tickets {
                numbers[7] = 0
                try replies.read(ticket, into: &numbers)
                guard numbers == expected else { throw wrongData }
            }
            jobs += batchCount
        }
        return jobs
    }

    private static func tasks(
        _ bench: Bench, _ point: LoadPoint, _ label: String, onExecutor: Bool,
        _ read: @escaping @Sendable (AsyncSmalloc, UInt64) async throws -> Int
    ) -> [Entrant] {
        let count = point.depth
        return entrant(
            bench, point, label,
            connecting: { address in try waiting { try await AsyncSmalloc(address) } }
        ) { (client: AsyncSmalloc, seconds) in
            let start = clockNanoseconds()
            let end = start + UInt64(seconds * 1e9)
            let jobs = try waiting(on: onExecutor ? client.executor : nil) {
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for _ in 0..<count { group.addTask { try await read(client, end) } }
                    return try await group.reduce(0, +)
                }
            }
            let elapsed = Double(clockNanoseconds() - start) / 1e9
            return Sample(figure: Double(jobs) / elapsed)
        }
    }

    /// Runs a task, and blocks until it is over.
    private static func waiting<Result: Sendable>(
        on executor: (any TaskExecutor)? = nil,
        _ body: @escaping @Sendable () async throws -> Result
    ) throws -> Result {
        let outcome = Mutex<Swift.Result<Result, any Error>?>(nil)
        let done = DispatchSemaphore(value: 0)
        Task(executorPreference: executor) {
            do {
                let result = try await body()
                outcome.withLock { $0 = .success(result) }
            } catch { outcome.withLock { $0 = .failure(error) } }
            done.signal()
        }
        done.wait()
        guard let result = outcome.withLock({ $0 }) else { throw BenchError.closed }
        return try result.get()
    }

    private static func blocking(
        _ bench: Bench, _ point: LoadPoint, _ body: @escaping (Smalloc, Double) throws -> Sample
    ) -> [Entrant] {
        entrant(
            bench, point, label, connecting: { try Smalloc($0) as Smalloc }, body)
    }

    /// A client with a daemon of its own; none if no daemon is to be measured.
    private static func entrant<Client>(
        _ bench: Bench, _ point: LoadPoint, _ label: String,
        connecting: (String) throws -> Client,
        _ body: @escaping (Client, Double) throws -> Sample
    ) -> [Entrant] {
        guard let contestant = bench.contestants.first(where: \.isMeasured) else { return [] }
        let placement = Placement(available: bench.processors, serverCount: 1)
        bench.pinLoad(placement)
        var entrants: [Entrant] = []
        bench.attempt(point.name, label) {
            let server = try bench.start(contestant, on: placement)
            guard case .unix(let path) = server.address else { return }
            let client = try connecting("unix:\(path)")
            _ = try body(client, 0.2)
            entrants.append(
                Entrant(label: label) { seconds in
                    try withExtendedLifetime(server) {
                        let before = server.processorNanoseconds()
                        var sample = try body(client, seconds)
                        sample.resident = server.residentSizes().now
                        if point.work.unit == .operations {
                            sample.processor =
                                (server.processorNanoseconds() - before)
                                / max(1, sample.figure * seconds)
                        }
                        return sample
                    }
                })
        }
        return entrants
    }

    private static var wrongData: BenchError { .setup("the client has other numbers") }

    /// Repeats `body` for so long.
    private static func timed(
        _ seconds: Double, perJob: Double, _ body: () throws -> Void
    ) rethrows -> Sample {
        var times = Histogram()
        let start = clockNanoseconds()
        let end = start + UInt64(seconds * 1e9)
        var now = start
        var jobs = 0
        while now < end {
            try body()
            let then = now
            now = clockNanoseconds()
            times.record(now - then)
            jobs += 1
        }
        return Sample(
            figure: Double(jobs) * perJob / (Double(now - start) / 1e9),
            p50: times.percentile(0.5) / 1000, p99: times.percentile(0.99) / 1000)
    }
}
