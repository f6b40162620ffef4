import CBench

/// What the machine does without any server, measured in as many rounds as the servers.
enum Yardsticks {
    /// A C ping-pong between two threads with the sizes of the point's requests and replies.
    static func pingPong(_ bench: Bench, _ point: LoadPoint, rounds: Int) {
        let samples = (0..<rounds).compactMap { _ in pingPongSample(bench, point) }
        bench.add(
            Series(point: point.name, server: "C ping-pong", unit: .operations, samples: samples))
    }

    /// One round of it.
    static func pingPongSample(_ bench: Bench, _ point: LoadPoint) -> Sample? {
        let placement = Placement(available: bench.processors, serverCount: 1)
        let isRead = if case .read = point.work { true } else { false }
        let header = SmallocDialect.headerSize
        let request = header + (isRead ? 0 : point.work.size)
        let reply = header + (isRead ? point.work.size : 0)
        let capacity = 1 << 20
        let times = UnsafeMutablePointer<UInt32>.allocate(capacity: capacity)
        defer { times.deallocate() }
        var elapsed: UInt64 = 0
        let done = cbench_ping_pong(
            Int32(placement.servers[0]), Int32(placement.load), request, reply, bench.seconds,
            times, capacity, &elapsed)
        guard done > 0 else { return nil }
        var histogram = Histogram()
        for index in 0..<min(Int(done), capacity) { histogram.record(UInt64(times[index])) }
        return Sample(
            figure: Double(done) / (Double(elapsed) / 1e9),
            p50: histogram.percentile(0.5) / 1000, p99: histogram.percentile(0.99) / 1000)
    }

    /// Memory moved on the servers' processor, on warm pages: small ones, and huge ones.
    static func memmove(_ bench: Bench, _ point: LoadPoint) {
        let placement = Placement(available: bench.processors, serverCount: 1)
        for (label, huge) in [("memmove", Int32(1)), ("memmove, 4 KiB pages", 0)] {
            let samples = (0..<bench.rounds).map { _ in
                Sample(
                    figure: cbench_memmove(
                        Int32(placement.servers[0]), point.work.size, huge, bench.seconds) / 1e6)
            }
            bench.add(
                Series(point: point.name, server: label, unit: .megabytes, samples: samples))
        }
    }

    static let streamLabel = "C, one way"

    /// Messages of one size sent one way between two threads.
    static func stream(_ bench: Bench, size: Int) {
        let samples = (0..<bench.rounds).map { _ in streamSample(bench, size: size) }
        bench.add(
            Series(
                point: "raw/stream/\(sizeName(size))", server: streamLabel, unit: .megabytes,
                samples: samples))
    }

    /// One round of it, from the servers' processor to the load's or the other way.
    static func streamSample(_ bench: Bench, size: Int, toServer: Bool = false) -> Sample {
        let placement = Placement(available: bench.processors, serverCount: 1)
        let (server, load) = (Int32(placement.servers[0]), Int32(placement.load))
        return Sample(
            figure: cbench_stream(
                toServer ? load : server, toServer ? server : load, size, bench.seconds) / 1e6)
    }
}
