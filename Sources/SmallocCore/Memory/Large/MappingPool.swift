// Large memory: slots of arenas and mappings, kept warm for reuse, wiped and given to the kernel by
// a thread of their own, so that no loop waits for gigabytes to be zeroed or given back.
//
//   given back -> queue -> wiped -> warm -> taken       by a request that wants zeros
//                   |         '---> given to the kernel    where there is enough that is warm, or
//                   |                                      no request wanted it for long
//                   '-> taken as it is                  by one that overwrites all of it
//
// Warm memory is for users that allocate, fill and dispose of the same sizes over and over: the
// first touch of fresh pages costs five times as much as writing them. It costs an eighth of the
// memory limit at most, which is given up before anything is refused.

internal import Glibc
internal import SmallocSystem

/// Hands out memory for records and takes it back.
///
/// All methods from any thread. The lock is held for a few steps.
final class MappingPool: @unchecked Sendable {
    /// Records kept warm at most, and looked at for one that fits.
    static let warmCountMax = 64
    /// How long warm memory is kept that no request asks for, in nanoseconds.
    static let warmTime: UInt64 = 10_000_000_000

    /// Where smaller memory comes from: its free slabs are given back by the same thread.
    let blocks: BlockPool
    let arenas: Arenas
    /// Memory that clients map; nil: there is none here.
    let shares: SharedFiles?
    let inlineTransfers = InlineTransfers()
    let state = Locked(State())
    let budget: MemoryBudget
    /// Bytes of warm memory kept at most.
    let cleanSizeMax: Int
    private let warmTime: UInt64
    /// The reclaiming thread sleeps on this.
    let bell: UnsafeMutablePointer<sem_t>
    let pageSize = SystemMemory.pageSize
    /// What the kernel has refused to take back: used by the reclaiming thread alone.
    var refused = RecordList()
    private(set) var isStarted = false

    init(
        budget: MemoryBudget, cleanSizeMax: Int, blocks: BlockPool = BlockPool(),
        warmTime: UInt64 = MappingPool.warmTime, shares: SharedFiles? = nil
    ) {
        self.budget = budget
        self.warmTime = warmTime
        self.blocks = blocks
        blocks.budget = budget
        arenas = Arenas(budget: budget)
        self.shares = shares
        self.cleanSizeMax = cleanSizeMax
        bell = .allocate(capacity: 1)
        sem_init(bell, 0, 0)
    }

    deinit {
        sem_destroy(bell)
        bell.deallocate()
    }

    /// Starts the reclaiming thread, which keeps the pool until `stop`.
    ///
    /// To be called once, before others use the pool.
    ///
    /// - Returns: False: there is no thread to be had.
    func start() -> Bool {
        isStarted = BackgroundThread.start { [self] in runReclaiming() }
        return isStarted
    }

    /// Ends the reclaiming thread after what is in the queue.
    func stop() {
        guard isStarted else { return }
        ring { $0.isStopping = true }
    }

    /// Changes the state, and wakes the thread if there is something to do.
    func ring<Result>(_ body: (inout State) -> Result) -> Result {
        var mustPost = false
        let result = state.withLock { state -> Result in
            let result = body(&state)
            if !state.isRung, state.hasWork || state.isStopping {
                state.isRung = true
                mustPost = true
            }
            return result
        }
        if mustPost { sem_post(bell) }
        return result
    }

    /// The bytes that memory for `size` bytes takes.
    func capacity(for size: Int) -> Int { (size + pageSize - 1) / pageSize * pageSize }

    /// Whether nothing is left to do of what was given back, or has ended.
    var isIdle: Bool { state.withLock { $0.doneNumber == $0.lastNumber } }

    /// Bytes given back that are not free yet.
    var pendingSize: Int { state.withLock { $0.queueSize } }

    /// Bytes of warm memory.
    var warmSize: Int { state.withLock { $0.warmSize } }

    // MARK: Records

    /// A record for `size` bytes, without memory yet up to `Thresholds.lazySizeMax`; nil: no
    /// memory, or too many kernel mappings.
    ///
    /// The caller has charged `capacity(for: size)` and `recordCharge`.
    ///
    /// - Parameter isShareable: Whether its memory will be a file, which the caller has counted.
    func makeRecord(
        _ size: Int, owner: UInt32, isShareable: Bool = false
    ) -> StorageRecord? {
        // A file has a page at least.
        let capacity = max(capacity(for: size), isShareable ? pageSize : 0)
        guard countMapping(capacity) else { return nil }
        guard let address = blocks.take(StorageRecord.size) else {
            uncountMapping(capacity)
            return nil
        }
        let record = StorageRecord(address: address)
        record.initialize(capacity: capacity, owner: owner, pool: self)
        if isShareable { record.sharing = .shareable }
        guard capacity > Thresholds.lazySizeMax, !attach(record, unwiped: false, size: UInt64(size))
        else {
            return record
        }
        uncountMapping(capacity)
        blocks.give(address, StorageRecord.size)
        return nil
    }

