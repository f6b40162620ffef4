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
        // To be asked about is no use.
        defer { if target.handle == 0 { releaseQuietly(allocation) } }
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
            if allocation.hasDescription { status.flags.insert(.described) }
            status.shape = allocation.shape
        }
        if allocation.flags.contains(.frozen) { status.flags.insert(.frozen) }
        if let record = allocation.record {
            if record.sharing.contains(.shareable) { status.flags.insert(.shareable) }
            if record.kind == .memfd { status.flags.insert(.shared) }
            status.maps = mapsOut(allocation)
        }
        if allocation.isLeased {
            status.flags.insert(.leased)
            status.lease = leaseNumbers(allocation, isUsed: handles > 0 || status.maps != .none)
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
            caller.nextCursor = shard < Registry.shardCount ? UInt32(shard) : 0
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

    func stats<Reply: ReplyWriter & ~Copyable>(
        _ caller: inout Caller, _ reply: inout Reply
    ) -> Outcome {
        caller.cost += Caller.Cost.statistics
        reply.beginStats()
        // The writer can't be lent to a closure that is called back.
        var statistics: [(String, UInt64)] = []
        statistics.reserveCapacity(96)
        forEachStatistic { statistics.append(($0, $1)) }
        for (key, value) in statistics { reply.statistic(key, value) }
        reply.endStats()
        return .answered
    }
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
