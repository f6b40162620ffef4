import Dispatch
import Glibc
import Smalloc
import Synchronization

/// What the Swift client makes of the daemon.
///
/// Each is measured in turn with its yardstick, on the same processors.
enum ClientPoints {
    static let label = "Swift client"
    /// Tasks that say nothing of where they run.
    static let plainLabel = "Swift client, plain tasks"

    /// The synchronous client at 64-byte reads or writes, one at a time, beside a C ping-pong.
    static func roundTrip(_ bench: Bench, _ point: LoadPoint) {
        guard bench.contestants.contains(where: { $0.kind == .smallocd }) else {
            Yardsticks.pingPong(bench, point, rounds: bench.rounds)
            return
        }
        measure(
            bench, point.name, .operations,
            before: { bench in
                Yardsticks.pingPongSample(bench, point).map { ("C ping-pong", $0) }
            }
        ) { client, seconds in
            let allocation = try client.alloc(64)
            let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 8)
            defer { bytes.deallocate() }
            for index in 0..<64 { bytes[index] = UInt8(index) }
            try allocation.write(UnsafeRawBufferPointer(bytes))
            let isRead = if case .read = point.work { true } else { false }
            return try timed(seconds, perJob: 1) {
                if isRead {
                    bytes[63] = 0
                    try allocation.read(into: bytes)
                    guard bytes[63] == 63 else {
                        throw BenchError.setup("the client read another byte")
                    }
                } else {
                    try allocation.write(UnsafeRawBufferPointer(bytes))
                }
            }
        }
    }

    /// Reads or writes of a whole `[Double]` of 64 MiB, beside a C stream of as much the same way.
    static func bulk(_ bench: Bench, _ point: LoadPoint) {
        let isRead = if case .read = point.work { true } else { false }
        measure(
            bench, point.name, .megabytes,
            before: { bench in
                (
                    Yardsticks.streamLabel,
                    Yardsticks.streamSample(bench, size: point.work.size, toServer: !isRead)
                )
            }
        ) { client, seconds in
            let count = point.work.size / 8
            let allocation = try client.alloc(count, .double)
            var numbers = (0..<count).map(Double.init)
            try allocation.write(numbers)
            let sample = try timed(seconds, perJob: Double(point.work.size) / 1e6) {
                if isRead {
                    numbers[count - 1] = -1
                    try allocation.read(into: &numbers)
                    guard numbers[count - 1] == Double(count - 1), numbers[1] == 1 else {
                        throw BenchError.setup("the client read other numbers")
                    }
                } else {
                    try allocation.write(numbers)
                }
            }
            guard try allocation.read(Double.self, from: count - 1) == [Double(count - 1)] else {
                throw BenchError.setup("the daemon holds other numbers")
            }
            return sample
        }
    }

    /// Tasks that ask so many requests at a time, by a batch.
    static let batchLabel = "Swift client, batches of \(batchCount)"
    private static let batchCount = 16

    /// 64-byte reads of so many tasks on one connection of the async client: one at a time each, on
    /// the client's executor and on the runtime's own threads, and by batches.
    static func tasks(_ bench: Bench, _ point: LoadPoint) {
        tasks(bench, point, label, onExecutor: true, readOneByOne)
        tasks(bench, point, plainLabel, onExecutor: false, readOneByOne)
        tasks(bench, point, batchLabel, onExecutor: true, readByBatches)
    }

    /// Reads until the time is over.
    ///
    /// - Returns: How often.
    private static func readOneByOne(
        _ client: AsyncSmalloc, _ end: UInt64
    ) async throws -> Int {
        let allocation = try await client.alloc(8, .double)
        var jobs = 0
        // A look at the clock costs a twentieth of a read.
        while jobs & 15 != 0 || clockNanoseconds() < end {
            let numbers = try await allocation.read(Double.self)
            guard numbers == [0, 0, 0, 0, 0, 0, 0, 0] else {
                throw BenchError.setup("the client read other numbers")
            }
            jobs += 1
        }
        return jobs
    }

    private static func readByBatches(
        _ client: AsyncSmalloc, _ end: UInt64
    ) async throws -> Int {
        let allocation = try await client.alloc(8, .double)
        let expected: [Double] = [1, 2, 3, 4, 5, 6, 7, 8]
        try await allocation.write(expected)
        var numbers = expected
        var tickets: [AsyncBatch.Ticket] = []
        var jobs = 0
        while clockNanoseconds() < end {
            tickets.removeAll(keepingCapacity: true)
            let replies = try await client.batch { batch in
                for _ in 0..<batchCount { tickets.append(batch.read(8, of: allocation)) }
            }
            for ticket in tickets {
                numbers[7] = 0
                try replies.read(ticket, into: &numbers)
                guard numbers == expected else {
                    throw BenchError.setup("the client read other numbers")
                }
            }
            jobs += batchCount
        }
        return jobs
    }

    private static func tasks(
        _ bench: Bench, _ point: LoadPoint, _ label: String, onExecutor: Bool,
        _ read: @escaping @Sendable (AsyncSmalloc, UInt64) async throws -> Int
    ) {
        measure(
            bench, point.name, .operations, label: label,
            before: { bench in
                guard label == Self.label else { return nil }
                return (
                    Suspensions.label,
                    Suspensions.sample(tasks: point.depth, seconds: bench.seconds)
                )
            },
            connecting: { address in
                let result = Mutex<Result<AsyncSmalloc, any Error>?>(nil)
                let done = DispatchSemaphore(value: 0)
                Task {
                    do {
                        let client = try await AsyncSmalloc(address)
                        result.withLock { $0 = .success(client) }
                    } catch { result.withLock { $0 = .failure(error) } }
                    done.signal()
                }
                done.wait()
                guard let client = try result.withLock({ $0 })?.get() else {
                    throw BenchError.closed
                }
                return client
            }
        ) { (client: AsyncSmalloc, seconds) in
            let outcome = Mutex<Result<Int, any Error>?>(nil)
            let done = DispatchSemaphore(value: 0)
            let start = clockNanoseconds()
            let end = start + UInt64(seconds * 1e9)
            let count = point.depth
            Task(executorPreference: onExecutor ? client.executor : nil) {
                do {
                    let jobs = try await withThrowingTaskGroup(of: Int.self) { group in
                        for _ in 0..<count {
                            group.addTask { try await read(client, end) }
                        }
                        return try await group.reduce(0, +)
                    }
                    outcome.withLock { $0 = .success(jobs) }
                } catch { outcome.withLock { $0 = .failure(error) } }
                done.signal()
            }
            done.wait()
            let elapsed = Double(clockNanoseconds() - start) / 1e9
            guard let jobs = try outcome.withLock({ $0 })?.get() else { throw BenchError.closed }
            return Sample(figure: Double(jobs) / elapsed)
        }
    }

    private static func measure(
        _ bench: Bench, _ name: String, _ unit: Unit,
        before: (Bench) -> (String, Sample)? = { _ in nil },
        _ body: (Smalloc, Double) throws -> Sample
    ) {
        measure(
            bench, name, unit, before: before,
            connecting: { try Smalloc($0) as Smalloc }, body)
    }

    private static func measure<Client>(
        _ bench: Bench, _ name: String, _ unit: Unit, label: String = label,
        before: (Bench) -> (String, Sample)? = { _ in nil },
        connecting: (String) throws -> Client, _ body: (Client, Double) throws -> Sample
    ) {
        guard let contestant = bench.contestants.first(where: { $0.kind == .smallocd }) else {
            return
        }
        let placement = Placement(available: bench.processors, serverCount: 1)
        placement.pinLoad()
        bench.attempt(name, contestant) {
            let server = try bench.start(contestant, on: placement)
            guard case .unix(let path) = server.address else { return }
            let client = try connecting("unix:\(path)")
            _ = try body(client, 0.2)
            var yardsticks: [Sample] = []
            var yardstick = ""
            var samples: [Sample] = []
            for _ in 0..<bench.rounds {
                if let (label, sample) = before(bench) {
                    yardstick = label
                    yardsticks.append(sample)
                }
                samples.append(try body(client, bench.seconds))
            }
            if !yardsticks.isEmpty {
                bench.add(
                    Series(point: name, server: yardstick, unit: unit, samples: yardsticks))
            }
            bench.add(Series(point: name, server: label, unit: unit, samples: samples))
        }
    }

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
