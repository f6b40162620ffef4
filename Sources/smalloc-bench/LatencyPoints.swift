import CBench
import Glibc
import Synchronization

/// How long small reads take while another client makes the server move gigabytes.
enum LatencyPoints {
    enum Disturbance: String, CaseIterable {
        /// Nobody else: what the others are compared with.
        case idle
        /// Copies of 1 GiB inside the server, one after another.
        case copy
        /// Filled allocations of 1 GiB are disposed of, one every 100 ms.
        case dispose
        /// 10 GB are read in requests of 64 MiB.
        case stream
    }

    private static let large = 1 << 30
    private static let chunk = 64 << 20

    /// p50 and p99 of 64-byte reads, one at a time, on one connection; the figure is the p99.
    static func measure(_ bench: Bench, _ disturbance: Disturbance) {
        let name = "latency/\(disturbance.rawValue)"
        let placement = Placement(available: bench.processors, serverCount: 1)
        for contestant in bench.contestants where contestant.hasNames {
            // Peers copy and free in their own time too, but none holds a value of 1 GiB.
            let isOwn = contestant.kind == .smallocd
            guard isOwn || disturbance == .idle || disturbance == .stream else { continue }
            bench.attempt(name, contestant) {
                let server = try bench.start(contestant, on: placement)
                var samples: [Sample] = []
                for _ in 0..<bench.rounds {
                    samples.append(
                        try round(bench, contestant, server, placement, disturbance))
                }
                bench.add(
                    Series(
                        point: name, server: contestant.label, unit: .microseconds,
                        samples: samples))
            }
        }
        placement.pinLoad()
    }

    private static func round(
        _ bench: Bench, _ contestant: Contestant, _ server: ServerProcess, _ placement: Placement,
        _ disturbance: Disturbance
    ) throws -> Sample {
        let dialect = contestant.dialect
        let other = try Disturber(
            try contestant.connect(to: server), disturbance, quick: bench.isQuick, bench.pattern)
        let wire = try contestant.connect(to: server)
        let small = Target(number: 1)
        try wire.exchange(bench.pattern) { dialect.createFilled(small, size: 64, &$0) }
        let target = try wire.open([small])[0]
        var builder = BatchBuilder(bench.pattern)
        dialect.read(target, content: target.content(64), &builder)
        let arena = Arena()
        let batch = builder.finish(jobs: 1, in: arena)
        let load = try Load([wire], batches: [[batch]], arena: arena, waiting: .blocking)
        _ = try load.run(seconds: 0.2)
        // The other client may run on this processor: the reader must not wait for it, only for
        // the server.
        placement.pinLoad()
        other.start()
        _ = cbench_set_realtime(1)
        defer { _ = cbench_set_realtime(0) }
        let outcome = try load.run(seconds: max(bench.seconds, 1))
        _ = cbench_set_realtime(0)
        try other.finish()
        let cleanup = try contestant.connect(to: server)
        try cleanup.exchange(bench.pattern) { dialect.dispose(small, &$0) }
        return Sample(
            figure: outcome.p99 / 1000, p50: outcome.p50 / 1000, p99: outcome.p99 / 1000)
    }

    /// The other client, on a thread of its own.
    private final class Disturber: @unchecked Sendable {
        private let wire: Wire
        private let disturbance: Disturbance
        private let pattern: Pattern
        private let stopped = Atomic<Bool>(false)
        private let copies = (Target(number: 2), Target(number: 3))
        private var heap: [Target] = []
        private var thread = pthread_t()
        private var failure: (any Error)?

        /// Makes what it needs, which is not measured.
        init(_ wire: Wire, _ disturbance: Disturbance, quick: Bool, _ pattern: Pattern) throws {
            self.wire = wire
            self.disturbance = disturbance
            self.pattern = pattern
            let dialect = wire.dialect
            switch disturbance {
            case .idle: break
            case .copy:
                for target in [copies.0, copies.1] { try makeLarge(target) }
            case .dispose:
                heap = (0..<(quick ? 3 : 8)).map { Target(number: 10 + $0) }
                for target in heap { try makeLarge(target) }
            case .stream:
                try wire.exchange(pattern) {
                    dialect.createFilled(copies.0, size: chunk, &$0)
                }
            }
        }

        private func makeLarge(_ target: Target) throws {
            guard let smalloc = wire.dialect as? SmallocDialect else { return }
            try wire.exchange(pattern) {
                smalloc.create(target, size: large, &$0)
                smalloc.fill(target, size: large, &$0)
            }
        }

        func start() {
            let box = Unmanaged.passUnretained(self).toOpaque()
            pthread_create(&thread, nil, disturberMain, box)
        }

        /// Stops, and disposes of what is left.
        func finish() throws {
            stopped.store(true, ordering: .relaxed)
            pthread_join(thread, nil)
            if let failure { throw failure }
            let dialect = wire.dialect
            let left =
                switch disturbance {
                case .idle: [Target]()
                case .copy: [copies.0, copies.1]
                case .dispose: heap
                case .stream: [copies.0]
                }
            for target in left { try wire.exchange(pattern) { dialect.dispose(target, &$0) } }
        }

        fileprivate func run() {
            do {
                while !stopped.load(ordering: .relaxed), try step() {}
            } catch { failure = error }
        }

        /// False once there is nothing more to do.
        private func step() throws -> Bool {
            let dialect = wire.dialect
            switch disturbance {
            case .idle:
                return false
            case .copy:
                try wire.exchange(pattern) {
                    _ = dialect.copy(copies.0, to: copies.1, size: large, &$0)
                }
            case .dispose:
                guard let target = heap.popLast() else { return false }
                try wire.exchange(pattern) { dialect.dispose(target, &$0) }
                usleep(100_000)
            case .stream:
                try wire.exchange(pattern) {
                    dialect.read(copies.0, content: copies.0.content(chunk), &$0)
                }
            }
            return true
        }
    }

    fileprivate static func disturb(_ box: UnsafeMutableRawPointer?) {
        guard let box else { return }
        Unmanaged<Disturber>.fromOpaque(box).takeUnretainedValue().run()
    }
}

/// The thread's entry, a plain function as C wants it.
private func disturberMain(_ box: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    LatencyPoints.disturb(box)
    return nil
}
