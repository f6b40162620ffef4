// How long requests take, by operation: histograms that are always on.
//
// Time is taken once for all requests of a turn: each took from the beginning of the turn that read
// it to the end of the turn that answered it. What is answered later (work, waits, large transfers)
// has a beginning of its own. So a small request costs a bit in a word, and its turn two looks at a
// clock.

internal import SmallocWire
internal import Synchronization

extension Counters {
    /// Buckets of a histogram: at most 1 microsecond, 2, 4, and so on to 2^24 (16.8 seconds), and
    /// what took longer.
    @inline(__always) static var bucketCount: Int { 26 }
    /// Numbers of one operation: the buckets, and behind them the sum, in nanoseconds.
    @inline(__always) static var durationCells: Int { 32 }
    @inline(__always) private static var sumCell: Int { 31 }

    /// The bucket of a duration in nanoseconds.
    static func bucket(of duration: UInt64) -> Int {
        guard duration > 1000 else { return 0 }
        let microseconds = duration / 1000 + (duration % 1000 == 0 ? 0 : 1)
        return min(64 - (microseconds - 1).leadingZeroBitCount, bucketCount - 1)
    }

    /// Puts all requests that were counted since the last time into the buckets of a duration, but
    /// those of `exclude`.
    ///
    /// From its loop's thread only. Cost: some ten instructions for each operation among them.
    ///
    /// - Parameter duration: Nanoseconds.
    func settle(_ duration: UInt64) {
        var left = touched
        guard left != 0 else { return }
        touched = 0
        let bucket = Counters.bucket(of: duration)
        while left != 0 {
            let operation = left.trailingZeroBitCount
            left &= left &- 1
            let count = values[operation].load(ordering: .relaxed)
            let fresh = count &- own[Counters.settledAt + operation]
            own[Counters.settledAt + operation] = count
            guard fresh != 0 else { continue }
            let row = Counters.durationsAt + operation * Counters.durationCells
            add(at: row + bucket, fresh)
            add(at: row + Counters.sumCell, fresh &* duration)
        }
    }

    /// Calls back for each operation with requests that `settle` would put into buckets.
    func forEachUnsettled(_ body: (UInt8, UInt64) -> Void) {
        for operation in 0..<Counters.operationMax where touched >> UInt64(operation) & 1 != 0 {
            let count = values[operation].load(ordering: .relaxed)
            let fresh = count &- own[Counters.settledAt + operation]
            if fresh != 0 { body(UInt8(operation), fresh) }
        }
    }

    /// Leaves one request that was counted to `note`.
    ///
    /// From its loop's thread only.
    func exclude(_ operation: UInt8) {
        guard operation < Counters.operationMax else { return }
        own[Counters.settledAt + Int(operation)] &+= 1
    }

    /// Puts one request into its bucket.
    ///
    /// From its loop's thread only.
    ///
    /// - Parameter duration: Nanoseconds.
    func note(_ operation: UInt8, _ duration: UInt64) {
        guard operation < Counters.operationMax else { return }
        let row = Counters.durationsAt + Int(operation) * Counters.durationCells
        add(at: row + Counters.bucket(of: duration), 1)
        add(at: row + Counters.sumCell, duration)
    }

    /// Adds this loop's numbers of an operation to a histogram, from any thread.
    func add(_ operation: Operation, to histogram: inout DurationHistogram) {
        let row = Counters.durationsAt + Int(operation.rawValue) * Counters.durationCells
        for bucket in 0..<Counters.bucketCount {
            let count = values[row + bucket].load(ordering: .relaxed)
            histogram.counts[bucket] &+= count
            histogram.count &+= count
        }
        histogram.sum &+= values[row + Counters.sumCell].load(ordering: .relaxed)
    }
}

/// How long the requests of one operation took, on all loops.
public struct DurationHistogram: Sendable {
    /// Requests by bucket: see `bound`.
    public internal(set) var counts = [UInt64](repeating: 0, count: Counters.bucketCount)
    /// Requests.
    public internal(set) var count: UInt64 = 0
    /// Nanoseconds of all of them.
    public internal(set) var sum: UInt64 = 0

    /// Buckets.
    public static var bucketCount: Int { Counters.bucketCount }

    /// Nanoseconds that a request of a bucket took at most; nil for the last bucket.
    public static func bound(_ bucket: Int) -> UInt64? {
        bucket < Counters.bucketCount - 1 ? 1000 << UInt64(bucket) : nil
    }

    /// The time that a part of the requests took at most, in nanoseconds: exact to its bucket, in
    /// which they are taken to be spread evenly.
    ///
    /// - Parameter part: 0 to 1; of no request, 0.
    public func quantile(_ part: Double) -> Double {
        let wanted = part * Double(count)
        var before: Double = 0
        for bucket in 0..<Counters.bucketCount where counts[bucket] > 0 {
            let here = Double(counts[bucket])
            let upper = DurationHistogram.bound(bucket)
            let lower = bucket == 0 ? 0 : Double(DurationHistogram.bound(bucket - 1) ?? 0)
            if before + here >= wanted {
                guard let upper else { return lower }
                return lower + (Double(upper) - lower) * max(0, wanted - before) / here
            }
            before += here
        }
        return 0
    }
}
