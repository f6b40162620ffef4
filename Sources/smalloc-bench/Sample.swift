/// What one run of a point against one server came to.
struct Sample: Codable {
    /// The point's figure, in its unit.
    var figure: Double
    /// Latency of a batch, in microseconds, where one was taken.
    var p50: Double?
    var p99: Double?
    /// p99 of requests that are due at fixed times, whether the last one was answered or not, in
    /// microseconds.
    var p99OfDue: Double?
    /// Server processor time for one job, in nanoseconds.
    var processor: Double?
    /// Resident memory of the server after the run, in bytes.
    var resident: Double?
    /// The part of the time in which the load generator had nothing to do, 0 to 1.
    var idle: Double?
}

/// The unit of a point's figure, and which way is better.
enum Unit: String, Codable {
    case operations = "op/s"
    case jobs = "jobs/s"
    case megabytes = "MB/s"
    case bytes = "B"
    case mebibytes = "MiB"
    case microseconds = "us"

    var isRate: Bool {
        switch self {
        case .operations, .jobs, .megabytes: true
        case .bytes, .mebibytes, .microseconds: false
        }
    }
}

/// All rounds of a point against one server.
struct Series: Codable {
    let point: String
    /// The server, or the yardstick.
    let server: String
    let unit: Unit
    var samples: [Sample]
    /// What the reader must know of this series, or empty.
    var note = ""

    var figures: [Double] { samples.map(\.figure) }
    var statistics: Statistics? { Statistics(figures) }

    /// The part of the time in which the server used its processor, 0 to 1.
    var busy: Double? {
        guard unit != .megabytes, unit.isRate else { return nil }
        return Statistics(
            samples.compactMap { sample in sample.processor.map { $0 * sample.figure / 1e9 } })?
            .median
    }

    func median(_ field: KeyPath<Sample, Double?>) -> Double? {
        Statistics(samples.compactMap { $0[keyPath: field] })?.median
    }
}
