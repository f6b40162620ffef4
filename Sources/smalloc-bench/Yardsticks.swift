// The figures that the daemon is held against, without any server.

import CBench

/// What the machine does without any server, in the rounds of the servers.
enum Yardsticks {
    static let pingPongLabel = "C ping-pong"

    /// A C ping-pong between two threads with the sizes of the point's requests and replies.
    static func pingPong(_ bench: Bench, _ point: LoadPoint) -> Entrant {
        Entrant(label: pingPongLabel) { try pingPongSample(bench, point, $0) }
    }

    private static func pingPongSample(
        _ bench: Bench, _ point: LoadPoint, _ seconds: Double
    ) throws -> Sample {
        let placement = Placement(available: bench.processors, serverCount: 1)
        let isRead = point.work.isRead
        let header = SmallocDialect.headerSize
        let request = header + (isRead ? 0 : point.work.size)
        let reply = header + (isRead ? point.work.size : 0)
        let capacity = 1 << 20
        let times = UnsafeMutablePointer<UInt32>.allocate(capacity: capacity)
        defer { times.deallocate() }
        var elapsed: UInt64 = 0
        let done = cbench_ping_pong(
            Int32(placement.servers[0]), Int32(placement.load), request, reply, seconds,
            times, capacity, &elapsed)
        guard done > 0 else { throw BenchError.last("a ping-pong of two threads") }
        var histogram = Histogram()
        for index in 0..<min(Int(done), capacity) { histogram.record(UInt64(times[index])) }
        return Sample(
            figure: Double(done) / (Double(elapsed) / 1e9),
            p50: histogram.percentile(0.5) / 1000, p99: histogram.percentile(0.99) / 1000)
    }

    /// Memory moved on the servers' processor, on warm pages: huge ones, and small ones.
    static func memmove(_ bench: Bench, _ point: LoadPoint) -> [Entrant] {
        let placement = Placement(available: bench.processors, serverCount: 1)
        return [("memmove", Int32(1)), ("memmove, 4 KiB pages", 0)].map { label, huge in
            Entrant(label: label) { seconds in
                let rate = cbench_memmove(
                    Int32(placement.servers[0]), point.work.size, huge, seconds)
                guard rate > 0 else { throw BenchError.last("memmove on warm pages") }
                return Sample(figure: rate / 1e6)
            }
        }
    }

    static let streamLabel = "C, one way"

    /// Messages of one size sent one way between two threads, from the servers' processor to the
    /// load's or the other way.
    static func stream(_ bench: Bench, size: Int, toServer: Bool = false) -> Entrant {
        let placement = Placement(available: bench.processors, serverCount: 1)
        let (server, load) = (Int32(placement.servers[0]), Int32(placement.load))
        return Entrant(label: streamLabel) { seconds in
            let rate = cbench_stream(
                toServer ? load : server, toServer ? server : load, size, seconds)
            guard rate > 0 else { throw BenchError.last("a stream between two threads") }
            return Sample(figure: rate / 1e6)
        }
    }
}
