// What the daemon has to reach, as the table of the project's aims has it.

/// A figure that the daemon has to reach, and whether it does.
struct Mark: Codable {
    let work: String
    /// What the mark asks for, as text.
    let demand: String
    /// What was measured; nil if it was not.
    let figure: Double?
    /// Nil also for a figure that was measured in another way than the mark asks for.
    let isMet: Bool?
    /// What the reader must know of the figure, or empty.
    let note: String

    private init(
        _ work: String, atLeast bound: Double, _ unit: String, _ figure: Double?, note: String = ""
    ) {
        self.work = work
        demand = "≥ \(Table.number(bound)) \(unit)"
        self.figure = figure
        isMet = note.isEmpty ? figure.map { $0 >= bound } : nil
        self.note = note
    }

    private init(
        _ work: String, atMost bound: Double, _ unit: String, _ figure: Double?, note: String = ""
    ) {
        self.work = work
        demand = "≤ \(Table.number(bound)) \(unit)"
        self.figure = figure
        isMet = note.isEmpty ? figure.map { $0 <= bound } : nil
        self.note = note
    }

    private static let own = "smallocd"
    private static let peers = ["redis", "memcached"]

    /// What the reader must know of the daemon's figures at a point; they are not judged then.
    private static func note(_ results: Results, _ point: String) -> String {
        results[point, own]?.note ?? ""
    }

    /// All marks, in the order of the table that sets them.
    static func all(_ results: Results) -> [Mark] {
        small(results) + large(results) + memory(results) + latencies(results)
    }

    private static func small(_ results: Results) -> [Mark] {
        var marks: [Mark] = []
        func ratio(_ point: String, _ peer: String, _ bound: Double, _ text: String) {
            marks.append(
                Mark(
                    "\(point), \(text)", atLeast: bound, "x",
                    results.advantage(point, own, over: peer)?.median,
                    note: note(results, point)))
        }
        for verb in ["read", "write"] {
            ratio("\(verb)/64B/50x16", "redis", 3, "over Redis")
            ratio("\(verb)/64B/50x16", "memcached", 1.6, "over memcached")
        }
        for verb in ["read", "write"] {
            ratio("loops/2/\(verb)/64B/50x16", "memcached", 1.6, "two loops, two cores")
        }
        for point in ["ping/50x1", "read/64B/50x1", "write/64B/50x1"] {
            marks.append(
                Mark(
                    "\(point), over the better peer", atLeast: 1.1, "x",
                    results.advantage(point, own, overBest: peers)?.median,
                    note: note(results, point)))
            marks.append(
                Mark(
                    "\(point), server CPU per operation against the lowest", atMost: 1, "x",
                    results.share(\.processor, point, own, ofLeast: peers + ["nbdkit"])?.median,
                    note: note(results, point)))
        }
        for verb in ["read", "write"] {
            let point = "\(verb)/64B/1x1"
            let client = ClientPoints.label
            marks.append(
                Mark(
                    "\(point), synchronous Swift client, time against C ping-pong", atMost: 1.1,
                    "x", results.advantage(point, Yardsticks.pingPongLabel, over: client)?.median,
                    note: note(results, point)))
            marks.append(
                Mark(
                    "\(point), bench's client, time against C ping-pong", atMost: 1.1, "x",
                    results.advantage(point, Yardsticks.pingPongLabel, over: own)?.median,
                    note: note(results, point)))
        }
        for verb in ["read", "write"] {
            ratio("\(verb)/4KiB/50x16", "memcached", 1.3, "over memcached")
        }
        return marks
    }

