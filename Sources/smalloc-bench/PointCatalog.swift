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
    ///   - builds: adds points that are there to compare two builds of the daemon by.
    static func entries(quick: Bool, calibrate: Bool, builds: Bool) -> [Entry] {
        let all =
            small(calibrate: calibrate) + large() + allocations() + copies() + tcp() + loops()
            + client() + memory() + scale() + latency() + (builds ? ownPoints() : [])
        return quick ? all.filter(\.isQuick) : all
    }

    private static func load(
        _ point: LoadPoint, quick: Bool = false, besides yardsticks: [Contestant] = [],
        with further: @escaping (Bench) -> [Entrant] = { _ in [] }
    ) -> Entry {
        Entry(name: point.name, isQuick: quick) {
            $0.run(point, besides: yardsticks, with: further)
        }
    }

    private static let shapes = [(1, 1), (50, 1), (50, 16)]

    private static func small(calibrate: Bool) -> [Entry] {
        let all: [Contestant] = calibrate ? [.raw, .rawRESP, .rawMemcached] : [.raw]
        var entries: [Entry] = []
        /// One at a time, it counts who sleeps while nothing is there.
        func yardsticks(_ lanes: Int) -> [Contestant] { lanes == 1 ? all + [.sleeping] : all }
        for (lanes, depth) in shapes {
            entries.append(
                load(
                    LoadPoint(
                        name: "ping/\(lanes)x\(depth)", work: .ping, lanes: lanes, depth: depth),
                    quick: depth > 1, besides: yardsticks(lanes)))
        }
        for size in [64, 4 << 10, 64 << 10] {
            for (verb, work) in [("read", Work.read(size)), ("write", Work.write(size))] {
                for (lanes, depth) in shapes {
                    let point = LoadPoint(
                        name: "\(verb)/\(sizeName(size))/\(lanes)x\(depth)", work: work,
                        lanes: lanes, depth: depth)
                    let quick = size == 64 || size == 4 << 10 && depth > 1
                    entries.append(
                        load(point, quick: quick, besides: yardsticks(lanes)) { bench in
                            size == 64 && lanes == 1 ? ClientPoints.roundTrip(bench, point) : []
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
                        load(
                            point, quick: lanes == 1,
                            besides: [.raw]
                        ) { bench in
                            guard lanes == 1 else { return [] }
                            return ClientPoints.bulk(bench, point)
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

    /// Points of smallocd's own.
    private static func ownPoints() -> [Entry] {
        var points = [LoadPoint(name: "ping/1x16", work: .ping, depth: 16)]
        for size in [64, 4 << 10, 64 << 10] {
            for (verb, work) in [("read", Work.read(size)), ("write", Work.write(size))] {
                let name = "\(verb)/\(sizeName(size))"
                points.append(LoadPoint(name: "\(name)/1x16", work: work, depth: 16))
                for (lanes, depth) in [(1, 1), (1, 16), (50, 16)] {
                    points.append(
                        LoadPoint(
                            name: "tcp/\(name)/\(lanes)x\(depth)", work: work, lanes: lanes,
                            depth: depth, tcp: true))
                }
            }
        }
        for (size, depth) in [(64, 1), (64, 16), (1 << 20, 1), (64 << 20, 1)] {
            points.append(
                LoadPoint(
                    name: "fill/\(sizeName(size))/1x\(depth)", work: .fill(size), depth: depth))
        }
        for depth in [1, 16] {
            points.append(LoadPoint(name: "copy/64B/1x\(depth)", work: .copy(64), depth: depth))
        }
        let known = Set(tcp().map(\.name))
        return points.filter { !known.contains($0.name) }.map { load($0) }
            + [Entry(name: "memory/idle", measure: MemoryPoints.idle)]
    }

    /// The load sleeps at all of them, so that they can be compared: where it has to share a
    /// processor it can't do otherwise.
    private static func loops() -> [Entry] {
        loopCounts.flatMap { threads in
            [("read", Work.read(64)), ("write", Work.write(64))].map { verb, work in
                load(
                    LoadPoint(
                        name: "loops/\(threads)/\(verb)/64B/50x16", work: work, lanes: 50,
                        depth: 16, threads: threads, sleeps: true))
            }
        }
    }

    /// How many loops are measured.
    static let loopCounts = [1, 2, 3]

    private static func scale() -> [Entry] {
        scaleCounts.flatMap { count in
            [("read", Work.read(64)), ("alloc", Work.allocDispose(64))].map { verb, work in
                var point = LoadPoint(
                    name: "scale/\(count)/\(verb)/64B/50x16", work: work, lanes: 50, depth: 16,
                    preload: count, variants: verb == "read" ? 64 : 1)
                guard count > 10_000 else { return load(point) }
                let many = point
                point.preload = 10_000
                var others = [(point: point, label: fewLabel)]
                if verb == "read" {
                    var spread = many
                    spread.isSpread = true
                    others.append((spread, spreadLabel))
                }
                return Entry(name: many.name) { $0.run(many, and: others) }
            }
        }
    }

    /// How many allocations the servers hold.
    static let scaleCounts = [10_000, 1_000_000, 10_000_000]
    /// smallocd with 10,000 allocations, in the rounds of one with more.
    static let fewLabel = "smallocd, 10 thousand"
    /// smallocd with more, and reads that go to 51,200 of all of them rather than to 10,000.
    static let spreadLabel = "smallocd, any of them"
    /// The load generator with 800 requests in flight, 16 on each of 50 connections: its figure
    /// wherever the bench says pipelined.
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
        Disturber.Kind.allCases.map { kind in
            Entry(name: "latency/\(kind.rawValue)", isQuick: true) {
                LatencyPoints.measure($0, kind)
            }
        }
    }

    private static func client() -> [Entry] {
        let point = LoadPoint(name: "client/async/1x1000", work: .read(64), depth: 1000)
        var pipelined = point
        (pipelined.lanes, pipelined.depth) = (50, 16)
        let others = [(point: pipelined, label: pipelinedLabel)]
        return [
            Entry(name: point.name, isQuick: true) {
                $0.run(point, only: .smallocd, and: others) { ClientPoints.tasks($0, point) }
            }
        ]
    }
}
