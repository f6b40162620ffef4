// The only entry: every request of either mode and every frame goes through `execute`. What holds
// for all of them stands here.

internal import SmallocWire

extension Registry {
    /// Does what a request asks: answers it, or says how the answer comes to be.
    ///
    /// Never traps, whatever the request says. Counts the request, and its error. Cost: one lock of
    /// the allocation by handle, one of a shard more by name. Where the request is known when this
    /// is compiled (a plain read, say) the switch is not there.
    @inline(__always)
    func execute<Reply: ReplyWriter & ~Copyable>(
        _ request: borrowing Request, _ caller: inout Caller, _ counters: Counters,
        _ reply: inout Reply
    ) -> Outcome {
        if let operation = request.operation {
            counters.count(operation)
            caller.requests &+= 1
        }
        do throws(SmallocError) {
            let outcome = try perform(request, &caller, &reply)
            // Such a request will be here once more, and is counted then.
            if outcome.servesAgain, let operation = request.operation {
                counters.uncount(operation)
                caller.requests &-= 1
            }
            return outcome
        } catch {
            if error.status == .noData {
                return executeAgain(error, request, &caller, counters, &reply)
            }
            refuse(error, &caller, counters, &reply)
            return .answered
        }
    }

    /// The same once more, if a request found nothing because its name was given to another
    /// allocation while this one was being locked.
    ///
    /// It is counted already. Each time takes one more change by another thread at the same moment,
    /// so there are few.
    @inline(never)
    private func executeAgain<Reply: ReplyWriter & ~Copyable>(
        _ first: SmallocError, _ request: borrowing Request, _ caller: inout Caller,
        _ counters: Counters, _ reply: inout Reply
    ) -> Outcome {
        var error = first
        while isOvertaken(request, caller) {
            do throws(SmallocError) {
                let outcome = try perform(request, &caller, &reply)
                if outcome.servesAgain, let operation = request.operation {
                    counters.uncount(operation)
                    caller.requests &-= 1
                }
                return outcome
            } catch let other {
                error = other
                if error.status != .noData { break }
            }
        }
        refuse(error, &caller, counters, &reply)
        return .answered
    }

    /// Answers a request with an error, also one that was not understood.
    @inline(never)
    func refuse<Reply: ReplyWriter & ~Copyable>(
        _ error: SmallocError, _ caller: inout Caller, _ counters: Counters, _ reply: inout Reply
    ) {
        counters.refuse(error.status)
        caller.cost += Caller.Cost.refusal
        reply.error(error)
    }

    @inline(__always)
    private func perform<Reply: ReplyWriter & ~Copyable>(
        _ request: borrowing Request, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        switch request {
        case .read(let target, let start, let count, let unit):
            return try read(target, start, count, unit, &caller, &reply)
        case .write(let target, let start, let payload, let unit):
            return try write(target, start, payload, unit, &caller, &reply)
        case .readRanges(let target, let ranges):
            return try readRanges(target, ranges, &caller, &reply)
        case .writeRanges(let target, let ranges, let data):
            return try writeRanges(target, ranges, data, &caller, &reply)
        case .receive(let target, let start, let ranges, let dataSize):
            return try receive(target, start, ranges, dataSize, &caller)
        case .fill(let target, let start, let count, let payload, let unit):
            return try fill(target, start, count, payload, unit, &caller, &reply)
        case .copy(let source, let sourceStart, let dest, let destStart, let count, let unit):
            return try copy(source, sourceStart, dest, destStart, count, unit, &caller, &reply)
        case .alloc(
            let name, let type, let typeWord, let length, let unit, let flags, let description):
            guard flags.contains(.described) else {
                return try alloc(name, type, typeWord, length, unit, flags, &caller, &reply)
            }
            return try allocDescribed(
                name, type, typeWord, length, unit, flags, description, &caller, &reply)
        case .open(let name): return try open(name, &caller, &reply)
        case .await(let name, let flags, let milliseconds, let opensHandle):
            return try awaitName(name, flags, milliseconds, opensHandle, &caller, &reply)
        case .close(let handle): return try close(handle, &caller, &reply)
        case .dispose(let target): return try dispose(target, &caller, &reply)
        case .truncate(let target, let length, let unit):
            return try truncate(target, length, unit, &caller, &reply)
        case .rename(let target, let newName, let flags):
            return try rename(target, newName, flags, &caller, &reply)
        case .map(let target, let flags): return try map(target, flags, &caller, &reply)
        case .freeze(let target): return try freeze(target, &caller, &reply)
        case .unmap(let target): return try unmap(target, &caller, &reply)
        case .atomic(let target, let start, let action, let values, let unit):
            return try atomic(target, start, action, values, unit, &caller, &reply)
        case .wait(let target, let start, let value, let milliseconds, let unit):
            return try wait(target, start, value, milliseconds, unit, &caller, &reply)
        case .notify(let target, let start, let count, let unit):
            return try notify(target, start, count, unit, &caller, &reply)
        case .cancel(let cookie): return cancel(cookie, &caller, &reply)
        case .watch(let prefix, let cursor, let milliseconds):
            return try watch(prefix, cursor, milliseconds, &caller, &reply)
        case .stat(let target): return try stat(target, &caller, &reply)
        case .list(let prefix, let cursor, let count, let sorted):
            guard cursor < UInt64(Registry.shardCount) else {
                throw .invalidArgument("no page starts at this cursor")
            }
            return list(prefix, cursor, count, sorted, &caller, &reply)
        case .stats: return stats(&caller, &reply)
        case .clients(let cursor, let count):
            return try clients(cursor, count, &caller, &reply)
        case .slowlog(let count): return slowlog(count, &caller, &reply)
        case .hello:
            let maps = caller.takesDescriptors && mappings.shares != nil
            reply.hello(
                limits.snapshot,
                features: maps ? Limits.features : Limits.features & ~Feature.map.bits,
                sharesMax: maps ? UInt64(mappings.shares?.countMax ?? 0) : 0)
            return .answered
        case .ping:
            reply.pong()
            return .answered
        case .quit:
            reply.bye()
            caller.isEnding = true
            return .answered
        case .help:
            // Text mode answers it itself: there is nothing in the registry to ask.
            throw .malformed("help is a verb of text mode")
        }
    }
}
