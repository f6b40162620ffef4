// What /metrics tells: the daemon's figures in the text format of Prometheus (0.0.4), or of
// OpenMetrics (1.0).

import SmallocCore
import SmallocWire

/// The text of all metrics at one moment.
struct MetricsText: ~Copyable {
    /// The text; `isLost` if there was no memory for it.
    private var output = Output(capacity: 16 << 10)
    private let isOpenMetrics: Bool

    /// Namespaces that have a label of their own at most; the others share `other`.
    static let namespacesMax = 32

    /// What a sample is.
    private enum Kind: String {
        case counter, gauge, histogram
    }

    /// - Parameter isOpenMetrics: Whether the reader asked for that format.
    init(isOpenMetrics: Bool) { self.isOpenMetrics = isOpenMetrics }

    /// The media type of the text.
    static func mediaType(isOpenMetrics: Bool) -> String {
        isOpenMetrics
            ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
            : "text/plain; version=0.0.4; charset=utf-8"
    }

    /// A key of `stats` as a metric.
    private struct Entry {
        let key: String
        let name: String
        var kind = Kind.gauge
        var scale = 1.0
        let help: String
    }

    private static let entries = [
        Entry(key: "pid", name: "process_id", help: "The daemon's process."),
        Entry(key: "uptime_seconds", name: "uptime_seconds", help: "Time since the start."),
        Entry(key: "loops", name: "loops", help: "Event loops, a thread each."),
        Entry(key: "allocations", name: "allocations", help: "Allocations, named or not."),
        Entry(
            key: "memory_used_bytes", name: "memory_used_bytes",
            help: "Memory that counts against the limit."),
        Entry(
            key: "memory_warm_bytes", name: "memory_warm_bytes",
            help: "Memory that is kept for reuse."),
        Entry(
            key: "memory_held_bytes", name: "memory_held_bytes",
            help: "Memory of allocations that are gone, which clients have mapped still."),
        Entry(
            key: "memory_returning_bytes", name: "memory_returning_bytes",
            help: "Memory on its way back."),
        Entry(
            key: "memory_scattered_bytes", name: "memory_scattered_bytes",
            help: "Free memory between small allocations."),
        Entry(key: "connections", name: "connections", help: "Connections that are open."),
        Entry(
            key: "connections_accepted", name: "connections_accepted_total", kind: .counter,
            help: "Connections accepted."),
        Entry(
            key: "connections_refused", name: "connections_refused_total", kind: .counter,
            help: "Connections refused, since as many were open as may be."),
        Entry(
            key: "bytes_read", name: "read_bytes_total", kind: .counter,
            help: "Bytes received from clients."),
        Entry(
            key: "bytes_written", name: "written_bytes_total", kind: .counter,
            help: "Bytes sent to clients."),
        Entry(
            key: "bytes_zero_copy", name: "zero_copy_bytes_total", kind: .counter,
            help: "Bytes sent without a copy."),
        Entry(key: "errors", name: "errors_total", kind: .counter, help: "Errors answered."),
        Entry(
            key: "pauses", name: "pauses_total", kind: .counter,
            help: "Times that a connection was not read from, as its replies waited."),
        Entry(
            key: "idle_timeouts", name: "idle_timeouts_total", kind: .counter,
            help: "Connections closed since they were idle."),
        Entry(
            key: "request_timeouts", name: "request_timeouts_total", kind: .counter,
            help: "Connections closed since a request made no progress."),
        Entry(
            key: "loop_longest_turn_us", name: "loop_longest_turn_seconds", scale: 1e-6,
            help: "The longest turn of a loop, in processor time."),
        Entry(
            key: "limit_idle_milliseconds", name: "limit_idle_seconds", scale: 1e-3,
            help: "Silence after which a connection is closed; 0: none."),
        Entry(
            key: "limit_request_milliseconds", name: "limit_request_seconds", scale: 1e-3,
            help: "Time in which a request must make progress; 0: any."),
    ]

    /// Writes all that `stats` tells, the durations, and the refusals.
    mutating func append(_ registry: Registry) {
        var statistics: [(key: String, value: UInt64)] = []
        registry.forEachStatistic { statistics.append(($0, $1)) }
        for entry in MetricsText.entries {
            guard let found = statistics.first(where: { $0.key == entry.key }) else { continue }
            family(entry.name, entry.kind, entry.help)
            sample(entry.name, Double(found.value) * entry.scale, exact: found.value, entry.scale)
        }
        appendOthers(statistics)
        family("refusals_total", .counter, "Requests and connections refused, by status.")
        registry.forEachRefusal { status, count in
            sample("refusals_total", "status", status, count)
        }
        appendDurations(registry)
        family("slow_requests_total", .counter, "Requests that the slow log was told of.")
        sample("slow_requests_total", registry.slowLog.total)
    }

