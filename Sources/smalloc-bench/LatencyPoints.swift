// How long small reads take while another client makes the server move much.

import CBench
import Glibc

/// Small reads beside another client's large ones, and without it, in alternating rounds.
enum LatencyPoints {
    /// For the p99 of due reads one is due so often, in nanoseconds: one that is answered late
    /// held up those after it, and a standstill counts for as many as it would have hit.
    private static let interval: UInt64 = 100_000

    static func idleLabel(_ server: String) -> String { "\(server), idle" }

    /// Bytes of a small read beside so much else.
    static func size(beside disturbance: Disturber.Kind) -> Int {
        disturbance == .values ? 1 << 10 : 64
    }

    /// p50 and p99 of small reads on one connection; the figure is the p99, beside `values` the
    /// p99.9.
    static func measure(_ bench: Bench, _ disturbance: Disturber.Kind) {
        let name = "latency/\(disturbance.rawValue)"
        let placement = Placement(available: bench.processors, serverCount: 1)
        var entrants: [Entrant] = []
        for contestant in bench.contestants where contestant.hasNames {
            // Peers copy and free in their own time too, but none holds a value of 1 GiB.
            guard contestant.kind == .smallocd || disturbance == .stream || disturbance == .values
            else { continue }
            bench.attempt(name, contestant.label) {
                let reader = try Reader(
                    bench, contestant, placement, size: size(beside: disturbance))
                entrants.append(
                    Entrant(label: contestant.label, note: reader.note) {
                        try reader.run(
                            seconds: $0, beside: disturbance,
                            isOfThousand: disturbance == .values)
                    })
                entrants.append(
                    Entrant(label: idleLabel(contestant.label), note: reader.note) {
                        try reader.run(
                            seconds: $0, beside: nil, isOfThousand: disturbance == .values)
                    })
            }
        }
        bench.compete(name, .microseconds, entrants)
    }

    /// Somebody who reads a few bytes again and again.
    private final class Reader {
        let note: String
        private let bench: Bench
        private let contestant: Contestant
        private let server: ServerProcess
        private let placement: Placement
        private let load: Load

        init(
            _ bench: Bench, _ contestant: Contestant, _ placement: Placement, size: Int
        ) throws {
            self.bench = bench
            self.contestant = contestant
            self.placement = placement
            let dialect = contestant.dialect
            server = try bench.start(contestant, on: placement)
            let wire = try contestant.connect(to: server)
            let small = Target(number: 1)
            try wire.exchange(bench.pattern) { dialect.createFilled(small, size: size, &$0) }
            let target = try wire.open([small])[0]
            var builder = BatchBuilder(bench.pattern)
            dialect.read(target, content: target.content(size), &builder)
            let arena = Arena()
            let batch = builder.finish(jobs: 1, in: arena)
            load = try Load([wire], batches: [[batch]], arena: arena, waiting: .blocking)
            load.interval = interval
            _ = try load.run(seconds: 0.2)
            note = cbench_set_realtime(1) == 0 ? "" : "no real-time priority for the reader"
            _ = cbench_set_realtime(0)
        }

        func run(
            seconds: Double, beside disturbance: Disturber.Kind?, isOfThousand: Bool
        ) throws -> Sample {
            // What the last round disposed of is still being wiped.
            server.waitUntilIdle()
            let other = try disturbance.map {
                try Disturber(
                    try contestant.connect(to: server), $0, quick: bench.isQuick, bench.pattern)
            }
            // The other client may run on this processor: the reader must not wait for it, only
            // for the server.
            bench.pinLoad(placement)
            try other?.start()
            defer { other?.stop() }
            // No longer, and no shorter, than the disturbance lasts.
            let hasEnd = other?.hasEnd ?? false
            load.goesOn = { hasEnd && other?.isDone == false }
            defer { load.goesOn = { false } }
            _ = cbench_set_realtime(1)
            defer { _ = cbench_set_realtime(0) }
            let outcome = try load.run(seconds: hasEnd ? 0 : max(seconds, 1))
            _ = cbench_set_realtime(0)
            other?.stop()
            try other?.cleanUp()
            return Sample(
                figure: (isOfThousand ? outcome.p999 : outcome.p99) / 1000, p50: outcome.p50 / 1000,
                p99: outcome.p99 / 1000,
                p99OfDue: outcome.p99OfDue.map { $0 / 1000 },
                resident: server.residentSizes().now)
        }
    }
}
