// Operations that wait on a cell, end such a wait, or take it back.
// protocol/spec.md § Operations is the source of every check and its order.

internal import CSmalloc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    /// Compares a cell once, and waits if it holds what is expected.
    ///
    /// Both under the allocation's lock, which every notify takes, too: one that comes after the
    /// comparison finds the wait. A mapped client that notifies takes none: it is told of waits
    /// before the comparison, and looks for them after its store.
    func wait<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ value: borrowing Payload,
        _ milliseconds: UInt64, _ unit: Unit, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        let expected: UInt64
        switch value {
        case .bytes(let bytes): expected = UInt64(bytes.littleEndian32(at: 0))
        case .words(let words):
            try checkWaits(allocation.type)
            expected = try Registry.values(words, 1, allocation.type).last
        }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        try checkWaits(allocation.type)
        let extent = try cellExtent(allocation, start, unit)
        guard let cell = try allocation.cell(extent, .read) else { return later(allocation) }
        let load = UInt32(AtomicAction.load.rawValue)
        guard smalloc_atomic(cell, 4, false, load, 0, 0) == expected else {
            reply.waited(.differs)
            return .answered
        }
        guard milliseconds > 0 else {
            reply.waited(.timeout)
            return .answered
        }
        mappings.tellWaiters(on: allocation, areComing: true)
        defer { if !allocation.flags.contains(.waited) { mappings.tellWaiters(on: allocation) } }
        // A mapped client that did not see this yet may have changed it a moment ago.
        guard smalloc_atomic(cell, 4, false, load, 0, 0) == expected else {
            reply.waited(.differs)
            return .answered
        }
        let wait = try makeWait(.cell, extent.offset, milliseconds, &caller)
        wait.fields.pointee.allocation = allocation
        allocation.retain()
        waits.append(wait)
        return .later(Pending(.event(wait)))
    }

    /// Ends the oldest waits on a cell, as many as `count`, and wakes clients that have it mapped
    /// and sleep, if those are not enough.
    ///
    /// Many waits in parts, with the others' turn in between; those that began after the first part
    /// are not ended, or it could go on for ever.
    func notify<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ count: UInt64, _ unit: Unit,
        _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        do throws(SmallocError) {
            guard try notifySome(target, start, count, unit, &caller) else {
                return .later(Pending(.turn))
            }
        } catch {
            // What has been done of it is told, though the rest can't be.
            if caller.notified == 0 { throw error }
        }
        reply.count(caller.notified)
        caller.notified = 0
        return .answered
    }

    /// - Returns: Whether that was all; `caller.notified` tells how many so far.
    private func notifySome(
        _ target: borrowing Reference, _ start: UInt64, _ count: UInt64, _ unit: Unit,
        _ caller: inout Caller
    ) throws(SmallocError) -> Bool {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        try checkWaits(allocation.type)
        let extent = try cellExtent(allocation, start, unit)
        if caller.notified == 0 { caller.lastNotified = waits.number }
        for _ in 0..<Thresholds.endedAtOnceMax {
            guard caller.notified < count,
                let wait = waits.first(on: allocation, at: extent.offset),
                wait.fields.pointee.number <= caller.lastNotified
            else {
                wakeMapped(allocation, extent.offset, count, &caller)
                return true
            }
            takeOut(wait)
            wait.endElsewhere(.notified)
            caller.notified += 1
            caller.cost += Caller.Cost.wait
        }
        return caller.notified == count
    }

    /// Wakes threads of clients that sleep on a cell that they have mapped.
    ///
    /// Under the allocation's lock. All at once: there are as many as clients have threads.
    private func wakeMapped(
        _ allocation: Allocation, _ offset: Int, _ count: UInt64, _ caller: inout Caller
    ) {
        guard caller.notified < count, let record = allocation.record, record.kind == .memfd,
            record.sharing.contains(.handedOut), let base = record.base
        else { return }
        let left = Int32(clamping: count - caller.notified)
        caller.notified += UInt64(smalloc_futex_wake_shared(base + offset, left))
        caller.cost += Caller.Cost.wait
    }

    /// Ends the caller's own waits that have a cookie.
    func cancel<Reply: ReplyWriter & ~Copyable>(
        _ cookie: UInt64, _ caller: inout Caller, _ reply: inout Reply
    ) -> Outcome {
        var count: UInt64 = 0
        if let list = caller.waits {
            caller.cost += list.count * Caller.Cost.looked
            count = cancel(in: list) { $0.cookie == cookie }
        }
        reply.count(count)
        return .answered
    }

    /// Ends those of a connection's waits that are chosen; they are answered with the next
    /// `Session.deliver`.
    ///
    /// - Returns: How many; others may have ended a moment ago.
    func cancel(in list: WaitList, where isChosen: (Wait) -> Bool) -> UInt64 {
        var count: UInt64 = 0
        var next = list.firstWaiting
        while let wait = next {
            next = wait.fields.pointee.next
            guard isChosen(wait), end(wait, .cancelled) else { continue }
            list.moveToEnded(wait)
            count += 1
        }
        return count
    }

    private func checkWaits(_ type: ElementType) throws(SmallocError) {
        guard type == .int32 || type == .uint32 else {
            throw .invalidArgument("waits are for Int32 and Uint32")
        }
    }

    // MARK: Waits

    /// Makes a wait of the caller's, and charges it.
    ///
    /// Under the allocation's lock, or the shard's of a name.
    ///
    /// - Parameter offset: Of a cell; of a name or a prefix its size.
    /// - Throws: `.waitLimit`, `.memoryLimit`, `.outOfMemory`.
    func makeWait(
        _ aim: Wait.Aim, _ offset: Int, _ milliseconds: UInt64, _ caller: inout Caller
    ) throws(SmallocError) -> Wait {
        guard let loop = caller.loop?.waits else {
            preconditionFailure("a request comes by way of a loop")
        }
        let list = caller.waits ?? WaitList(loop, peer: caller.peer)
        guard list.count < Limits.waitsMax else { throw .waitLimit }
        let deadline = Registry.deadline(in: milliseconds)
        if deadline != .max, let error = loop.reserveDeadline() { throw error }
        let size = Wait.size(nameSize: aim == .cell ? 0 : offset)
        let charge = UInt64(BlockPool.capacity(for: size))
        guard budget.charge(charge) else { throw .memoryLimit }
        guard let block = mappings.blocks.take(size) else {
            budget.uncharge(charge)
            throw .outOfMemory
        }
        let fields = block.bindMemory(to: Wait.Fields.self, capacity: 1)
        fields.initialize(
            to: Wait.Fields(
                offset: offset, aim: aim, number: waits.nextNumber(),
                list: .passUnretained(list), loop: .passUnretained(loop), deadline: deadline))
        let wait = Wait(fields: fields)
        caller.waits = list
        caller.cost += Caller.Cost.wait
        list.insert(wait)
        if deadline != .max { loop.insertDeadline(wait) }
        return wait
    }

    /// The moment in so many milliseconds; `UInt64.max` for one that never comes.
    private static func deadline(in milliseconds: UInt64) -> UInt64 {
        let (nanoseconds, isOver) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
        let (deadline, isBeyond) = Clock.now.addingReportingOverflow(nanoseconds)
        return isOver || isBeyond ? .max : deadline
    }

    /// Takes a wait out of the queues, under its allocation's lock.
    private func takeOut(_ wait: Wait) {
        let allocation = wait.allocation
        waits.remove(wait)
        if !allocation.flags.contains(.waited) { mappings.tellWaiters(on: allocation) }
    }

    /// Ends a wait of the calling thread's own loop, which has to take it from here.
    ///
    /// - Returns: False: another thread has ended it, and it is in the loop's mailbox.
    func end(_ wait: Wait, _ result: Wait.End) -> Bool {
        if wait.isForName { return endAwaiting(wait, result) }
        if wait.isWatch {
            // It may have ended, and wait for its turn to be answered.
            guard wait.fields.pointee.isQueued else { return false }
            wait.fields.pointee.isQueued = false
            wait.fields.pointee.loop._withUnsafeGuaranteedRef { $0.removeWatch(wait) }
            wait.end(result)
            return true
        }
        let allocation = wait.allocation
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        guard wait.fields.pointee.isQueued else { return false }
        takeOut(wait)
        wait.end(result)
        return true
    }

    /// Gives back a wait that is in no list any more.
    func free(_ wait: Wait) {
        wait.fields.pointee.loop._withUnsafeGuaranteedRef { $0.removeDeadline(wait) }
        let allocation = wait.fields.pointee.allocation
        let (size, charge) = (wait.size, wait.charge)
        mappings.blocks.give(UnsafeMutableRawPointer(wait.fields), size)
        budget.unchargeHeap(charge)
        if let allocation { release(allocation) }
    }

    /// Ends all waits of a connection that ends.
    func endWaits(of caller: inout Caller) {
        guard let list = caller.waits else { return }
        caller.waits = nil
        list.detach()
        var next = list.firstWaiting
        while let wait = next {
            next = wait.fields.pointee.next
            // One that another thread has ended is on its way here.
            guard end(wait, .cancelled) else { continue }
            list.remove(wait)
            free(wait)
        }
        list.loop.collect()
        while let wait = list.takeEnded() { free(wait) }
        precondition(list.count == 0, "a connection that has ended waits for nothing")
    }

    /// Ends the waits on an allocation that was disposed of or made shorter: those whose cell is
    /// gone as `disposed`, all others as if notified, so that none has to be looked for.
    ///
    /// With a reference, and no lock. Many are left to the reclaiming thread.
    func endWaits(on allocation: Allocation) {
        allocation.lock.lock()
        let isWaited = allocation.flags.contains(.waited)
        // What comes later has seen what has changed.
        let last = waits.number
        allocation.lock.unlock()
        guard isWaited, !endSome(on: allocation, through: last) else { return }
        allocation.retain()
        mappings.enqueue(
            ReclaimJob { [self] in
                guard endSome(on: allocation, through: last) else { return false }
                release(allocation)
                return true
            })
    }

    /// - Returns: Whether none is left of those up to a number.
    private func endSome(on allocation: Allocation, through last: UInt64) -> Bool {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        for _ in 0..<Thresholds.endedAtOnceMax {
            guard let wait = waits.first(on: allocation), wait.fields.pointee.number <= last else {
                return true
            }
            takeOut(wait)
            let isGone =
                allocation.flags.contains(.disposed) || UInt64(wait.offset) + 4 > allocation.size
            wait.endElsewhere(isGone ? .disposed : .notified)
        }
        return false
    }
}
