import Glibc

/// What things weigh in the servers.
enum MemoryPoints {
    /// Resident bytes for each of a million allocations of 64 bytes with names of ten.
    static func allocation(_ bench: Bench) {
        let count = bench.isQuick ? 200_000 : 1_000_000
        let note = bench.isQuick ? "\(count), not a million" : ""
        measure(bench, "memory/allocation", .bytes, note: note) { server, wire in
            let before = settled(server)
            try wire.preload(count, size: 64, bench.pattern)
            return (settled(server) - before) / Double(count)
        }
    }

    /// Resident memory of a daemon that has served one client.
    static func idle(_ bench: Bench) {
        measure(bench, "memory/idle", .mebibytes) { server, _ in settled(server) / 1048576 }
    }

    /// Resident bytes for each of so many connections that have asked once and are idle now.
    static func connection(_ bench: Bench, count: Int) {
        measure(bench, "memory/connection/\(count)", .bytes) { server, wire in
            let before = settled(server)
            var idle: [Wire] = []
            for _ in 0..<count {
                let one = try Wire(to: server.address, speaking: wire.dialect)
                try one.exchange(bench.pattern) { wire.dialect.ping(&$0) }
                idle.append(one)
            }
            let after = settled(server)
            return withExtendedLifetime(idle) { (after - before) / Double(count) }
        }
    }

    /// Resident memory at its peak, less the value itself, while one value is written.
    static func peakWrite(_ bench: Bench) {
        measure(bench, "memory/peak/write", .mebibytes) { server, wire in
            let size = valueSize(server.kind)
            let target = Target(number: 1)
            let before = settled(server)
            try wire.makeFilled(target, size: size, bench.pattern)
            return (server.residentSizes().peak - before - Double(size)) / 1048576
        }
    }

    /// The same while it is read.
    static func peakRead(_ bench: Bench) {
        measure(bench, "memory/peak/read", .mebibytes) { server, wire in
            let size = valueSize(server.kind)
            let target = Target(number: 1)
            let before = settled(server)
            try wire.makeFilled(target, size: size, bench.pattern)
            usleep(500_000)
            server.resetPeak()
            try wire.exchange(bench.pattern) {
                wire.dialect.read(target, content: target.content(size), &$0)
            }
            return (server.residentSizes().peak - before - Double(size)) / 1048576
        }
    }

    /// 1 GiB, or the most that a peer can hold of it.
    private static func valueSize(_ kind: ServerKind) -> Int {
        min(1 << 30, kind.valueSizeMax) - (kind == .redis ? 1024 : 0)
    }

    private static func measure(
        _ bench: Bench, _ name: String, _ unit: Unit, note: String = "",
        _ body: (ServerProcess, Wire) throws -> Double
    ) {
        let placement = Placement(available: bench.processors, serverCount: 1)
        bench.pinLoad(placement)
        for contestant in bench.contestants where contestant.hasNames {
            bench.attempt(name, contestant.label) {
                let server = try bench.start(contestant, on: placement)
                let wire = try contestant.connect(to: server)
                // One of everything first, so that what is made once is not counted.
                try wire.exchange(bench.pattern) {
                    wire.dialect.createFilled(Target(number: 999_999_999), size: 64, &$0)
                    wire.dialect.dispose(Target(number: 999_999_999), &$0)
                }
                let figure = try body(server, wire)
                bench.add(
                    Series(
                        point: name, server: contestant.label, unit: unit,
                        samples: [
                            Sample(figure: figure, resident: server.residentSizes().now)
                        ], note: note))
            }
        }
    }

    /// Resident memory once it has stood still for half a second, in bytes.
    private static func settled(_ server: ServerProcess) -> Double {
        var last = server.residentSizes().now
        for _ in 0..<10 {
            usleep(500_000)
            let now = server.residentSizes().now
            if now == last { break }
            last = now
        }
        return last
    }
}
