// The pool's thread: wipes what was given back, or gives it to the kernel, sweeps small memory, and
// closes the handles of connections that ended with many.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem

extension MappingPool {
    func runReclaiming() {
        while true {
            while sem_wait(bell) != 0 {}
            reclaimAll()
            let isEnd = state.withLock { $0.isStopping && !$0.hasWork }
            if isEnd { return }
        }
    }

    /// Does all that is to be done.
    func reclaimAll() {
        let (retries, looksForGone) = state.withLock { state -> (Bool, Bool) in
            state.isRung = false
            defer {
                state.retriesRefused = false
                state.looksForGone = false
            }
            return (state.retriesRefused, state.looksForGone)
        }
        if looksForGone { shares?.releaseGone(budget) }
        if retries { retryRefused() }
        var yielding = Yielding()
        var isIdle = false
        while !isIdle {
            isIdle = !sweepIfWanted(&yielding)
            // By turns: a request that waits for memory should not have to wait for all handles.
            if reclaimNext(&yielding) { isIdle = false }
            if doStep() { isIdle = false }
            yielding.yieldIfWorthIt()
            callWaiters()
        }
    }

    private func sweepIfWanted(_ yielding: inout Yielding) -> Bool {
        guard state.withLock({ $0.beginSweep() }) else { return false }
        blocks.sweep {
            // A request that waits for large memory should not have to wait for all small one.
            while reclaimNext(&yielding) {}
            yielding.yieldIfWorthIt()
        }
        smalloc_heap_trim()
        noteFragmented()
        state.withLock { $0.endSweep() }
        return true
    }

    /// Wipes and keeps the oldest of the queue, or gives it to the kernel.
    ///
    /// - Returns: False: the queue is empty.
    private func reclaimNext(_ yielding: inout Yielding) -> Bool {
        guard let record = state.withLock({ $0.takeOldest() }) else { return false }
        let (size, number) = (record.capacity, record.mark)
        var isDone = false
        if !record.mustGo, size == record.madeSize, size <= cleanSizeMax {
            record.wipe { yielding.yieldIfWorthIt() }
            isDone = keep(record, number: number)
        }
        if !isDone { isDone = release(record) { yielding.yieldIfWorthIt() } }
        if !isDone {
            refused.append(record)
            state.withLock { $0.hasRefused = true }
        }
        state.withLock { $0.finishRecord(size) }
        return true
    }

    private func doStep() -> Bool {
        guard let job = state.withLock({ $0.takeJob() }) else { return false }
        let isLast = job.step()
        state.withLock { $0.finishStep(job, isLast: isLast) }
        return true
    }

    private func callWaiters() {
        while let body = state.withLock({ $0.takeDone() }) { body() }
    }

    // MARK: To the kernel

    /// Gives a record's memory to the kernel, takes its charge off and frees it.
    ///
    /// On the reclaiming thread if the record was truncated.
    ///
    /// - Returns: False: the kernel refuses some of it. What is left stays charged and counted, and
    ///   the record says how much that is.
    func release(_ record: StorageRecord, pause: () -> Void = {}) -> Bool {
        guard let base = record.base else { return true }
        let size = record.madeSize
        let wasCut = record.capacity < size
        switch record.kind {
        case .none: return true
        case .tail:
            guard Mapping.returnPages(base, size, pause: pause) else { return false }
        case .memfdTail:
            guard Mapping.removePages(base, size, pause: pause) else { return false }
        case .memfd: return releaseFile(record, base, pause: pause)
        case .mappingTail:
            let left = Mapping.unmap(base, size, pause: pause)
            guard left == 0 else {
                record.madeSize = left
                return false
            }
        case .arena:
            guard Mapping.returnPages(base, record.capacity, pause: pause) else { return false }
            if wasCut, !returnTails(of: record) { return false }
            arenas.give(base)
        case .mapping:
            let left = Mapping.unmap(base, size, pause: pause)
            if wasCut { forgetTails(in: base + left..<base + size) }
            guard left == 0 else {
                record.madeSize = left
                // The addresses stay, the pages need not.
                if Mapping.returnPages(base, left, pause: pause) {
                    budget.uncharge(UInt64(record.capacity))
                    record.capacity = 0
                }
                return false
            }
            budget.unchargeMappings(1)
        }
        budget.uncharge(UInt64(record.capacity))
        free(record)
        return true
    }

    /// Tries again what the kernel has refused.
    private func retryRefused() {
        state.withLock { $0.hasRefused = false }
        for _ in 0..<refused.count {
            guard let record = refused.popFirst() else { break }
            if !release(record) { refused.append(record) }
        }
        let areLeft = refused.count > 0
        state.withLock { $0.hasRefused = areLeft }
    }

    /// Whether no tail of a record is left that the kernel has refused.
    private func returnTails(of record: StorageRecord) -> Bool {
        guard refused.count > 0, let base = record.base else { return true }
        var areGone = true
        // Each of them once: those that are refused again stand behind the last.
        for _ in 0..<refused.count {
            guard let tail = refused.popFirst() else { break }
            let isOurs =
                tail.kind == .tail
                && tail.base.map { (base..<base + record.madeSize).contains($0) } == true
            if isOurs, release(tail) { continue }
            refused.append(tail)
            if isOurs { areGone = false }
        }
        return areGone
    }

    /// Takes the charge off tails that the kernel has refused, and that have gone with the whole.
    ///
    /// - Returns: Bytes that they were charged.
    @discardableResult
    func forgetTails(in range: Range<UnsafeMutableRawPointer>) -> Int {
        guard refused.count > 0 else { return 0 }
        var size = 0
        refused.forEach { tail in
            guard tail.kind == .tail || tail.kind == .memfdTail, let start = tail.base,
                range.contains(start)
            else { return }
            refused.remove(tail)
            budget.uncharge(UInt64(tail.capacity))
            size += tail.capacity
            free(tail)
        }
        return size
    }
}
