// Operations that tell of clients and of what they did: clients, slowlog.
// protocol/spec.md § Operations is the source.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    /// Connections of a page.
    private static let clientsOfPage: UInt64 = 256
    /// Slots that are looked at for a page.
    private static let clientSlots = 4096
    /// The user that the daemon runs as.
    private static let ownUser = geteuid()

    /// Whether a user may know of all clients, and all names: the daemon's own, and root, who can
    /// read its memory anyway.
    static func isPrivileged(_ user: UInt32) -> Bool { user == 0 || user == ownUser }

    /// Tells a page of the connections that the caller may know of.
    ///
    /// - Parameter cursor: The loop's number above 24 bits of a slot; the next one is in
    ///   `caller.nextCursor`.
    func clients<Reply: ReplyWriter & ~Copyable>(
        _ cursor: UInt64, _ count: UInt64, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        guard cursor <= UInt64(UInt32.max), cursor >> 24 < UInt64(clientTables.count) else {
            throw .invalidArgument("no page starts at this cursor")
        }
        let wanted = count == 0 ? Registry.clientsOfPage : min(count, Registry.clientsOfPage)
        let isPrivileged = Registry.isPrivileged(caller.owner)
        let (owner, own) = (caller.owner, caller.record)
        // Others are told what their last turns came to; this one is in the midst of its own.
        own?[.requests] = caller.requests
        own?[.handles] = UInt64(caller.handles.count)
        let now = Clock.now
        var (loop, slot) = (Int(cursor >> 24), Int(cursor & 0xFF_FFFF))
        var (entries, looked) = (UInt64(0), 0)
        reply.beginList()
        while loop < clientTables.count, entries < wanted, looked < Registry.clientSlots {
            // Copied, since a writer can't be lent to a closure that is called back.
            var found: [ClientRow] = []
            let next = clientTables[loop].forEach(from: slot) { record in
                let isSeen =
                    isPrivileged || record == own
                    || owner != Session.noOwner && record.owner == owner
                guard isSeen else { return true }
                if entries + UInt64(found.count) == wanted { return false }
                found.append(ClientRow(record.status(now: now)))
                return true
            }
            for row in found {
                row.software.withUnsafeBytes { software in
                    var status = row.status
                    status.software = software
                    reply.client(status)
                }
            }
            entries += UInt64(found.count)
            looked += ClientTable.slotsAtOnce
            slot = next ?? 0
            if next == nil { loop += 1 }
        }
        caller.cost += looked * Caller.Cost.slot + Int(entries) * Caller.Cost.connection
        caller.nextCursor = loop < clientTables.count ? UInt32(loop << 24 | slot) : 0
        reply.endList(nextCursor: UInt64(caller.nextCursor))
        return .answered
    }

    /// Tells the youngest slow requests; names only to whom they may be told.
    func slowlog<Reply: ReplyWriter & ~Copyable>(
        _ count: UInt64, _ caller: inout Caller, _ reply: inout Reply
    ) -> Outcome {
        let owner = caller.owner
        let tellsAll = Registry.isPrivileged(owner)
        var entries: [SlowRequest] = []
        var names: [[UInt8]] = []
        slowLog.forEach(
            count, tellsName: { tellsAll || owner != Session.noOwner && $0 == owner },
            { request in
                entries.append(request)
                names.append(Array(request.name))
            })
        reply.beginList()
        for (index, entry) in entries.enumerated() {
            names[index].withUnsafeBytes { name in
                var entry = entry
                entry.name = name
                reply.slowRequest(entry)
            }
        }
        caller.cost += entries.count * Caller.Cost.connection
        reply.endSlowLog(threshold: slowLog.threshold)
        return .answered
    }
}
