import Foundation

/// A server that runs, with the load for one point ready beside it.
final class PreparedLoad {
    let contestant: Contestant
    let server: ServerProcess
    private let point: LoadPoint
    private let pattern: Pattern
    private let load: Load
    private let control: Wire?
    /// What must be found in the server after the runs.
    private var written: [(Target, Pattern.Content)] = []

    /// Starts the server, makes what the point works on, connects, renders every batch.
    ///
    /// - Parameters:
    ///   - wrapper: a program and arguments that run the server, such as a profiler.
    ///   - blocks: the load sleeps in each call, however much it has in flight.
    init(
        _ point: LoadPoint, _ contestant: Contestant, _ placement: Placement,
        programs: Programs, pattern: Pattern, under wrapper: [String] = [], blocks: Bool = false
    ) throws {
        self.point = point
        self.contestant = contestant
        self.pattern = pattern
        let isServer = contestant.isServer
        server = try ServerProcess(
            contestant.kind, tcp: point.tcp, processors: placement.servers
        ) { address in
            isServer
                ? contestant.arguments(address, threads: point.threads, programs: programs)
                    .map { wrapper + $0 }
                : try Self.nullArguments(point, contestant, address, pattern)
        }
        control = isServer ? try contestant.connect(to: server) : nil
        if let control {
            try control.preload(point.preload, size: 64, pattern)
            try Self.make(point, control, pattern, &written)
        }
        let arena = Arena()
        var wires: [Wire] = []
        var batches: [[Batch]] = []
        for lane in 0..<point.lanes {
            let wire = try contestant.connect(to: server)
            var targets = Self.targets(point, contestant, lane: lane)
            if contestant.kind == .smallocd && Self.usesHandles(point) {
                targets = try wire.open(targets)
            }
            batches.append(Self.render(point, contestant, targets, pattern, arena))
            wires.append(wire)
        }
        let waiting: Load.Waiting =
            blocks || point.lanes == 1 && point.depth == 1
            ? .blocking : placement.isShared || point.sleeps ? .sleeping : .polling
        load = try Load(wires, batches: batches, arena: arena, waiting: waiting)
    }

    /// Runs for so long.
    func run(seconds: Double) throws -> Sample {
        let before = server.processorNanoseconds()
        let outcome = try load.run(seconds: seconds)
        let used = server.processorNanoseconds() - before
        return Sample(
            figure: point.work.figure(jobs: outcome.jobs, nanoseconds: outcome.nanoseconds),
            p50: outcome.p50 / 1000, p99: outcome.p99 / 1000,
            processor: used / Double(max(1, outcome.jobs)), resident: server.residentSizes().now,
            idle: load.waiting == .polling ? outcome.idle : nil)
    }

    /// Runs for so many jobs, or a batch more.
    ///
    /// The number of them.
    func run(jobs: Int) throws -> Int { try load.run(jobs: jobs) }

    /// Looks at what the runs wrote, byte for byte.
    func verify() throws {
        guard let control else { return }
        for (target, content) in written {
            try control.exchange(pattern) { control.dialect.read(target, content: content, &$0) }
        }
    }

    private static func usesHandles(_ point: LoadPoint) -> Bool {
        switch point.work {
        case .read, .write, .fill, .copy, .atomic: point.preload == 0
        case .ping, .allocDispose, .allocWriteDispose: false
        }
    }

    /// Makes the allocations that the point works on.
    private static func make(
        _ point: LoadPoint, _ control: Wire, _ pattern: Pattern,
        _ written: inout [(Target, Pattern.Content)]
    ) throws {
        let dialect = control.dialect
        for number in 0..<point.targetCount {
            let target = Target(number: number)
            switch point.work {
            case .ping, .allocDispose, .allocWriteDispose: break
            case .read(let size):
                try control.makeFilled(target, size: size, pattern)
            case .write(let size):
                // Zeros, so that what is found afterwards was written by the runs.
                try control.exchange(pattern) { dialect.create(target, size: size, &$0) }
                written.append((target, target.content(size)))
            case .atomic(let size):
                try control.exchange(pattern) { dialect.create(target, size: size, &$0) }
            case .fill(let size):
                try control.makeFilled(target, size: size, pattern)
            case .copy(let size):
                let source = Target(number: number + point.targetCount)
                try control.makeFilled(source, size: size, pattern)
                try control.exchange(pattern) { dialect.create(target, size: size, &$0) }
                written.append((target, source.content(size)))
            }
        }
    }

