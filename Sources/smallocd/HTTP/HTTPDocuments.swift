// What the HTTP listener tells, one document each. On its thread, which may take its time: it reads
// what any thread may read, and holds no lock for longer than some dozen microseconds.

import Glibc
import SmallocCore
import SmallocSystem
import SmallocWire

/// Writes the documents.
///
/// Used by one thread.
final class HTTPDocuments {
    /// Namespaces of `/namespaces.json` at most.
    static let namespacesMax = 499
    /// Labels that `/metrics` gives to namespaces in its life: each is a series of the reader's.
    static let labelsMax = 256
    /// How long a count of the namespaces is good for, in nanoseconds.
    private static let namespacesAge: UInt64 = 5_000_000_000

    private let registry: Registry
    private let limits: SharedLimits
    /// Seconds since 1970.
    private let startedAt = Clock.coarseWallTime / 1_000_000_000
    private var namespaces: Namespaces?
    private var namespacesAt: UInt64 = 0
    private var labels: Set<String> = []
    /// Whether names may be told over this listener.
    let tellsNames: Bool

    init(_ registry: Registry, tellsNames: Bool) {
        self.registry = registry
        limits = registry.limits
        self.tellsNames = tellsNames
        labels.reserveCapacity(HTTPDocuments.labelsMax)
    }

    /// The count of the namespaces, of some seconds ago at most; nil: there is no memory for it.
    private func currentNamespaces() -> Namespaces? {
        let now = Clock.now
        if namespaces == nil || now - namespacesAt > HTTPDocuments.namespacesAge {
            namespaces = nil
            namespaces = registry.namespaces()
            // From the end: a count that takes long is not begun again and again.
            namespacesAt = Clock.now
        }
        return namespaces
    }

    // MARK: Metrics

    /// `/metrics`; nil: there is no memory for it.
    func metrics(isOpenMetrics: Bool) -> Output? {
        var text = MetricsText(isOpenMetrics: isOpenMetrics)
        text.append(
            version: version, residentSize: HTTPDocuments.residentSize, startedAt: startedAt)
        text.append(registry)
        if let namespaces = currentNamespaces() {
            let found = namespaces.largest(MetricsText.namespacesMax) { isLabel($0) }
            text.append(found.entries, other: found.other)
        }
        return text.takeOutput()
    }

    /// Whether a namespace has a label, or gets one: clients must not make series without end.
    private func isLabel(_ name: String) -> Bool {
        if labels.contains(name) { return true }
        guard labels.count < HTTPDocuments.labelsMax else { return false }
        labels.insert(name)
        return true
    }

    // MARK: Documents

    /// `/stats.json`.
    func stats() -> Output? {
        var json = JSONText()
        json.beginObject()
        json.member("time", Double(Clock.coarseWallTime) / 1e9)
        json.member("version", version)
        appendFigures(&json)
        json.beginObject("requests")
        for operation in Operation.allCases {
            json.member(operation.name, registry.requests(operation))
        }
        json.endObject()
        json.beginObject("refusals")
        var refusals: [(String, UInt64)] = []
        registry.forEachRefusal { refusals.append(($0, $1)) }
        for (status, count) in refusals { json.member(status, count) }
        json.endObject()
        appendLatency(&json)
        json.member("longest_turn", Double(registry.longestTurn) / 1e6)
        json.member("names", tellsNames)
        json.beginObject("stats")
        var statistics: [(String, UInt64)] = []
        registry.forEachStatistic { statistics.append(($0, $1)) }
        for (key, value) in statistics { json.member(key, value) }
        json.endObject()
        json.endObject()
        return json.takeOutput()
    }

    private func appendFigures(_ json: inout JSONText) {
        json.member("uptime", Double(registry.age))
        let memory = registry.memory
        json.beginObject("memory")
        json.member("limit", limits.memorySizeMax)
        json.member("allocated", memory.used)
        json.member("resident", HTTPDocuments.residentSize)
        json.member("warm", memory.warm)
        json.member("held", memory.held)
        json.endObject()
        let (named, all) = (registry.namedCount, registry.allocationCount)
        json.beginObject("allocations")
        json.member("named", named)
        json.member("anonymous", all > named ? all - named : 0)
        json.endObject()
        let connections = registry.connections
        json.beginObject("connections")
        json.member("now", connections.open)
        json.member("limit", limits.connectionsMax)
        json.member("total", connections.accepted)
        json.endObject()
    }

    private func appendLatency(_ json: inout JSONText) {
        json.beginObject("latency")
        for operation in Operation.allCases {
            let histogram = registry.durations(of: operation)
            guard histogram.count > 0 else { continue }
            json.beginObject(operation.name)
            json.member("count", histogram.count)
            json.member("sum", Double(histogram.sum) / 1e9)
            json.member("p50", histogram.quantile(0.5) / 1e9)
            json.member("p99", histogram.quantile(0.99) / 1e9)
            json.member("p999", histogram.quantile(0.999) / 1e9)
            json.endObject()
        }
        json.endObject()
    }