    /// What has a label, and what is new among the statistics.
    private mutating func appendOthers(_ statistics: [(key: String, value: UInt64)]) {
        family("requests_total", .counter, "Requests received, by operation.")
        for (key, value) in statistics where key.hasPrefix("requests_") {
            sample("requests_total", "operation", String(key.dropFirst(9)), value)
        }
        family(
            "memory_held_by_owner_bytes", .gauge,
            "Memory of allocations that are gone, by the user that made them.")
        let held = "memory_held_bytes_uid_"
        for (key, value) in statistics where key.hasPrefix(held) {
            sample("memory_held_by_owner_bytes", "owner", String(key.dropFirst(held.count)), value)
        }
        for (key, value) in statistics
        where !key.hasPrefix("requests_") && !key.hasPrefix(held)
            && !MetricsText.entries.contains(where: { $0.key == key })
        {
            let isLimit = key.hasPrefix("limit_")
            family(key, .gauge, isLimit ? "A limit of this daemon." : "As stats tells it.")
            sample(key, value)
        }
    }

    private mutating func appendDurations(_ registry: Registry) {
        let name = "request_duration_seconds"
        family(name, .histogram, "Time from reading a request to its answer, by operation.")
        for operation in Operation.allCases {
            let histogram = registry.durations(of: operation)
            guard histogram.count > 0 else { continue }
            var count: UInt64 = 0
            for bucket in 0..<DurationHistogram.bucketCount {
                count += histogram.counts[bucket]
                let bound = DurationHistogram.bound(bucket).map { "\(Double($0) / 1e9)" } ?? "+Inf"
                output.append(
                    "smalloc_\(name)_bucket{operation=\"\(operation.name)\",le=\"\(bound)\"}"
                        + " \(count)\n")
            }
            sample("\(name)_sum", "operation", operation.name, Double(histogram.sum) / 1e9)
            sample("\(name)_count", "operation", operation.name, histogram.count)
        }
    }

    /// Writes what the shell knows of the process.
    mutating func append(version: String, residentSize: UInt64, startedAt: UInt64) {
        family("build_info", .gauge, "Always 1; the label tells the version.")
        output.append("smalloc_build_info{version=\"\(version)\"} 1\n")
        family("resident_bytes", .gauge, "Memory of the process that is resident.")
        sample("resident_bytes", residentSize)
        family("start_time_seconds", .gauge, "When the daemon started, in seconds since 1970.")
        sample("start_time_seconds", startedAt)
    }

    /// Writes what each namespace holds.
    mutating func append(_ entries: [Namespaces.Entry], other: Namespaces.Entry) {
        family(
            "namespace_bytes", .gauge,
            "Data of named allocations, by the first part of their names.")
        for entry in entries + [other] {
            sample("namespace_bytes", "namespace", entry.name, entry.size)
        }
        family(
            "namespace_allocations", .gauge,
            "Named allocations, by the first part of their names.")
        for entry in entries + [other] {
            sample("namespace_allocations", "namespace", entry.name, entry.count)
        }
    }

    /// Ends the text, which goes on empty; nil: there was no memory for it.
    mutating func takeOutput() -> Output? {
        if isOpenMetrics { output.append("# EOF\n") }
        var taken = Output(capacity: 16)
        swap(&taken, &output)
        if taken.isLost { return nil }
        return taken
    }

    // MARK: Lines

    private mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        var name = name
        // There a counter's samples have the suffix, and its family has not.
        if isOpenMetrics, kind == .counter, name.hasSuffix("_total") {
            name.removeLast("_total".utf8.count)
        }
        output.append("# HELP smalloc_\(name) \(help)\n")
        output.append("# TYPE smalloc_\(name) \(kind.rawValue)\n")
    }

    private mutating func sample(_ name: String, _ value: UInt64) {
        output.append("smalloc_\(name) \(value)\n")
    }

    private mutating func sample(
        _ name: String, _ value: Double, exact: UInt64, _ scale: Double
    ) {
        if scale == 1 { return sample(name, exact) }
        output.append("smalloc_\(name) \(value)\n")
    }

    private mutating func sample(
        _ name: String, _ label: String, _ text: String, _ value: some CustomStringConvertible
    ) {
        // Namespaces are printable ASCII: two of its characters have to be escaped.
        let text = text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        output.append("smalloc_\(name){\(label)=\"\(text)\"} \(value)\n")
    }
}
