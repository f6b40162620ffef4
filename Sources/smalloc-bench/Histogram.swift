/// Times in nanoseconds, counted in buckets whose width is at most 1/64 of their value.
struct Histogram: ~Copyable {
    private static let bucketCount = 59 * 64
    private let counts: UnsafeMutablePointer<UInt32>
    private(set) var count = 0

    init() {
        counts = .allocate(capacity: Self.bucketCount)
        counts.initialize(repeating: 0, count: Self.bucketCount)
    }

    deinit { counts.deallocate() }

    @inline(__always)
    mutating func record(_ nanoseconds: UInt64) {
        counts[Self.bucket(nanoseconds)] &+= 1
        count &+= 1
    }

    /// Records what those saw of a request, sent at `start` and answered at `end`, who ask at `due`
    /// and then every `interval`.
    ///
    /// Nothing if nobody was due meanwhile; the first of them its whole time, the others the rest
    /// of it from when they were due. Without that a second in which nobody is answered is one
    /// slow request among thousands.
    ///
    /// - Parameters:
    ///   - due: When the next one is due; later than `end` afterwards.
    ///   - interval: More than 0.
    mutating func record(
        from start: UInt64, to end: UInt64, due: inout UInt64, every interval: UInt64
    ) {
        guard due <= end else { return }
        record(end - start)
        due += interval
        while due <= end {
            record(end - due)
            due += interval
        }
    }

    /// The time that `fraction` (0 to 1) of all recorded times do not exceed, to within a bucket;
    /// 0 if none were recorded.
    func percentile(_ fraction: Double) -> Double {
        guard count > 0 else { return 0 }
        let rank = max(1, Int((Double(count) * fraction).rounded(.up)))
        var seen = 0
        for index in 0..<Self.bucketCount {
            seen += Int(counts[index])
            if seen >= rank { return Self.middle(index) }
        }
        return Self.middle(Self.bucketCount - 1)
    }

    @inline(__always)
    static func bucket(_ value: UInt64) -> Int {
        guard value >= 64 else { return Int(truncatingIfNeeded: value) }
        let exponent = 63 - value.leadingZeroBitCount
        let part = Int(truncatingIfNeeded: value >> UInt64(truncatingIfNeeded: exponent - 6)) & 63
        return (exponent - 5) * 64 + part
    }

    /// The middle of a bucket.
    static func middle(_ bucket: Int) -> Double {
        guard bucket >= 64 else { return Double(bucket) }
        let exponent = bucket / 64 + 5
        let width = Double(UInt64(1) << UInt64(exponent - 6))
        return width * (Double(bucket % 64 + 64) + 0.5)
    }
}
