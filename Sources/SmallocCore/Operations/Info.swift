// Operations that tell: stat, list, stats.
// protocol/spec.md § Operations is the source.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    /// Entries of a page whose size the client leaves to us.
    private static let pageEntries: UInt64 = 1024

    func stat<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        // The registry's own reference does not count, nor does the one of this lookup.
        let mine: UInt64 = target.handle == 0 ? 2 : 1
        let references = allocation.referenceCount
        // The kernel is asked which maps are out.
        if allocation.record?.sharing.contains(.handedOut) == true {
            caller.cost += Caller.Cost.largeMemory
        }
        reply.stat(
            status(of: allocation, handles: references > mine ? references - mine : 0),
            name: allocation.name, metadata: allocation.metadata)
        return .answered
    }

    /// What `stat` tells of an allocation.
    ///
    /// Under its lock.
    private func status(of allocation: Allocation, handles: UInt64) -> AllocationStatus {
        var status = AllocationStatus(
            type: allocation.type, size: allocation.size, created: created(allocation),
            handles: handles, storage: allocation.storage)
        let owner = allocation.owner
        if owner != Session.noOwner { status.owner = owner }
        if allocation.flags.contains(.described) {
            status.flags.insert(.described)
            status.shape = allocation.shape
        }
        if allocation.flags.contains(.frozen) { status.flags.insert(.frozen) }
        if let record = allocation.record {
            if record.sharing.contains(.shareable) { status.flags.insert(.shareable) }
            if record.kind == .memfd { status.flags.insert(.shared) }
            status.maps = mapsOut(allocation)
        }
        return status
    }

    /// - Parameter cursor: A shard, where the page begins. The next one is in `caller.nextCursor`.
    func list<Reply: ReplyWriter & ~Copyable>(
        _ prefix: RawSpan, _ cursor: UInt64, _ count: UInt64, _ sorted: Bool,
        _ caller: inout Caller, _ reply: inout Reply
    ) -> Outcome {
        prefix.withUnsafeBytes { prefix in
            if sorted, cursor == 0, budget.allocationCount <= Thresholds.sortedMax {
                caller.cost += Registry.shardCount * Caller.Cost.slot
                if listSorted(prefix, &caller, &reply) { return }
            }
            let wanted = count == 0 ? Registry.pageEntries : min(count, Registry.pageEntries)
            var entries: UInt64 = 0
            var slots = 0
            var shard = Int(cursor)
            reply.beginList()
            while shard < Registry.shardCount, entries < wanted, slots < Thresholds.pageSlots {
                slots += visit(shard, prefix) { allocation in
                    reply.listEntry(
                        name: allocation.name, type: allocation.type, size: allocation.size)
                    entries += 1
                }
                shard += 1
            }
            caller.cost += slots * Caller.Cost.slot
            caller.nextCursor = shard < Registry.shardCount ? UInt16(shard) : 0
            reply.endList(nextCursor: UInt64(caller.nextCursor))
        }
        return .answered
    }

    /// Calls back for each named allocation of a shard that starts with `prefix`, under its lock.
    ///
    /// - Returns: Slots looked at.
    private func visit(
        _ shard: Int, _ prefix: UnsafeRawBufferPointer, _ body: (Allocation) -> Void
    ) -> Int {
        let lock = lock(of: shard)
        lock.lock()
        defer { lock.unlock() }
        let slots = shards[shard].table.slotCount
        for index in 0..<slots {
            guard let allocation = shards[shard].table.allocation(at: index) else { continue }
            guard allocation.name.starts(with: prefix) else { continue }
            body(allocation)
        }
        return slots
    }

    /// Lists all names in their order.
    ///
    /// - Returns: False: there is no memory to sort them in, and none was told.
    private func listSorted<Reply: ReplyWriter & ~Copyable>(
        _ prefix: UnsafeRawBufferPointer, _ caller: inout Caller, _ reply: inout Reply
    ) -> Bool {
        // At most 4,096 names; more that come meanwhile are told as well, and are few.
        var names = Output(capacity: 4096)
        var table = Output(capacity: 4096)
        for shard in 0..<Registry.shardCount {
            _ = visit(shard, prefix) { allocation in
                let name = allocation.name
                let entry = ListEntry(
                    start: names.count, nameSize: name.count, type: allocation.type,
                    size: allocation.size)
                table.reserve(MemoryLayout<ListEntry>.stride)
                    .initializeMemory(as: ListEntry.self, to: entry)
                if let start = name.baseAddress { names.append(start, name.count) }
            }
        }
        guard !names.isLost, !table.isLost else { return false }
        let count = table.count / MemoryLayout<ListEntry>.stride
        let entries = table.base.bindMemory(to: ListEntry.self, capacity: count)
        // Swift's sort takes memory that it can't do without; this one does without.
        smalloc_sort(
            entries, count, MemoryLayout<ListEntry>.stride, compareListEntries,
            names.base)
        reply.beginList()
        for index in 0..<count {
            let entry = entries[index]
            reply.listEntry(
                name: entry.name(in: names.base), type: entry.type, size: entry.size)
        }
        caller.cost += count * Caller.Cost.sorting
        reply.endList(nextCursor: 0)
        return true
    }

    /// Users that `stats` tells of one by one.
    private static let holdersMax = 16

    func stats<Reply: ReplyWriter & ~Copyable>(
        _ caller: inout Caller, _ reply: inout Reply
    ) -> Outcome {
        caller.cost += Caller.Cost.statistics
        func total(_ key: Counters.Key) -> UInt64 { counters.reduce(0) { $0 &+ $1.value(key) } }
        reply.beginStats()
        reply.statistic("pid", UInt64(getpid()))
        reply.statistic("uptime_seconds", UInt64(age))
        reply.statistic("loops", UInt64(counters.count))
        reply.statistic("allocations", budget.allocationCount)
        reply.statistic("memory_used_bytes", budget.usedSize)
        reply.statistic("memory_warm_bytes", budget.pooledSize)
        reply.statistic("memory_held_bytes", mappings.shares?.heldSize ?? 0)
        reply.statistic("memory_returning_bytes", UInt64(mappings.pendingSize))
        reply.statistic("memory_scattered_bytes", budget.fragmentedSize)
        let accepted = total(.connectionsAccepted)
        reply.statistic("connections", accepted &- total(.connectionsClosed))
        reply.statistic("connections_accepted", accepted)
        reply.statistic("connections_refused", total(.connectionsRefused))
        reply.statistic("bytes_read", total(.bytesRead))
        reply.statistic("bytes_written", total(.bytesWritten))
        reply.statistic("bytes_zero_copy", 0)
        reply.statistic("errors", total(.errors))
        reply.statistic("pauses", total(.pauses))
        reply.statistic("idle_timeouts", total(.idleTimeouts))
        reply.statistic("request_timeouts", total(.requestTimeouts))
        let longest = counters.map { $0.value(.longestTurnMicroseconds) }.max() ?? 0
        reply.statistic("loop_longest_turn_us", longest)
        for (operation, key) in Registry.operationKeys {
            reply.statistic(key, counters.reduce(0) { $0 &+ $1.value(operation) })
        }
        reply.statistic("limit_memory_bytes", limits.memorySizeMax)
        reply.statistic("limit_length_bytes", limits.lengthSizeMax)
        reply.statistic("limit_allocations", limits.allocationsMax)
        reply.statistic("limit_connections", limits.connectionsMax)
        reply.statistic("limit_frame_bytes", limits.frameSizeMax)
        reply.statistic("limit_requests_in_flight", limits.requestsInFlightMax)
        reply.statistic("limit_handles", limits.handlesMax)
        reply.statistic("limit_output_bytes", limits.outputSizeMax)
        reply.statistic("limit_line_bytes", limits.lineSizeMax)
        reply.statistic("limit_name_bytes", limits.nameSizeMax)
        reply.statistic("limit_idle_milliseconds", limits.idleTimeoutMilliseconds)
        reply.statistic("limit_request_milliseconds", limits.requestTimeoutMilliseconds)
        reply.statistic("limit_waits", UInt64(Limits.waitsMax))
        reply.statistic("limit_shares", UInt64(mappings.shares?.countMax ?? 0))
        mappings.shares?.forEachHolder(atMost: Registry.holdersMax) { owner, size in
            let user =
                switch owner {
                case nil: "other"
                case Session.noOwner?: "none"
                case let owner?: "\(owner)"
                }
            reply.statistic("memory_held_bytes_uid_\(user)", size)
        }
        reply.endStats()
        return .answered
    }

    private static let operationKeys: [(Operation, String)] = [
        (.hello, "requests_hello"), (.ping, "requests_ping"), (.alloc, "requests_alloc"),
        (.open, "requests_open"), (.close, "requests_close"), (.stat, "requests_stat"),
        (.list, "requests_list"), (.read, "requests_read"), (.write, "requests_write"),
        (.fill, "requests_fill"), (.copy, "requests_copy"), (.dispose, "requests_dispose"),
        (.truncate, "requests_truncate"), (.rename, "requests_rename"),
        (.stats, "requests_stats"), (.quit, "requests_quit"), (.cancel, "requests_cancel"),
        (.map, "requests_map"), (.unmap, "requests_unmap"), (.atomic, "requests_atomic"),
        (.wait, "requests_wait"), (.notify, "requests_notify"), (.freeze, "requests_freeze"),
        (.watch, "requests_watch"),
    ]
}

/// One entry of a sorted listing: where its name stands among all of them.
private struct ListEntry {
    var start: Int
    var nameSize: Int
    var type: ElementType
    var size: UInt64

    func name(in names: UnsafeRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: names + start, count: nameSize)
    }
}

/// Orders two entries by their names, as bytes.
private func compareListEntries(
    _ left: UnsafeRawPointer?, _ right: UnsafeRawPointer?, _ names: UnsafeMutableRawPointer?
) -> Int32 {
    guard let left, let right, let names else { return 0 }
    let first = left.load(as: ListEntry.self).name(in: names)
    let second = right.load(as: ListEntry.self).name(in: names)
    if let one = first.baseAddress, let other = second.baseAddress {
        let order = memcmp(one, other, min(first.count, second.count))
        if order != 0 { return order }
    }
    return first.count < second.count ? -1 : first.count > second.count ? 1 : 0
}
