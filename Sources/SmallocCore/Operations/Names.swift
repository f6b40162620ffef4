// Operations that find, name and end allocations.
// protocol/spec.md § Operations is the source of every check and its order.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    /// Whether a name may be given: the grammar's, and within the limit.
    @inline(__always)
    func isAllowed(_ name: RawSpan) -> Bool {
        UInt64(name.byteCount) <= limits.nameSizeMax && Name.isValid(name)
    }

    func taken(_ name: RawSpan) -> Bool {
        guard name.byteCount > 0, let other = find(name.bytes) else {
            return false
        }
        releaseQuietly(other)
        return true
    }

    /// Puts an allocation under its name.
    ///
    /// Its reference is the registry's from then on.
    @inline(__always)
    func insert(
        _ allocation: Allocation, _ name: UnsafeRawBufferPointer
    ) -> NameTable.Added {
        let bucket = bucket(of: name)
        let lock = lock(of: bucket.shard)
        lock.lock()
        let added = shards[bucket.shard].table.add(allocation, name, tag: bucket.tag)
        if added == .added, events.isKept || shards[bucket.shard].awaits > 0 {
            tellAdded(allocation, name, bucket.shard)
        }
        publish(bucket.shard)
        lock.unlock()
        return added
    }

    /// Tells those that watch, and those that wait for this name.
    ///
    /// Under the lock of its shard.
    @inline(never)
    private func tellAdded(
        _ allocation: Allocation, _ name: UnsafeRawBufferPointer, _ shard: Int
    ) {
        events.add(.allocated, name)
        if shards[shard].awaits > 0 { tellAwaiting(name, shard, allocation, isFrozen: false) }
    }

    func open<Reply: ReplyWriter & ~Copyable>(
        _ name: RawSpan, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(
            Reference(handle: 0, name: name), caller, missing: .noData)
        return try open(allocation, &caller, &reply)
    }

    /// Opens a handle to what was found, and takes over the caller's reference.
    @inline(__always)
    func open<Reply: ReplyWriter & ~Copyable>(
        _ allocation: Allocation, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        guard UInt64(caller.handles.count) < limits.handlesMax else {
            release(allocation)
            throw .handleLimit
        }
        if let error = caller.handles.reserve(budget) {
            release(allocation)
            if error == .memoryLimit, let outcome = waitForMemory(0, &caller) { return outcome }
            throw error
        }
        caller.memoryWaits = 0
        allocation.lock.lock()
        let size = allocation.size
        let isDisposed = allocation.flags.contains(.disposed)
        allocation.lock.unlock()
        guard !isDisposed else {
            release(allocation)
            throw .noData
        }
        let handle = caller.handles.open(allocation)
        reply.opened(handle: handle, type: allocation.type, size: size)
        return .answered
    }

    func close<Reply: ReplyWriter & ~Copyable>(
        _ handle: UInt32, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        guard let allocation = caller.handles.close(handle, budget) else { throw .noData }
        disposeIfAnonymous(allocation)
        release(allocation)
        reply.ok()
        return .answered
    }

    func dispose<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        if target.handle == 0 {
            guard dispose(named: target.name.bytes) else {
                throw Name.isValid(target.name) ? .noDataToDispose : .invalidName
            }
        } else {
            // A refused request changes nothing: the handle of what is gone stays open.
            guard let allocation = caller.handles[target.handle], disposeNow(allocation) else {
                throw .noDataToDispose
            }
            _ = caller.handles.close(target.handle, budget)
            // The handle's reference is ours now.
            release(allocation)
        }
        reply.ok()
        return .answered
    }

    /// As `disposeNow`, by name: one hash and one lock of the shard.
    ///
    /// False: there is none.
    @inline(__always)
    private func dispose(
        named name: UnsafeRawBufferPointer
    ) -> Bool {
        let bucket = bucket(of: name)
        let lock = lock(of: bucket.shard)
        while true {
            lock.lock()
            let found = shards[bucket.shard].table.take(name, tag: bucket.tag)
            // No thread finds it any more, and those that had found it hold references.
            let isUnshared = found.map { $0.isUnshared && !$0.isLeased } ?? false
            if let found, !isUnshared, !found.lock.tryLock() {
                putBack(found, bucket, lock)
                continue
            }
            var cut: Mapping?
            if let found, !isUnshared {
                cut = found.endForAll(mappings)
                found.lock.unlock()
            }
            if found != nil { events.add(.disposed, name) }
            publish(bucket.shard)
            lock.unlock()
            if let cut { mappings.give(forGood: cut) }
            guard let found else { return false }
            budget.removeAllocation()
            if isUnshared {
                budget.unchargeHeap(found.destroy(mappings: mappings))
            } else {
                if found.isLeased { endLease(found) }
                endWaits(on: found)
                releaseQuietly(found)
            }
            return true
        }
    }

    /// Puts an allocation back that was taken out of its table, gives the shard's lock back, and
    /// waits until the allocation's is free: a thread that works on one allocation must not hold up
    /// all names of its shard.
    @inline(never)
    private func putBack(
        _ allocation: Allocation, _ bucket: (shard: Int, tag: UInt64), _ lock: ByteLock
    ) {
        let isBack = shards[bucket.shard].table.insert(allocation, tag: bucket.tag)
        precondition(isBack, "a table has no room for what was just taken out of it")
        publish(bucket.shard)
        allocation.retain()
        lock.unlock()
        wait(for: allocation)
        releaseQuietly(allocation)
    }

    /// Waits until another thread has done what it does under the allocation's lock.
    ///
    /// With a reference, and without the lock of a shard.
    func wait(for allocation: Allocation) {
        allocation.lock.lock()
        allocation.lock.unlock()
    }

    /// Ends an allocation: its name is free, every handle to it is dead.
    ///
    /// Large memory goes at once, or with the last transfer or work that is in the midst of it;
    /// small memory goes with the last reference.
    ///
    /// The caller holds a reference and gives it back after this.
    ///
    /// - Parameter moment: Only if its lease is over at this moment, and nothing uses it.
    /// - Returns: False: another thread was faster, or it is used.
    @discardableResult
    func disposeNow(_ allocation: Allocation, ifUnusedAt moment: UInt64? = nil) -> Bool {
        var cut: Mapping?
        while true {
            // The name may change until both locks are held, the shard's first.
            allocation.lock.lock()
            let isDisposed = allocation.flags.contains(.disposed)
            let isAnonymous = allocation.isAnonymous
            let bucket = bucket(of: allocation.name)
            // An anonymous one goes with its handle.
            if isAnonymous, moment != nil {
                allocation.lock.unlock()
                return false
            }
            if isAnonymous, !isDisposed { cut = allocation.endForAll(mappings, ownReferences: 2) }
            allocation.lock.unlock()
            if isDisposed { return false }
            if isAnonymous { break }
            let lock = lock(of: bucket.shard)
            lock.lock()
            // No request finds it by its name meanwhile.
            if let moment, !isUnused(allocation, at: moment) {
                lock.unlock()
                return false
            }
            let removed = shards[bucket.shard].table.remove(allocation, tag: bucket.tag)
            if removed, !allocation.lock.tryLock() {
                putBack(allocation, bucket, lock)
                continue
            }
            if removed {
                cut = allocation.endForAll(mappings, ownReferences: 2)
                events.add(.disposed, allocation.name)
                allocation.lock.unlock()
            }
            publish(bucket.shard)
            lock.unlock()
            if removed { break }
        }
        finishDispose(allocation, cut)
        return true
    }

    /// For handles that close: an anonymous allocation has but one, and goes with it.
    func disposeIfAnonymous(_ allocation: Allocation) {
        allocation.lock.lock()
        let isAnonymous = allocation.isAnonymous
        allocation.lock.unlock()
        if isAnonymous { disposeNow(allocation) }
    }

    func truncate<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ length: UInt64, _ unit: Unit,
        _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noDataToTruncate)
        defer { letGo(allocation, target) }
        var cut: Mapping?
        var isDone = false
        defer {
            if let cut { mappings.give(forGood: cut) }
            if isDone { endWaits(on: allocation) }
        }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noDataToTruncate)
        if allocation.flags.contains(.frozen) {
            throw allocation.record?.sharing.contains(.freezing) == true ? .busy : .frozen
        }
        let size = WireSize(length, unit, allocation.type)
        guard size.bytes <= limits.lengthSizeMax else { throw .truncateOverMaxLength }
        guard size.bytes <= allocation.size else { throw .truncateOverLength }
        guard size.bytes % UInt64(allocation.type.size) == 0 else {
            throw .invalidArgument("the size is not a whole number of elements")
        }
        let isShorter = size.bytes < allocation.size
        allocation.size = size.bytes
        mappings.tellSize(of: allocation)
        cut = allocation.takeTail(mappings)
        isDone = true
        if isShorter, !allocation.isAnonymous { events.add(.truncated, allocation.name) }
        reply.done(size: size.bytes)
        return .answered
    }

    func rename<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ newName: RawSpan, _ flags: RenameFlags,
        _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        guard isAllowed(newName) else { throw .invalidName }
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        let replaces = flags.contains(.replace)
        try newName.withUnsafeBytes { (newName) throws(SmallocError) in
            while try !renameStep(allocation, to: newName, replaces: replaces) {}
        }
        reply.ok()
        return .answered
    }

    /// One try to rename: false if the name changed between looking at it and locking its shard, or
    /// another thread had an allocation's lock.
    ///
    /// The locks of the shards come first, in their order. Those of the allocations are not waited
    /// for meanwhile.
    private func renameStep(
        _ allocation: Allocation, to newName: UnsafeRawBufferPointer, replaces: Bool
    ) throws(SmallocError) -> Bool {
        var replaced: Allocation?
        var cut: Mapping?
        // After the locks were given back: memory may go to the system.
        defer { if let replaced { finishDispose(replaced, cut) } }
        allocation.lock.lock()
        let old = bucket(of: allocation.name)
        allocation.lock.unlock()
        let new = bucket(of: newName)
        let first = lock(of: min(old.shard, new.shard))
        let second = lock(of: max(old.shard, new.shard))
        first.lock()
        if old.shard != new.shard { second.lock() }
        let found = shards[new.shard].table.find(newName, tag: new.tag)
        // Only what is replaced is locked with it.
        let other = replaces ? found ?? allocation : allocation
        guard Registry.tryLockPair(allocation, other) else {
            other.retain()
            if old.shard != new.shard { second.unlock() }
            first.unlock()
            wait(for: allocation)
            wait(for: other)
            releaseQuietly(other)
            return false
        }
        defer {
            Registry.unlockPair(allocation, other)
            publish(old.shard)
            publish(new.shard)
            if old.shard != new.shard { second.unlock() }
            first.unlock()
        }
        try checkAlive(allocation, .noData)
        let isAnonymous = allocation.isAnonymous
        let current = bucket(of: allocation.name)
        guard current.shard == old.shard, current.tag == old.tag else { return false }
        if found == allocation { return true }
        guard found == nil || replaces else { throw .alreadyExists }
        if found == nil {
            guard shards[new.shard].table.insert(allocation, tag: new.tag) else {
                throw .outOfMemory
            }
        }
        let before = allocation.heapCharge(mappings.blocks)
        let isRenamed = allocation.rename(newName, mappings.blocks) {
            addRename(of: allocation, to: newName, replaces: found != nil)
        }
        guard isRenamed else {
            if found == nil { _ = shards[new.shard].table.remove(allocation, tag: new.tag) }
            throw .outOfMemory
        }
        budget.correct(from: before, to: allocation.heapCharge(mappings.blocks))
        // From here on nothing fails.
        if let found {
            shards[new.shard].table.replace(found, with: allocation, tag: new.tag)
            cut = found.endForAll(mappings)
            replaced = found
        }
        if shards[new.shard].awaits > 0 {
            let isFrozen = allocation.isFrozenForGood
            tellAwaiting(newName, new.shard, allocation, isFrozen: isFrozen)
        }
        // Found by identity: the table never looks at the name here. With the same shard and tag
        // both slots are equal, and it does not matter which of them goes.
        if !isAnonymous { _ = shards[old.shard].table.remove(allocation, tag: old.tag) }
        return true
    }

    /// Tells of an allocation that is about to have another name.
    ///
    /// One that had none is told of as if it was made, or as if it had the new name before.
    private func addRename(
        of allocation: Allocation, to newName: UnsafeRawBufferPointer, replaces: Bool
    ) {
        let isAnonymous = allocation.isAnonymous
        if isAnonymous, !replaces { return events.add(.allocated, newName) }
        events.add(
            replaces ? .replaced : .renamed, isAnonymous ? newName : allocation.name,
            newName: newName)
    }

    /// Gives back what an allocation held that no table has any more, and its table's reference.
    private func finishDispose(_ allocation: Allocation, _ cut: Mapping?) {
        if let cut { mappings.give(forGood: cut) }
        budget.removeAllocation()
        if allocation.isLeased { endLease(allocation) }
        endWaits(on: allocation)
        releaseQuietly(allocation)
    }
}
