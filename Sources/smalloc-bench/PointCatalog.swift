/// All points that can be measured, in the order in which they are.
enum PointCatalog {
    /// A point by its name, and what measures it.
    struct Entry {
        let name: String
        /// Whether `--quick` measures it.
        var isQuick = false
        let measure: (Bench) -> Void
    }

    /// - Parameters:
    ///   - quick: leaves out what a short run leaves out.
    ///   - calibrate: sets the load generator against servers that only answer, too.
    static func entries(quick: Bool, calibrate: Bool) -> [Entry] {
        let all =
            small(calibrate: calibrate) + large() + allocations() + copies() + tcp() + loops()
            + client() + memory() + scale() + latency() + streams()
        return quick ? all.filter(\.isQuick) : all
    }

    private static func load(
        _ point: LoadPoint, quick: Bool = false, besides yardsticks: [Contestant] = [],
        then: @escaping (Bench) -> Void = { _ in }
    ) -> Entry {
        Entry(name: point.name, isQuick: quick) { bench in
            bench.run(point, besides: yardsticks)
            then(bench)
        }
    }

    private static let shapes = [(1, 1), (50, 1), (50, 16)]

    private static func small(calibrate: Bool) -> [Entry] {
        let yardsticks: [Contestant] = calibrate ? [.raw, .rawRESP, .rawMemcached] : [.raw]
        var entries: [Entry] = []
        for (lanes, depth) in shapes {
            entries.append(
                load(
                    LoadPoint(
                        name: "ping/\(lanes)x\(depth)", work: .ping, lanes: lanes, depth: depth),
                    quick: depth > 1, besides: yardsticks))
        }
        for size in [64, 4 << 10, 64 << 10] {
            for (verb, work) in [("read", Work.read(size)), ("write", Work.write(size))] {
                for (lanes, depth) in shapes {
                    let point = LoadPoint(
                        name: "\(verb)/\(sizeName(size))/\(lanes)x\(depth)", work: work,
                        lanes: lanes, depth: depth)
                    let quick = size == 64 || size == 4 << 10 && depth > 1
                    entries.append(
                        load(point, quick: quick, besides: yardsticks) { bench in
                            if size == 64 && lanes == 1 { ClientPoints.roundTrip(bench, point) }
                        })
                }
            }
        }
        return entries
    }

    private static func large() -> [Entry] {
        var entries: [Entry] = []
        for size in [1 << 20, 64 << 20] {
            for (verb, work) in [("read", Work.read(size)), ("write", Work.write(size))] {
                for lanes in [1, 4] {
                    let point = LoadPoint(
                        name: "\(verb)/\(sizeName(size))/\(lanes)x1", work: work, lanes: lanes)
                    entries.append(
                        load(point, quick: lanes == 1, besides: [.raw]) { bench in
                            if size == 64 << 20 && lanes == 1 { ClientPoints.bulk(bench, point) }
                        })
                }
            }
        }
        return entries
    }

    private static func allocations() -> [Entry] {
        var entries = shapes.map { lanes, depth in
            load(
                LoadPoint(
                    name: "alloc/64B/\(lanes)x\(depth)", work: .allocDispose(64), lanes: lanes,
                    depth: depth), quick: depth > 1)
        }
        for size in [1 << 20, 64 << 20] {
            entries.append(
                load(
                    LoadPoint(name: "alloc/\(sizeName(size))/1x1", work: .allocDispose(size)),
                    quick: true))
            entries.append(
                load(
                    LoadPoint(
                        name: "allocwrite/\(sizeName(size))/1x1", work: .allocWriteDispose(size)),
                    quick: true))
        }
        return entries
    }

    private static func copies() -> [Entry] {
        [(64 << 10, 1), (64 << 10, 16), (1 << 20, 1), (1 << 20, 16), (64 << 20, 1), (1 << 30, 1)]
            .map { size, depth in
                let point = LoadPoint(
                    name: "copy/\(sizeName(size))/1x\(depth)", work: .copy(size), depth: depth)
                let quick = size == 1 << 20 && depth == 16 || size == 64 << 20
                return load(point, quick: quick) { Yardsticks.memmove($0, point) }
            }
    }