    private static func large(_ results: Results) -> [Mark] {
        var marks: [Mark] = []
        func ratio(_ point: String, _ peers: [String], _ bound: Double, _ text: String) {
            marks.append(
                Mark(
                    "\(point), \(text)", atLeast: bound, "x",
                    results.advantage(point, own, overBest: peers)?.median,
                    note: note(results, point)))
        }
        for size in ["1MiB", "64MiB"] {
            for verb in ["read", "write"] {
                for lanes in [1, 4] {
                    let point = "\(verb)/\(size)/\(lanes)x1"
                    ratio(point, ["memcached"], 1, "over memcached")
                    ratio(point, ["raw C"], 0.9, "of the same exchange in C")
                }
            }
        }
        for verb in ["read", "write"] {
            let point = "\(verb)/64MiB/1x1"
            marks.append(
                Mark(
                    "\(point), [Double] by the Swift client, of a raw stream", atLeast: 0.9, "x",
                    results.advantage(
                        point, ClientPoints.label, over: Yardsticks.streamLabel)?.median,
                    note: note(results, point)))
        }
        for size in ["1MiB", "64MiB"] {
            for verb in ["read", "write"] {
                let point = "\(verb)/\(size)/1x1"
                marks.append(
                    Mark(
                        "\(point), [Double] by the Swift client, over memcached", atLeast: 2, "x",
                        results.advantage(point, ClientPoints.label, over: "memcached")?.median,
                        note: note(results, point)))
            }
        }
        let asks = [
            ("one at a time", ClientPoints.label), ("by batches of 16", ClientPoints.batchLabel),
        ]
        let loads = [("50x16", PointCatalog.pipelinedLabel), ("1x1000", own)]
        let point = "client/async/1x1000"
        for (how, label) in asks {
            for (shape, load) in loads {
                marks.append(
                    Mark(
                        "1,000 tasks on one connection, \(how), of the load generator's \(shape)",
                        atLeast: 0.5, "x",
                        results.advantage(point, label, over: load)?.median,
                        note: note(results, point)))
            }
        }
        for verb in ["read", "write"] {
            for size in ["1MiB", "64MiB"] {
                ratio("\(verb)/\(size)/1x1", [Yardsticks.streamLabel], 0.9, "of a C stream one way")
            }
        }
        for point in ["copy/1MiB/1x1", "copy/1MiB/1x16", "copy/64MiB/1x1", "copy/1GiB/1x1"] {
            ratio(point, ["memmove"], 0.9, "of memmove")
        }
        ratio("alloc/64B/50x16", ["memcached"], 1.3, "over memcached")
        for size in ["1MiB", "64MiB"] {
            ratio("alloc/\(size)/1x1", peers, 2, "over the better peer")
            ratio("allocwrite/\(size)/1x1", peers, 2, "over the better peer")
        }
        return marks
    }

    private static func memory(_ results: Results) -> [Mark] {
        func median(_ point: String) -> Double? { results[point, own]?.statistics?.median }
        return [
            Mark(
                "memory per 64-byte allocation", atMost: 130, "B", median("memory/allocation"),
                note: note(results, "memory/allocation")),
            Mark(
                "resident per idle connection, 5,000", atMost: 590, "B",
                median("memory/connection/5000"), note: note(results, "memory/connection/5000")),
            Mark(
                "resident per idle connection, 10,000", atMost: 590, "B",
                median("memory/connection/10000"), note: note(results, "memory/connection/10000")),
            Mark(
                "peak over the value while 1 GiB moves in", atMost: 8, "MiB",
                median("memory/peak/write"), note: note(results, "memory/peak/write")),
            Mark(
                "peak over the value while 1 GiB moves out", atMost: 8, "MiB",
                median("memory/peak/read"), note: note(results, "memory/peak/read")),
        ]
    }

    private static func latencies(_ results: Results) -> [Mark] {
        var marks: [Mark] = []
        let values = "latency/\(Disturber.Kind.values.rawValue)"
        marks.append(
            Mark(
                "p99.9 of 1 KiB reads, another client reads 10 MiB 10 times a second, of Redis'",
                atMost: 1, "x", results.advantage(values, "redis", over: own)?.median,
                note: note(results, values)))
        for kind in Disturber.Kind.allCases where kind != .values {
            let point = "latency/\(kind.rawValue)"
            let idle = LatencyPoints.idleLabel(own)
            let note = note(results, point)
            marks.append(
                Mark(
                    "p99 of 64 B reads, another client: \(kind.rawValue)", atMost: 3, "x idle",
                    results.advantage(point, idle, over: own)?.median, note: note))
            marks.append(
                Mark(
                    "the same, of reads due every 100 us", atMost: 3, "x idle",
                    results.share(\.p99OfDue, point, own, ofLeast: [idle])?.median, note: note))
        }
        let point = { (verb: String) in "scale/10000000/\(verb)/64B/50x16" }
        let shapes = [
            ("read", own, "the same 10,000 names"), ("read", PointCatalog.spreadLabel, "any names"),
            ("alloc", own, "new names"),
        ]
        for (verb, label, names) in shapes {
            marks.append(
                Mark(
                    "\(verb) 64 B among 10 million, \(names), time against 10 thousand",
                    atMost: 1.3, "x",
                    results.advantage(point(verb), PointCatalog.fewLabel, over: label)?.median,
                    note: note(results, point(verb))))
        }
        return marks
    }

    /// The marks as lines: met, missed or not measured.
    static func text(_ marks: [Mark]) -> String {
        var table = Table(["mark", "asked", "measured", ""])
        for mark in marks {
            let verdict =
                mark.isMet.map { $0 ? "met" : "MISSED" }
                ?? (mark.figure == nil ? "not measured" : "not judged: \(mark.note)")
            table.add([
                mark.work, mark.demand, mark.figure.map { Table.number($0) } ?? "-", verdict,
            ])
        }
        return table.text
    }
}
