// The open that waits: until a name is given to an allocation, or until that is frozen.
// protocol/spec.md § open is the source of every check and its order.

internal import SmallocSystem
internal import SmallocWire

extension Registry {
    /// Opens an allocation, or waits until there is one of that name.
    ///
    /// The search and the beginning of the wait are one step under the shard's lock: a name that is
    /// given after the search finds the wait.
    @inline(never)
    func awaitName<Reply: ReplyWriter & ~Copyable>(
        _ name: RawSpan, _ flags: OpenFlags, _ milliseconds: UInt64, _ opensHandle: Bool,
        _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        guard Name.isValid(name) else { throw .invalidName }
        let aim = Wait.Aim(flags, opensHandle: opensHandle)
        let bucket = bucket(of: name.bytes)
        let lock = lock(of: bucket.shard)
        while true {
            lock.lock()
            guard let found = shards[bucket.shard].table.find(name.bytes, tag: bucket.tag) else {
                defer { lock.unlock() }
                return try beginAwaiting(name, aim, milliseconds, bucket.shard, &caller)
            }
            found.retain()
            if aim.isFrozen {
                guard found.lock.tryLock() else {
                    // A thread that works on one allocation must not hold up all of its shard.
                    lock.unlock()
                    wait(for: found)
                    release(found)
                    continue
                }
                let isFrozen = found.isFrozenForGood
                found.lock.unlock()
                guard isFrozen else {
                    defer {
                        lock.unlock()
                        release(found)
                    }
                    return try beginAwaiting(name, aim, milliseconds, bucket.shard, &caller)
                }
            }
            lock.unlock()
            guard opensHandle else {
                release(found)
                reply.ok()
                return .answered
            }
            do throws(SmallocError) {
                return try open(found, &caller, &reply)
            } catch {
                // It was disposed of a moment ago: another one may be to come.
                if error.status != .noData { throw error }
            }
        }
    }

    /// Begins to wait for a name, under the lock of its shard.
    private func beginAwaiting(
        _ name: RawSpan, _ aim: Wait.Aim, _ milliseconds: UInt64, _ shard: Int,
        _ caller: inout Caller
    ) throws(SmallocError) -> Outcome {
        guard milliseconds > 0 else { throw .noData }
        let wait = try makeWait(aim, name.byteCount, milliseconds, &caller)
        name.withUnsafeBytes {
            UnsafeMutableRawBufferPointer(mutating: wait.name).copyMemory(from: $0)
        }
        waits.append(wait)
        shards[shard].awaits += 1
        return .later(Pending(.event(wait)))
    }

    /// An allocation has got a name that is waited for: ends the waits.
    ///
    /// Under the lock of the shard. Each wait gets a reference, as a handle would have it. Many are
    /// left to the reclaiming thread.
    @inline(never)
    func tellAwaiting(
        _ name: UnsafeRawBufferPointer, _ shard: Int, _ allocation: Allocation, isFrozen: Bool
    ) {
        let last = waits.number
        if endAwaiting(name, shard, allocation, isFrozen, through: last) { return }
        let copy = Array(name)
        allocation.retain()
        mappings.enqueue(
            ReclaimJob { [self] in
                let lock = lock(of: shard)
                lock.lock()
                let isDone = copy.withUnsafeBytes {
                    endAwaiting($0, shard, allocation, isFrozen, through: last)
                }
                lock.unlock()
                if isDone { release(allocation) }
                return isDone
            })
    }

    /// Ends waits for a name up to a number, under the lock of its shard.
    ///
    /// - Returns: Whether none of them is left.
    private func endAwaiting(
        _ name: UnsafeRawBufferPointer, _ shard: Int, _ allocation: Allocation, _ isFrozen: Bool,
        through last: UInt64
    ) -> Bool {
        var left = Thresholds.endedAtOnceMax
        for wantsFrozen in isFrozen ? [false, true] : [false] {
            while let wait = waits.first(awaiting: name, isFrozen: wantsFrozen),
                wait.fields.pointee.number <= last
            {
                guard left > 0 else { return false }
                left -= 1
                takeOutAwaiting(wait, shard)
                allocation.retain()
                wait.fields.pointee.allocation = allocation
                wait.endElsewhere(.appeared)
            }
        }
        return true
    }

    /// An allocation was frozen: ends the waits for that, if there are any.
    ///
    /// With a reference, and no lock.
    func tellFrozen(_ allocation: Allocation) {
        allocation.lock.lock()
        let isTold = allocation.isFrozenForGood && !allocation.isAnonymous
        let bucket = bucket(of: allocation.name)
        allocation.lock.unlock()
        guard isTold else { return }
        let lock = lock(of: bucket.shard)
        lock.lock()
        defer { lock.unlock() }
        // Renamed meanwhile: whoever has done so tells of it. Else the name stays as long as the
        // shard's lock is held.
        guard shards[bucket.shard].awaits > 0,
            shards[bucket.shard].table.contains(allocation, tag: bucket.tag)
        else { return }
        tellAwaiting(allocation.name, bucket.shard, allocation, isFrozen: true)
    }

    /// Takes a wait for a name out of the queues, under the lock of its shard.
    private func takeOutAwaiting(_ wait: Wait, _ shard: Int) {
        waits.remove(wait)
        shards[shard].awaits -= 1
    }

    /// As `end`, of a wait for a name.
    func endAwaiting(_ wait: Wait, _ result: Wait.End) -> Bool {
        let shard = bucket(of: wait.name).shard
        let lock = lock(of: shard)
        lock.lock()
        defer { lock.unlock() }
        guard wait.fields.pointee.isQueued else { return false }
        takeOutAwaiting(wait, shard)
        wait.end(result)
        return true
    }

    /// Answers a wait for a name that has ended, with a handle if it is to have one.
    ///
    /// - Throws: `.noData` where the time is up, `.cancelled`; `.handleLimit`, `.memoryLimit`,
    ///   `.outOfMemory`.
    func answer<Reply: ReplyWriter & ~Copyable>(
        _ wait: Wait, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) {
        switch wait.fields.pointee.result {
        case .appeared: break
        case .cancelled: throw .cancelled
        case .notified, .timeout, .disposed, .events: throw .noData
        }
        guard wait.fields.pointee.aim.opensHandle else { return reply.ok() }
        guard UInt64(caller.handles.count) < limits.handlesMax else { throw .handleLimit }
        if let error = caller.handles.reserve(budget) { throw error }
        let allocation = wait.allocation
        // The handle has it now.
        wait.fields.pointee.allocation = nil
        let handle = caller.handles.open(allocation)
        reply.opened(handle: handle, type: allocation.type, size: allocation.size)
    }
}