    /// Bytes that a record is charged.
    static let recordCharge = UInt64(BlockPool.capacity(for: StorageRecord.size))

    /// What is larger than a slot is a kernel mapping, and counted from the beginning.
    private func countMapping(_ capacity: Int) -> Bool {
        capacity <= Arenas.sizeMax || budget.chargeMappings(1)
    }

    private func uncountMapping(_ capacity: Int) {
        if capacity > Arenas.sizeMax { budget.unchargeMappings(1) }
    }

    /// Makes a record smaller that has no memory yet.
    func uncharge(_ record: StorageRecord, downTo capacity: Int) {
        budget.uncharge(UInt64(record.capacity - capacity))
        if capacity <= Arenas.sizeMax { uncountMapping(record.capacity) }
        record.capacity = capacity
    }

    /// Frees a record whose memory is gone, or is another record's now.
    func free(_ record: StorageRecord) {
        blocks.give(record.address, StorageRecord.size)
        budget.unchargeHeap(MappingPool.recordCharge)
    }

    /// Gives a record its memory: zeros, unless memory may be taken that is not wiped yet.
    ///
    /// Under the lock of its allocation.
    ///
    /// - Parameter size: Bytes of the allocation.
    /// - Returns: False: the kernel refuses it, or there are too many mappings.
    func attach(_ record: StorageRecord, unwiped: Bool, size: UInt64) -> Bool {
        if record.sharing.contains(.shareable) { return attachFile(record, size: size) }
        let capacity = record.capacity
        // A larger one is not taken, so that what is charged is what is used.
        let (warm, used) = state.withLock { state -> (StorageRecord?, StorageRecord?) in
            let used = unwiped ? state.takeUnwiped(capacity) : nil
            return (used == nil ? state.takeWarm(capacity) : nil, used)
        }
        if let found = warm ?? used, let base = found.base {
            record.attach(
                base, found.kind, madeSize: found.madeSize, writtenSize: found.writtenSize)
            // Both came with what is counted already.
            if warm != nil {
                budget.unpool(UInt64(capacity))
            } else {
                budget.uncharge(UInt64(capacity))
            }
            uncountMapping(capacity)
            free(found)
            return true
        }
        if capacity <= Arenas.sizeMax {
            let size = max(capacity, Arenas.sizeMin)
            guard let slot = arenas.take(size) else { return false }
            record.attach(slot, .arena, madeSize: size, writtenSize: 0)
        } else {
            guard let start = Mapping.map(capacity) else { return false }
            record.attach(start, .mapping, madeSize: capacity, writtenSize: 0)
        }
        return true
    }

    /// Takes a record back, and its charge with it once its memory is free or warm and clean.
    func give(_ record: StorageRecord) {
        switch record.kind {
        case .none:
            budget.uncharge(UInt64(record.capacity))
            uncountMapping(record.capacity)
            if record.sharing.contains(.shareable) { shares?.remove() }
            return free(record)
        case .memfd:
            shares?.state.end(record.slot)
            record.mustGo = true
            return ring { $0.enqueue(record) }
        default: break
        }
        if record.descriptor >= 0 { dropHalfMoved(record) }
        // What was truncated may have a tail in the queue, and goes behind it.
        if record.mustGo || record.writtenSize > Thresholds.wipedAtOnceMax
            || record.capacity < record.madeSize
            || record.capacity > SystemMemory.hugePageSize
        {
            return ring { $0.enqueue(record) }
        }
        record.wipe()
        if !keep(record), !release(record) {
            record.mustGo = true
            ring { $0.enqueue(record) }
        }
    }

    /// Takes back the end of memory whose beginning stays in use.
    func give(forGood tail: Mapping) {
        if tail.writtenSize <= Thresholds.wipedAtOnceMax,
            tail.capacity <= SystemMemory.hugePageSize,
            tail.giveBack()
        {
            return budget.uncharge(UInt64(tail.charge))
        }
        guard let address = blocks.take(StorageRecord.size) else {
            // Slower, but there is no memory to note it in.
            if tail.giveBack() {
                budget.uncharge(UInt64(tail.charge))
            }
            return
        }
        budget.chargeAnyway(MappingPool.recordCharge)
        let record = StorageRecord(address: address)
        record.initialize(capacity: tail.charge, owner: 0, pool: self)
        record.attach(tail.base, tail.kind, madeSize: tail.capacity, writtenSize: 0)
        record.mustGo = true
        ring { $0.enqueue(record) }
    }

