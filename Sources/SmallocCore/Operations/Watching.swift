// The operation that tells what has become of names.
// protocol/spec.md § Operations is the source of every check and its order.

internal import SmallocWire

extension Registry {
    /// Tells what has become of names that begin so since a moment, or waits until there is
    /// something to tell.
    func watch<Reply: ReplyWriter & ~Copyable>(
        _ prefix: RawSpan, _ cursor: UInt64, _ milliseconds: UInt64, _ caller: inout Caller,
        _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        try events.turnOn(budget)
        guard var number = events.number(cursor) else {
            reply.beginEvents()
            reply.endEvents(nextCursor: events.cursor(events.next), missed: .max)
            return .answered
        }
        // No name is longer, so no more of it is looked at.
        let prefix = UnsafeRawBufferPointer(
            rebasing: prefix.bytes.prefix(Limits.nameSizeMax + 1))
        if milliseconds > 0, !hasEvents(prefix, &number, &caller) {
            let wait = try makeWait(.events, prefix.count, milliseconds, &caller)
            wait.fields.pointee.number = number
            UnsafeMutableRawBufferPointer(mutating: wait.name).copyMemory(from: prefix)
            wait.fields.pointee.loop._withUnsafeGuaranteedRef { $0.insertWatch(wait) }
            return .later(Pending(.event(wait)))
        }
        tellEvents(prefix, from: number, &caller, &reply)
        return .answered
    }

    /// Whether there is something to tell; what is passed over has other names.
    private func hasEvents(
        _ prefix: UnsafeRawBufferPointer, _ number: inout EventRing.Number, _ caller: inout Caller
    ) -> Bool {
        // More may come while it looks: its wait goes on with those.
        var left = EventRing.capacity
        let looked = events.find(prefix, from: &number, atMost: &left)
        caller.cost += (EventRing.capacity - left) * Caller.Cost.event
        return looked == .found || looked == .missed
    }

    /// Tells a reply's share of the events from a number on: how many were missed, and what came
    /// after those.
    func tellEvents<Reply: ReplyWriter & ~Copyable>(
        _ prefix: UnsafeRawBufferPointer, from number: EventRing.Number, _ caller: inout Caller,
        _ reply: inout Reply
    ) {
        var number = number
        var (told, size) = (0, 0)
        var left = EventRing.capacity
        reply.beginEvents()
        let missed = events.passMissed(&number)
        while left > 0 {
            var part = min(left, Registry.eventsCopied)
            let before = part
            let looked = events.visit(prefix, from: &number, atMost: &part) { kind, name, newName in
                size += FrameReplies.eventHeadSize + name.count + newName.count
                guard told < Limits.eventsMax, size <= Limits.eventsSizeMax else { return false }
                reply.event(kind, name: name, newName: newName)
                told += 1
                return true
            }
            left -= before - part
            // What was overtaken meanwhile is told by the next reply, since it comes after these.
            guard looked == .enough else { break }
        }
        caller.cost += (EventRing.capacity - left) * Caller.Cost.event
        reply.endEvents(nextCursor: events.cursor(number), missed: missed)
    }

    /// Events that are told while the ring is locked: some ten microseconds.
    private static var eventsCopied: Int { 128 }
}