    /// `/namespaces.json`.
    func namespacesDocument() -> Output? {
        guard let namespaces = currentNamespaces() else { return nil }
        let found = namespaces.largest(HTTPDocuments.namespacesMax)
        var json = JSONText()
        json.beginObject()
        json.beginArray("namespaces")
        for entry in found.entries {
            json.beginObject()
            json.member("name", entry.name)
            json.member("count", entry.count)
            json.member("bytes", entry.size)
            json.endObject()
        }
        json.endArray()
        json.beginObject("other")
        json.member("count", found.other.count)
        json.member("bytes", found.other.size)
        json.endObject()
        json.endObject()
        return json.takeOutput()
    }

    /// `/allocations.json`.
    func allocations(
        _ order: AllocationTable.Order, limit: Int, prefix: [UInt8]
    ) -> Output? {
        let found = prefix.withUnsafeBytes {
            registry.allocations(order, limit: limit, prefix: $0)
        }
        guard let found else { return nil }
        var json = JSONText()
        json.beginObject()
        json.beginArray("allocations")
        for index in 0..<found.count {
            let entry = found[index]
            json.beginObject()
            json.member("name", entry.name)
            json.member("bytes", entry.size)
            json.member("length", entry.size >> UInt64(entry.type.shift))
            json.member("type", entry.type.name)
            json.member("age", Double(entry.age))
            json.member("owner", entry.owner.map(UInt64.init))
            json.endObject()
        }
        json.endArray()
        json.member("total", found.total)
        json.member("more", found.total > UInt64(found.count))
        json.endObject()
        return json.takeOutput()
    }

    /// `/clients.json`.
    func clients() -> Output? {
        let found = registry.clients(limit: HTTPDocuments.clientsMax)
        var json = JSONText()
        json.beginObject()
        json.beginArray("clients")
        for row in found.rows {
            let client = row.status
            // Clients write a blank or a slash between the two.
            let words = row.software.split(maxSplits: 1) { $0 == 0x2F || $0 == 0x20 }
            json.beginObject()
            json.member("id", client.id)
            json.member("uid", client.owner.map(UInt64.init))
            json.member("pid", client.process.map(UInt64.init))
            json.member("program", bytes: words.first ?? [])
            json.member("version", bytes: words.count > 1 ? words[1] : [])
            json.member("mode", client.mode.name)
            json.member("transport", client.isTCP ? "tcp" : "unix")
            json.member("age", Double(client.age) / 1e3)
            json.member("handles", client.handles)
            json.member("waiting", client.waitingSize)
            json.member("maps", client.maps)
            json.member("paused", client.isPaused)
            json.member("read", client.readSize)
            json.member("written", client.writtenSize)
            json.member("requests", client.requests)
            json.endObject()
        }
        json.endArray()
        json.member("total", UInt64(found.total))
        json.member("more", found.total > found.rows.count)
        json.endObject()
        return json.takeOutput()
    }

    /// Connections of `/clients.json` at most.
    private static let clientsMax = 500

    /// `/slowlog.json`.
    func slowLog() -> Output? {
        var json = JSONText()
        json.beginObject()
        json.member("threshold", Double(registry.slowLog.threshold) / 1e6)
        json.beginArray("entries")
        var entries: [(SlowRequest, name: [UInt8])] = []
        registry.slowLog.forEach(.max, tellsName: { _ in true }) { request in
            entries.append((request, Array(request.name)))
        }
        for (request, name) in entries {
            json.beginObject()
            json.member("id", request.id)
            json.member("time", Double(request.time) / 1e3)
            json.member("operation", request.operationName)
            json.member("name", bytes: name[...])
            json.member("size", request.size)
            json.member("duration", Double(request.duration) / 1e6)
            json.member("waited", request.cause.name)
            json.endObject()
        }
        json.endArray()
        json.endObject()
        return json.takeOutput()
    }

    /// Bytes of the process that are resident; 0: the system does not tell.
    private static var residentSize: UInt64 {
        let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return 0 }
        defer { close(file) }
        return withUnsafeTemporaryAllocation(byteCount: 128, alignment: 1) { buffer in
            let count = read(file, buffer.baseAddress, buffer.count)
            guard count > 0 else { return 0 }
            let words = buffer[..<count].split(separator: 0x20)
            guard words.count > 1 else { return 0 }
            let pages = words[1].reduce(UInt64(0)) { $0 &* 10 &+ UInt64($1 & 0xF) }
            return pages &* UInt64(sysconf(Int32(_SC_PAGESIZE)))
        }
    }
}