    /// What a connection works on, in the order of its requests; of copies the destination and the
    /// source.
    private static func targets(
        _ point: LoadPoint, _ contestant: Contestant, lane: Int
    ) -> [Target] {
        let count = point.depth * point.variants
        if contestant.kind == .null {
            return Array(repeating: Target(number: 0, handle: 1), count: count)
        }
        if case .read = point.work, point.preload > 0 {
            // Of all of them, or as many as the fewest that are compared: then what grows is the
            // number held and nothing else.
            let among = min(point.preload, point.isSpread ? point.preload : 10_000)
            let step = max(1, point.preload / among)
            var random = SplitMix64(seed: UInt64(lane))
            return (0..<count).map { _ in
                Target(number: Int.random(in: 0..<among, using: &random) * step)
            }
        }
        if case .copy = point.work { return [Target(number: 0), Target(number: 1)] }
        let first = lane * count
        return (first..<first + count).map { Target(number: point.preload + $0) }
    }

    private static func render(
        _ point: LoadPoint, _ contestant: Contestant, _ targets: [Target], _ pattern: Pattern,
        _ arena: Arena
    ) -> [Batch] {
        let dialect = contestant.dialect
        var builder = BatchBuilder(pattern)
        var batches: [Batch] = []
        func finish(jobs: Int) {
            batches.append(builder.finish(jobs: jobs, in: arena))
            builder.removeAll()
        }
        for variant in 0..<point.variants {
            for slot in 0..<point.depth {
                let target = targets[(variant * point.depth + slot) % targets.count]
                switch point.work {
                case .ping: dialect.ping(&builder)
                case .read(let size):
                    dialect.read(target, content: target.content(size), &builder)
                case .write(let size): dialect.write(target, size: size, &builder)
                case .fill(let size):
                    (dialect as? SmallocDialect)?.fill(target, size: size, &builder)
                case .atomic: (dialect as? SmallocDialect)?.atomic(target, &builder)
                case .copy(let size):
                    _ = dialect.copy(targets[1], to: targets[0], size: size, &builder)
                case .allocDispose(let size):
                    // Two requests a job: a batch of 16 requests is 8 jobs.
                    if point.depth > 1 && slot % 2 == 1 { continue }
                    dialect.create(target, size: size, &builder)
                    if point.depth == 1 { finish(jobs: 0) }
                    dialect.dispose(target, &builder)
                case .allocWriteDispose(let size):
                    // Peers make and write with one request, smalloc with two that leave together,
                    // for the second needs nothing of the first one's answer.
                    dialect.createFilled(target, size: size, &builder)
                    finish(jobs: 0)
                    dialect.dispose(target, &builder)
                }
            }
            switch point.work {
            case .allocDispose: finish(jobs: max(1, point.depth / 2))
            case .allocWriteDispose: finish(jobs: 1)
            default: finish(jobs: point.depth)
            }
        }
        return batches
    }

    /// How the null server is started for a point: with the size of its requests, and its reply.
    private static func nullArguments(
        _ point: LoadPoint, _ contestant: Contestant, _ address: Address, _ pattern: Pattern
    ) throws -> [String] {
        guard case .unix(let path) = address else {
            throw BenchError.setup("the null server has no TCP")
        }
        var single = point
        single.depth = 1
        single.variants = 1
        let arena = Arena()
        let batch = render(
            single, contestant, [Target(number: 0, handle: 1)], pattern, arena)[0]
        let requestSize = (0..<batch.requestCount).reduce(0) { $0 + batch.request[$1].iov_len }
        let reply = withExtendedLifetime(arena) {
            (0..<batch.replyCount).reduce(into: Data()) { data, index in
                let piece = UnsafeRawBufferPointer(
                    start: batch.reply[index].iov_base, count: batch.reply[index].iov_len)
                data.append(contentsOf: piece)
            }
        }
        let file = path + ".reply"
        try reply.write(to: URL(fileURLWithPath: file))
        return [
            try executablePath(), "null-server", "--path", path, "--request-size",
            "\(requestSize)", "--reply", file,
            "--cookie-offset=\(contestant.dialect.cookieOffset ?? -1)",
        ]
    }
}

/// The path of this program.
func executablePath() throws -> String {
    try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
}

extension Wire {
    /// Makes the first `count` targets, each of `size` bytes with its content.
    func preload(_ count: Int, size: Int, _ pattern: Pattern) throws {
        var builder = BatchBuilder(pattern)
        for start in stride(from: 0, to: count, by: 500) {
            for number in start..<min(start + 500, count) {
                dialect.createFilled(Target(number: number), size: size, &builder)
            }
            let arena = Arena()
            let batch = builder.finish(jobs: 1, in: arena)
            try withExtendedLifetime(arena) { try exchange(batch) }
            builder.removeAll()
        }
    }
}