    /// Puts a clean record among the warm ones, if there is room.
    ///
    /// Its charge becomes pool. Makes room by queueing the oldest for the reclaiming thread, where
    /// to unmap them holds up no loop.
    ///
    /// - Parameter number: Its own in the queue, if it comes from there: what is waited for is not
    ///   kept.
    func keep(_ record: StorageRecord, number: UInt64 = .max) -> Bool {
        let capacity = record.capacity
        // What was truncated is smaller than anything that is asked for.
        guard !record.mustGo, capacity == record.madeSize, capacity <= cleanSizeMax else {
            return false
        }
        return ring { state -> Bool in
            guard number > state.drainNumber else { return false }
            while state.warm.count >= MappingPool.warmCountMax
                || capacity > cleanSizeMax - state.warmSize
            {
                state.evictOldest(budget)
            }
            state.warm.append(record)
            // Here: nothing that is warm can be younger.
            record.mark = Clock.now
            state.warmSize += capacity
            // Before another thread can take it out again.
            budget.pool(UInt64(capacity))
            return true
        }
    }

    // MARK: Waiting

    /// Begins to give all to the kernel that is on its way back or warm, and small memory that is
    /// free between what is not.
    ///
    /// - Returns: A number for `onDrained`.
    func beginDrain() -> UInt64 {
        let isFragmented = budget.fragmentedSize > 0
        return ring { state in
            if isFragmented { state.wantSweep() }
            return state.beginDrain(budget)
        }
    }

    /// The number of what was given back last.
    var lastNumber: UInt64 { state.withLock { $0.lastNumber } }

    /// Whether all up to that number is done.
    func isDrained(_ number: UInt64) -> Bool { state.withLock { $0.doneNumber >= number } }

    /// Calls back when all up to that number is done: on the reclaiming thread, or at once.
    func onDrained(_ number: UInt64, _ body: @escaping @Sendable () -> Void) {
        let isDone = state.withLock { state -> Bool in
            if state.doneNumber >= number { return true }
            state.wait(number, body)
            return false
        }
        if isDone { body() }
    }

    /// Has a job done by the reclaiming thread.
    func enqueue(_ job: ReclaimJob) { ring { $0.enqueue(job) } }

    /// Has what is free given back to the kernel: warm memory that no request asked for in
    /// `warmTime`, and the heap's free pages, if much was freed and the freeing has ceased.
    ///
    /// To be called every second or so. Small allocations that go leave holes that malloc keeps;
    /// to look for them holds up threads that allocate, so it is done seldom.
    func returnMemory() {
        noteFragmented()
        let mustLook = (shares?.heldSize ?? 0) > 0
        ring { state in
            state.looksForGone = state.looksForGone || mustLook
            let now = Clock.now
            while let oldest = state.warm.first, now &- oldest.mark >= warmTime {
                state.evictOldest(budget)
            }
            state.retriesRefused = state.hasRefused
            let freed = budget.heapFreedSize
            let isQuiet = freed - state.freedAtLastLook < Thresholds.sweepSizeMin / 8
            state.freedAtLastLook = freed
            let enough = max(Thresholds.sweepSizeMin, budget.usedSize / 8)
            guard isQuiet, !state.wantsSweep, freed - state.freedAtLastSweep >= enough else {
                return
            }
            state.freedAtLastSweep = freed
            state.wantSweep()
        }
    }

    /// Has the kernel asked whether files that clients held are gone.
    func lookForGone() { ring { $0.looksForGone = true } }

    /// Counts what is free between small allocations that are not.
    func noteFragmented() { budget.noteFragmented(blocks.fragmentedSize) }

    /// Waits until all that was given back is free, and frees what is warm.
    ///
    /// For tests: it may wait for long.
    func drain() {
        repeat {
            let number = beginDrain()
            while !isDrained(number) {
                if isStarted { usleep(500) } else { reclaimAll() }
            }
        } while !isIdle || warmSize > 0
    }

    /// Checks that what is counted is there.
    func checkInvariants() {
        state.withLock { $0.checkInvariants() }
        arenas.checkInvariants()
        // The reclaiming thread may take or give one meanwhile.
        let before = budget.mappingCount
        let own = UInt64(arenas.regionCount + blocks.slabs.mappedSize / Region.size)
        precondition(
            max(before, budget.mappingCount) >= own, "all kernel mappings are counted")
        precondition(budget.mappingCount <= budget.mappingsMax, "and there are not too many")
        precondition(budget.usedSize >> 62 == 0 && budget.pooledSize >> 62 == 0, "no debts")
    }
}
