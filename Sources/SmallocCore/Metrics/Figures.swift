// The daemon's figures, for readers of its own: what `stats` tells, and what has no key there.

internal import Glibc
internal import SmallocSystem
public import SmallocWire

extension Registry {
    /// Calls back for each key that `stats` tells, in its order.
    ///
    /// From any thread.
    public func forEachStatistic(_ body: (String, UInt64) -> Void) {
        func total(_ key: Counters.Key) -> UInt64 { counters.reduce(0) { $0 &+ $1.value(key) } }
        body("pid", UInt64(getpid()))
        body("uptime_seconds", UInt64(age))
        body("loops", UInt64(counters.count))
        body("allocations", budget.allocationCount)
        body("memory_used_bytes", budget.usedSize)
        body("memory_warm_bytes", budget.pooledSize)
        body("memory_held_bytes", mappings.shares?.heldSize ?? 0)
        body("memory_returning_bytes", UInt64(mappings.pendingSize))
        body("memory_scattered_bytes", budget.fragmentedSize)
        let accepted = total(.connectionsAccepted)
        body("connections", accepted &- total(.connectionsClosed))
        body("connections_accepted", accepted)
        body("connections_refused", total(.connectionsRefused))
        body("bytes_read", total(.bytesRead))
        body("bytes_written", total(.bytesWritten))
        body("bytes_zero_copy", 0)
        body("errors", total(.errors))
        body("pauses", total(.pauses))
        body("idle_timeouts", total(.idleTimeouts))
        body("request_timeouts", total(.requestTimeouts))
        body("loop_longest_turn_us", longestTurn)
        for (operation, key) in Registry.operationKeys { body(key, requests(operation)) }
        forEachLimit(body)
        mappings.shares?.forEachHolder(atMost: Registry.holdersMax) { owner, size in
            let user =
                switch owner {
                case nil: "other"
                case Session.noOwner?: "none"
                case let owner?: "\(owner)"
                }
            body("memory_held_bytes_uid_\(user)", size)
        }
    }

    private func forEachLimit(_ body: (String, UInt64) -> Void) {
        body("limit_memory_bytes", limits.memorySizeMax)
        body("limit_length_bytes", limits.lengthSizeMax)
        body("limit_allocations", limits.allocationsMax)
        body("limit_connections", limits.connectionsMax)
        body("limit_frame_bytes", limits.frameSizeMax)
        body("limit_requests_in_flight", limits.requestsInFlightMax)
        body("limit_handles", limits.handlesMax)
        body("limit_output_bytes", limits.outputSizeMax)
        body("limit_line_bytes", limits.lineSizeMax)
        body("limit_name_bytes", limits.nameSizeMax)
        body("limit_idle_milliseconds", limits.idleTimeoutMilliseconds)
        body("limit_request_milliseconds", limits.requestTimeoutMilliseconds)
        body("limit_waits", UInt64(Limits.waitsMax))
        body("limit_shares", UInt64(mappings.shares?.countMax ?? 0))
    }

    /// Users that `stats` tells of one by one.
    private static let holdersMax = 16

    private static let operationKeys: [(Operation, String)] = Operation.allCases.map {
        ($0, "requests_\($0.name)")
    }

    /// The longest turn of a loop, in microseconds of its thread's processor time.
    public var longestTurn: UInt64 {
        counters.map { $0.value(.longestTurnMicroseconds) }.max() ?? 0
    }

    /// Requests of an operation.
    public func requests(_ operation: Operation) -> UInt64 {
        counters.reduce(0) { $0 &+ $1.value(operation) }
    }

    /// Connections accepted since the start, and those that are open.
    public var connections: (accepted: UInt64, open: UInt64) {
        let closed = counters.reduce(0) { $0 &+ $1.value(.connectionsClosed) }
        let accepted = counters.reduce(0) { $0 &+ $1.value(.connectionsAccepted) }
        return (accepted, accepted > closed ? accepted - closed : 0)
    }

    /// How long requests of an operation took, those that are answered.
    public func durations(of operation: Operation) -> DurationHistogram {
        var histogram = DurationHistogram()
        for counters in counters { counters.add(operation, to: &histogram) }
        return histogram
    }

    /// Calls back for each status with which something was refused, and how often.
    public func forEachRefusal(_ body: (String, UInt64) -> Void) {
        for (status, name, _) in Status.table where status != .ok {
            let count = counters.reduce(0) { $0 &+ $1.refusals(status) }
            if count > 0 { body(name, count) }
        }
    }

    /// Bytes of memory in use, kept for reuse, and held by clients that map what is gone.
    public var memory: (used: UInt64, warm: UInt64, held: UInt64) {
        (budget.usedSize, budget.pooledSize, mappings.shares?.heldSize ?? 0)
    }

    /// Allocations, named or not.
    public var allocationCount: UInt64 { budget.allocationCount }

    /// Allocations that have names.
    ///
    /// Cost: a lock of each shard, some dozen microseconds.
    public var namedCount: UInt64 {
        var count = 0
        for shard in 0..<Registry.shardCount {
            let lock = lock(of: shard)
            lock.lock()
            count += shards[shard].table.count
            lock.unlock()
        }
        return UInt64(count)
    }
}