    private static func tcp() -> [Entry] {
        var entries = shapes.map { lanes, depth in
            load(
                LoadPoint(
                    name: "tcp/read/64B/\(lanes)x\(depth)", work: .read(64), lanes: lanes,
                    depth: depth, tcp: true), quick: depth > 1)
        }
        entries.append(
            load(
                LoadPoint(
                    name: "tcp/write/64B/50x16", work: .write(64), lanes: 50, depth: 16, tcp: true))
        )
        for size in [1 << 20, 64 << 20] {
            entries.append(
                load(
                    LoadPoint(
                        name: "tcp/read/\(sizeName(size))/1x1", work: .read(size), tcp: true)))
            entries.append(
                load(
                    LoadPoint(
                        name: "tcp/write/\(sizeName(size))/1x1", work: .write(size), tcp: true)))
        }
        return entries
    }

    private static func loops() -> [Entry] {
        [1, 2, 3].flatMap { threads in
            [("read", Work.read(64)), ("write", Work.write(64))].map { verb, work in
                load(
                    LoadPoint(
                        name: "loops/\(threads)/\(verb)/64B/50x16", work: work, lanes: 50,
                        depth: 16, threads: threads))
            }
        }
    }

    private static func scale() -> [Entry] {
        [10_000, 1_000_000, 10_000_000].flatMap { count in
            [("read", Work.read(64)), ("alloc", Work.allocDispose(64))].map { verb, work in
                var point = LoadPoint(
                    name: "scale/\(count)/\(verb)/64B/50x16", work: work, lanes: 50, depth: 16,
                    preload: count, variants: verb == "read" ? 64 : 1)
                guard count > 10_000 else { return load(point) }
                let many = point
                point.preload = 10_000
                let few = point
                return Entry(name: many.name) { $0.run(many, and: (few, fewLabel)) }
            }
        }
    }

    /// smallocd with 10,000 allocations, in the rounds of one with more.
    static let fewLabel = "smallocd, 10 thousand"

    /// The load generator with as many requests in flight as the tasks have, but by 16 on each of
    /// 50 connections: its figure wherever the bench says pipelined.
    static let pipelinedLabel = "smallocd, 50x16"

    private static func memory() -> [Entry] {
        [
            Entry(name: "memory/allocation", isQuick: true, measure: MemoryPoints.allocation),
            Entry(name: "memory/connection/5000", isQuick: true) {
                MemoryPoints.connection($0, count: 5000)
            },
            Entry(name: "memory/connection/10000") { MemoryPoints.connection($0, count: 10_000) },
            Entry(name: "memory/peak/write", measure: MemoryPoints.peakWrite),
            Entry(name: "memory/peak/read", measure: MemoryPoints.peakRead),
        ]
    }

    private static func latency() -> [Entry] {
        LatencyPoints.Disturbance.allCases.map { disturbance in
            Entry(name: "latency/\(disturbance.rawValue)", isQuick: true) {
                LatencyPoints.measure($0, disturbance)
            }
        }
    }

    private static func client() -> [Entry] {
        let point = LoadPoint(name: "client/async/1x1000", work: .read(64), depth: 1000)
        var pipelined = point
        (pipelined.lanes, pipelined.depth) = (50, 16)
        return [
            Entry(name: point.name, isQuick: true) { bench in
                bench.run(point, only: .smallocd, and: (pipelined, pipelinedLabel))
                ClientPoints.tasks(bench, point)
            }
        ]
    }

    private static func streams() -> [Entry] {
        [64 << 10, 1 << 20, 64 << 20].map { size in
            Entry(name: "raw/stream/\(sizeName(size))", isQuick: size == 1 << 20) {
                Yardsticks.stream($0, size: size)
            }
        }
    }
}
