import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Durations of requests", .timed)
struct DurationTests {
    private let daemon = TestDaemon()

    /// The buckets of an operation that are not empty.
    private func buckets(_ operation: Operation) -> [Int: UInt64] {
        let counts = daemon.registry.durations(of: operation).counts
        var found: [Int: UInt64] = [:]
        for (bucket, count) in counts.enumerated() where count > 0 { found[bucket] = count }
        return found
    }

    @Test(
        "a bucket ends with its power of two of microseconds",
        arguments: [
            (0, 0), (1, 0), (1000, 0), (1001, 1), (2000, 1), (2001, 2), (4000, 2), (4001, 3),
            (16_777_216_000, 24), (16_777_216_001, 25), (UInt64.max, 25),
        ] as [(UInt64, Int)])
    func bounds(duration: UInt64, bucket: Int) {
        #expect(Counters.bucket(of: duration) == bucket)
        if let bound = DurationHistogram.bound(bucket) { #expect(duration <= bound) }
        if bucket > 0 { #expect(duration > DurationHistogram.bound(bucket - 1) ?? 0) }
    }

    @Test("the requests of a turn have its duration, by operation")
    func turns() {
        let peer = daemon.greeted()
        daemon.loop.turnStart = 1_000_000
        daemon.loop.endTurn(now: 1_000_001)
        daemon.loop.turnStart = 1_000_000
        for _ in 0..<3 { peer.call(.ping) }
        peer.call(.alloc, type: 2, name: "a", size: 8)
        #expect(buckets(.ping) == [:], "the turn is not over")
        daemon.loop.endTurn(now: 1_003_000)
        #expect(buckets(.ping) == [2: 3] && buckets(.alloc) == [2: 1])
        #expect(buckets(.hello) == [0: 1])
        let ping = daemon.registry.durations(of: .ping)
        #expect(ping.count == 3 && ping.sum == 9000)
        // A turn of its own, and none that nothing was done in.
        daemon.loop.turnStart = 2_000_000
        peer.call(.ping)
        daemon.loop.endTurn(now: 3_000_000)
        daemon.loop.endTurn(now: 9_000_000)
        #expect(buckets(.ping) == [2: 3, 10: 1] && buckets(.alloc) == [2: 1])
    }

    @Test("a transfer is counted once, at its end, since its request was read")
    func transfers() {
        let peer = daemon.greeted()
        let size = 200 << 10
        peer.call(.alloc, type: 2, name: "a", size: UInt64(size))
        daemon.loop.endTurn(now: 1)
        let bytes = frame(
            .write, name: "a", size: UInt64(size), payload: [UInt8](repeating: 1, count: size))
        daemon.loop.turnStart = Clock.now - 40_000_000
        peer.feed(Array(bytes.prefix(100_000)))
        daemon.loop.endTurn(now: Clock.now)
        #expect(buckets(.write) == [:])
        daemon.loop.turnStart = Clock.now
        peer.feed(Array(bytes.dropFirst(100_000)))
        daemon.loop.endTurn(now: Clock.now)
        let write = daemon.registry.durations(of: .write)
        #expect(write.count == 1 && write.sum >= 40_000_000, "\(write)")
        daemon.loop.turnStart = Clock.now - 40_000_000
        peer.call(.read, name: "a", size: UInt64(size))
        daemon.loop.endTurn(now: Clock.now)
        let read = daemon.registry.durations(of: .read)
        #expect(read.count == 1 && read.sum >= 40_000_000, "\(read)")
    }

    @Test("work and waits are counted once, since they were read")
    func later() {
        let peer = daemon.greeted()
        let size: UInt64 = 4 << 20
        peer.call(.alloc, type: 2, name: "a", size: size)
        daemon.loop.turnStart = Clock.now - 40_000_000
        peer.call(.fill, name: "a", size: size, payload: [7])
        daemon.loop.endTurn(now: Clock.now)
        let fill = daemon.registry.durations(of: .fill)
        #expect(fill.count == 1 && fill.sum >= 40_000_000, "\(fill)")
        peer.call(.alloc, type: 5, name: "b", size: 4)
        daemon.loop.turnStart = Clock.now - 40_000_000
        peer.feed(frame(.wait, name: "b", size: 1, payload: [0, 0, 0, 0]))
        daemon.loop.endTurn(now: Clock.now)
        #expect(daemon.registry.durations(of: .wait).count == 0)
        daemon.expireWaits()
        let wait = daemon.registry.durations(of: .wait)
        #expect(wait.count == 1 && wait.sum >= 40_000_000, "\(wait)")
        for operation in Operation.allCases where operation != .hello {
            daemon.loop.turnStart = Clock.now
            daemon.loop.endTurn(now: Clock.now)
            let count = daemon.registry.requests(operation)
            #expect(daemon.registry.durations(of: operation).count == count, "\(operation)")
        }
    }

    @Test("a request that is served again is counted once, since it was read first")
    func again() {
        let peer = daemon.greeted(mapping: true)
        peer.call(.alloc, type: 2, name: "a", size: 100)
        daemon.loop.endTurn(now: 1)
        daemon.loop.turnStart = Clock.now - 40_000_000
        // Promoted by work, and then answered.
        peer.moves = false
        peer.feed(frame(.map, name: "a"))
        daemon.loop.endTurn(now: Clock.now)
        #expect(daemon.registry.durations(of: .map).count == 0)
        daemon.loop.turnStart = Clock.now
        peer.moves = true
        peer.run()
        peer.call(.ping)
        daemon.loop.endTurn(now: Clock.now)
        let map = daemon.registry.durations(of: .map)
        #expect(map.count == 1 && map.sum >= 40_000_000, "\(map)")
        let ping = daemon.registry.durations(of: .ping)
        #expect(ping.count == 1 && ping.sum < 40_000_000)
    }

    @Test("a quantile lies in the bucket that holds it")
    func quantiles() {
        var histogram = DurationHistogram()
        #expect(histogram.quantile(0.5) == 0)
        histogram.counts[3] = 90
        histogram.counts[10] = 10
        histogram.count = 100
        #expect(histogram.quantile(0.5) > 4000 && histogram.quantile(0.5) <= 8000)
        #expect(histogram.quantile(0.99) > 512_000 && histogram.quantile(0.99) <= 1_024_000)
        histogram.counts[25] = 100
        histogram.count = 200
        #expect(histogram.quantile(0.99) == 16_777_216_000)
    }

    @Test("refusals are counted by their status")
    func refusals() {
        let peer = daemon.greeted()
        peer.call(.stat, name: "none")
        peer.call(.read, name: "none", size: 1)
        peer.call(.alloc, type: 99, name: "a", size: 1)
        let text = daemon.connect()
        #expect(text.line("nonsense").hasPrefix("ERR unknownOperation"))
        text.feed("GET / HTTP/1.0\r\n")
        var found: [String: UInt64] = [:]
        daemon.registry.forEachRefusal { found[$0] = $1 }
        #expect(
            found == ["noData": 2, "unknownType": 1, "unknownOperation": 1, "notSmalloc": 1])
    }
}
