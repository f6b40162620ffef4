// What the pool of large memory has, and in which order it is given back.

/// Something for the reclaiming thread to do step by step, beside memory.
///
/// One for each connection that ends with many handles.
final class ReclaimJob: @unchecked Sendable {
    /// Does a step of some ten microseconds, and tells whether it was the last one.
    let step: () -> Bool
    fileprivate(set) var number: UInt64 = 0
    fileprivate var next: ReclaimJob?

    init(_ step: @escaping () -> Bool) { self.step = step }
}

/// A request that waits until what was given back before it is free.
private final class DrainWaiter {
    let number: UInt64
    let body: () -> Void
    var next: DrainWaiter?

    init(_ number: UInt64, _ body: @escaping () -> Void) {
        self.number = number
        self.body = body
    }
}

extension MappingPool {
    /// All that the pool knows.
    ///
    /// Each thing that is on its way back has a number, and the numbers grow. A request that waits
    /// for all that is on its way now waits until all numbers up to the last one are done.
    struct State: @unchecked Sendable {
        /// What was wiped, and is kept for the next of the same size; the oldest first.
        var warm = RecordList()
        var warmSize = 0
        /// What was given back and is to be wiped, or to go to the kernel; the oldest first.
        var queue = RecordList()
        /// Bytes of the queue, and of what is being wiped.
        var queueSize = 0
        private var jobs: ReclaimJob?
        private var lastJob: ReclaimJob?
        /// The last number that was given.
        private(set) var lastNumber: UInt64 = 0
        /// Numbers of the record and the job that the thread works on, or 0.
        var currentRecord: UInt64 = 0
        private var currentJob: UInt64 = 0
        /// The number of a sweep through small memory that is wanted or under way, or 0.
        private(set) var sweepNumber: UInt64 = 0
        private(set) var wantsSweep = false
        /// What has no larger number goes to the kernel, and is not kept warm.
        private(set) var drainNumber: UInt64 = 0
        private var waiters: DrainWaiter?
        private var lastWaiter: DrainWaiter?
        /// Bytes of heap ever freed, as of the last sweep and the last look.
        var freedAtLastSweep: UInt64 = 0
        var freedAtLastLook: UInt64 = 0
        var isStopping = false
        /// Whether the kernel has refused to take something back, and that is to be tried again.
        var hasRefused = false
        var retriesRefused = false
        /// Whether files that clients held may be gone.
        var looksForGone = false
        /// The thread was woken, and has not looked yet.
        var isRung = false

        private mutating func nextNumber() -> UInt64 {
            lastNumber += 1
            return lastNumber
        }

        /// Up to here all numbers are done.
        var doneNumber: UInt64 {
            var oldest = lastNumber + 1
            for number in [
                queue.first?.mark ?? 0, jobs?.number ?? 0, currentRecord, currentJob, sweepNumber,
            ] where number > 0 { oldest = min(oldest, number) }
            return oldest - 1
        }

        // MARK: Memory

        mutating func enqueue(_ record: StorageRecord) {
            queueSize += record.capacity
            queue.append(record)
            record.mark = nextNumber()
        }

        /// Takes the oldest out of the queue, to wipe it or give it to the kernel.
        mutating func takeOldest() -> StorageRecord? {
            guard let record = queue.popFirst() else { return nil }
            currentRecord = record.mark
            if record.mark <= drainNumber { record.mustGo = true }
            return record
        }

        /// The record that was taken is done, with so many bytes.
        mutating func finishRecord(_ size: Int) {
            queueSize -= size
            currentRecord = 0
        }

        /// Memory of `capacity` bytes that is not wiped yet.
        ///
        /// The youngest: the others are about to be wiped, and may be many.
        mutating func takeUnwiped(_ capacity: Int) -> StorageRecord? {
            let found = queue.last(of: MappingPool.warmCountMax) {
                $0.capacity == capacity && $0.madeSize == capacity && !$0.mustGo
            }
            guard let found else { return nil }
            queue.remove(found)
            queueSize -= capacity
            return found
        }

        /// Warm memory of `capacity` bytes.
        mutating func takeWarm(_ capacity: Int) -> StorageRecord? {
            let found = warm.last(of: MappingPool.warmCountMax) { $0.capacity == capacity }
            guard let found else { return nil }
            warm.remove(found)
            warmSize -= capacity
            return found
        }

        /// What was warm for the longest time is on its way back.
        mutating func evictOldest(_ budget: MemoryBudget) {
            guard let oldest = warm.popFirst() else { return }
            warmSize -= oldest.capacity
            oldest.mustGo = true
            budget.charge(pooled: UInt64(oldest.capacity))
            enqueue(oldest)
        }

        // MARK: Other things

        mutating func enqueue(_ job: ReclaimJob) {
            job.number = nextNumber()
            if let lastJob { lastJob.next = job } else { jobs = job }
            lastJob = job
        }

        /// The job whose next step is to be done.
        mutating func takeJob() -> ReclaimJob? {
            currentJob = jobs?.number ?? 0
            return jobs
        }

        /// A step of a job was done, or all of it.
        mutating func finishStep(_ job: ReclaimJob, isLast: Bool) {
            currentJob = 0
            guard isLast else { return }
            jobs = job.next
            if jobs == nil { lastJob = nil }
            // Else a long list would be freed by as many nested calls.
            job.next = nil
        }

        /// Has small memory swept, after a sweep that is under way.
        mutating func wantSweep() {
            wantsSweep = true
            if sweepNumber == 0 { sweepNumber = nextNumber() }
        }

        mutating func beginSweep() -> Bool {
            defer { wantsSweep = false }
            return wantsSweep
        }

        mutating func endSweep() { if !wantsSweep { sweepNumber = 0 } }

        // MARK: Waiting

        /// All that is on its way back, and all that is warm, goes to the kernel.
        ///
        /// - Returns: The number after which it is gone.
        mutating func beginDrain(_ budget: MemoryBudget) -> UInt64 {
            while warm.count > 0 { evictOldest(budget) }
            drainNumber = lastNumber
            return lastNumber
        }

        mutating func wait(_ number: UInt64, _ body: @escaping () -> Void) {
            let waiter = DrainWaiter(number, body)
            if let lastWaiter { lastWaiter.next = waiter } else { waiters = waiter }
            lastWaiter = waiter
        }

        /// The call of one that has waited long enough, to be made without the lock.
        ///
        /// They came in the order of their numbers, or nearly.
        mutating func takeDone() -> (() -> Void)? {
            guard let waiter = waiters, waiter.number <= doneNumber else { return nil }
            waiters = waiter.next
            if waiters == nil { lastWaiter = nil }
            return waiter.body
        }

        var hasWork: Bool {
            queue.count > 0 || jobs != nil || wantsSweep || retriesRefused || looksForGone
        }

        func checkInvariants() {
            warm.checkInvariants()
            queue.checkInvariants()
            var size = 0
            warm.forEach {
                size += $0.capacity
                precondition($0.writtenSize == 0, "warm memory is zeros")
                precondition($0.capacity == $0.madeSize, "warm memory is whole")
            }
            precondition(size == warmSize, "warm memory is counted")
            precondition(warm.count <= MappingPool.warmCountMax, "few are warm")
            var last: UInt64 = 0
            size = 0
            queue.forEach {
                precondition($0.mark > last && $0.mark <= lastNumber, "numbers grow")
                last = $0.mark
                size += $0.capacity
            }
            precondition(size <= queueSize, "the queue is counted")
            precondition(currentRecord > 0 || size == queueSize, "and nothing else is")
        }
    }
}
