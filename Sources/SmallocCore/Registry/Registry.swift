// All allocations, by name in shards. The only thing that the loops share.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// All allocations.
///
/// Its methods may be called from every loop at once.
public final class Registry: @unchecked Sendable {
    static let shardCount = 1024

    /// A shard's table, guarded by the shard's lock.
    struct Shard: ~Copyable {
        var table: NameTable
        /// Requests that wait for names of it.
        var awaits = 0
        // A cache line each, so that loops on neighbouring shards leave each other alone.
        private var padding: (UInt64, UInt64, UInt64) = (0, 0, 0)

        init(_ blocks: BlockPool) { table = NameTable(blocks) }
    }

    /// What all threads may touch of a shard while one of them has it, in a cache line of its own.
    private struct ShardLine: ~Copyable {
        let lockWord = Atomic<UInt32>(0)
        /// The table's, for threads that look without the lock.
        let view = Atomic<UInt64>(0)
        private let padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0)
    }

    /// The limits in force.
    public let limits: SharedLimits
    /// One for each loop.
    public let counters: [Counters]
    let shards: UnsafeMutablePointer<Shard>
    private let lines: UnsafeMutablePointer<ShardLine>
    let budget: MemoryBudget
    let mappings: MappingPool
    let nameHash: NameHash
    let waits: WaitQueues
    let leases: Leases
    /// What has become of names.
    let events: EventRing
    /// The connections, a table for each loop.
    public let clientTables: [ClientTable]
    let clientCount = Atomic<UInt64>(0)
    /// Requests that took long.
    public let slowLog: SlowLog
    /// Seconds since 1970 at the start, and nanoseconds of the monotonic clock at their beginning:
    /// allocations keep 32-bit ages.
    private let birth: UInt64
    private let birthMonotonic: UInt64

    /// - Parameters:
    ///   - loops: Number of loops that will serve; each has counters of its own.
    ///   - warmSizeMax: Bytes of freed large memory kept for reuse.
    ///
    /// Nil: there is no thread to be had that gives memory back, or no memory.
    public convenience init?(limits: SharedLimits, loops: Int, warmSizeMax: Int) {
        self.init(limits: limits, loops: loops, warmSizeMax: warmSizeMax, nameHash: NameHash())
    }

    /// With a key that is known, so that two registries list names in the same order.
    init?(
        limits: SharedLimits, loops: Int, warmSizeMax: Int, nameHash: NameHash,
        mappingsMax: UInt64 = SystemMemory.mappingsMax,
        mapsFiles: Bool = SystemMemory.mapsFiles
    ) {
        self.limits = limits
        self.nameHash = nameHash
        // With a key of its own: names tell something of theirs, see `NameHash`.
        waits = WaitQueues(hash: NameHash())
        // No name is empty, so this tells nothing of where one is.
        let run = nameHash.hash(of: UnsafeRawBufferPointer(start: nil, count: 0))
        events = EventRing(run: max(1, UInt16(truncatingIfNeeded: run)))
        counters = (0..<loops).map { _ in Counters() }
        clientTables = (0..<loops).map { _ in ClientTable() }
        guard let slowLog = SlowLog() else { return nil }
        self.slowLog = slowLog
        budget = MemoryBudget(limits: limits, mappingsMax: mappingsMax)
        mappings = MappingPool(
            budget: budget, cleanSizeMax: warmSizeMax, shares: mapsFiles ? SharedFiles() : nil)
        leases = Leases(budget, mappings.blocks)
        shards = .allocate(capacity: Registry.shardCount)
        lines = .allocate(capacity: Registry.shardCount)
        for index in 0..<Registry.shardCount {
            (shards + index).initialize(to: Shard(mappings.blocks))
            (lines + index).initialize(to: ShardLine())
        }
        let wallTime = Clock.coarseWallTime
        birth = wallTime / Registry.second
        // A second by this clock ends when one does by the wall clock, so that no allocation is
        // told to be made in a second that is to come.
        birthMonotonic = Clock.coarse &- wallTime % Registry.second
        guard mappings.start() else { return nil }
    }

    deinit { mappings.stop() }

    // MARK: Finding

    /// Where a name belongs: its shard, and its 16 bits in the shard's table.
    ///
    /// A client can't choose names that collide, see `NameHash`.
    @inline(__always)
    func bucket(of name: UnsafeRawBufferPointer) -> (shard: Int, tag: UInt64) {
        bucket(of: nameHash.hash(of: name))
    }

    @inline(__always)
    func bucket(of hash: UInt64) -> (shard: Int, tag: UInt64) {
        (Int(hash & UInt64(Registry.shardCount - 1)), hash >> 48)
    }

    @inline(__always)
    func lock(of shard: Int) -> ByteLock { ByteLock(UnsafeMutableRawPointer(lines + shard)) }

    /// The table's view as of a moment ago, without the lock.
    @inline(__always)
    func view(of shard: Int) -> UInt64 { lines[shard].view.load(ordering: .relaxed) }

    /// Tells threads that look without the lock of a table that grew or shrank.
    ///
    /// Under the lock.
    @inline(__always)
    func publish(_ shard: Int) {
        let view = shards[shard].table.view
        if self.view(of: shard) != view { lines[shard].view.store(view, ordering: .relaxed) }
    }

    /// The allocation of a name, with a reference for the caller; nil if there is none.
    func find(_ name: UnsafeRawBufferPointer) -> Allocation? {
        let bucket = bucket(of: name)
        let lock = lock(of: bucket.shard)
        lock.lock()
        defer { lock.unlock() }
        let found = shards[bucket.shard].table.find(name, tag: bucket.tag)
        found?.retain()
        return found
    }

    /// Finds what a request means.
    ///
    /// By name the caller holds a reference after it, and `letGo`s.
    ///
    /// - Throws: `.invalidName`, then `missing`.
    @inline(__always)
    func resolve(
        _ target: borrowing Reference, _ caller: borrowing Caller,
        missing: @autoclosure () -> SmallocError
    ) throws(SmallocError) -> Allocation {
        if target.handle != 0 {
            return try resolve(target.handle, caller, missing: missing())
        }
        let found = find(target.name.bytes)
        guard let found else {
            // A name outside the grammar is never found; only then is it worth a look.
            throw Name.isValid(target.name) ? missing() : .invalidName
        }
        return found
    }

    /// The allocation of a handle, which keeps it for as long as the caller keeps the handle open.
    @inline(__always)
    func resolve(
        _ handle: UInt32, _ caller: borrowing Caller,
        missing: @autoclosure () -> SmallocError
    ) throws(SmallocError) -> Allocation {
        guard let allocation = caller.handles[handle] else { throw missing() }
        return allocation
    }

    /// Ends what `resolve` began.
    @inline(__always)
    func letGo(_ allocation: Allocation, _ target: borrowing Reference) {
        if target.handle == 0 { release(allocation) }
    }

    /// Gives a reference back, and the memory with the last one.
    ///
    /// That was a use, which a lease counts from.
    @inline(__always)
    func release(_ allocation: Allocation) {
        if allocation.isLeased { noteUse(allocation) }
        releaseQuietly(allocation)
    }

    /// The same of a reference that was no use of it.
    @inline(__always)
    func releaseQuietly(_ allocation: Allocation) {
        if allocation.release() { destroy(allocation) }
    }

    // A call of its own, so that what lets go of an allocation stays small.
    @inline(never)
    private func destroy(_ allocation: Allocation) {
        budget.unchargeHeap(allocation.destroy(mappings: mappings))
    }

    // MARK: Ends

    /// Ends a transfer, done or not.
    func end(_ pieces: Pieces) {
        pieces.endWork()
        letGoPinned(pieces.allocation, writes: pieces.intent != .read)
    }

    /// Ends work, done or not.
    ///
    /// Not while it runs.
    func end(_ work: Work) {
        let allocations = [work.allocations.0, work.allocations.1]
        for (index, allocation) in allocations.enumerated() {
            guard let allocation else { continue }
            if case .promote(let promotion) = work.kind { end(promotion, of: allocation) }
            if case .freeze(let freezing) = work.kind {
                freezing.end(allocation)
                tellFrozen(allocation)
            }
            if work.isPinning {
                letGoPinned(allocation, writes: work.writes(index))
            } else {
                release(allocation)
            }
        }
    }

    /// Ends a promotion, done or not: what has begun to move is moved to its end, by another
    /// thread.
    private func end(_ promotion: Promotion, of allocation: Allocation) {
        guard promotion.isMoving else { return promotion.end(allocation) }
        allocation.retain()
        mappings.enqueue(
            ReclaimJob { [self] in
                guard promotion.run(allocation, steps: 1) else { return false }
                promotion.end(allocation)
                release(allocation)
                return true
            })
    }

    private func letGoPinned(_ allocation: Allocation, writes: Bool) {
        if let cut = allocation.unpin(mappings, writes: writes) { mappings.give(forGood: cut) }
        release(allocation)
    }

    /// A connection has received the descriptors of its replies, all but so many.
    func received(allBut count: Int32, _ caller: inout Caller) {
        let received = caller.passedCount - count
        guard received > 0 else { return }
        caller.passedCount = count
        mappings.shares?.removePassing(Int(received))
    }

    /// Ends a connection: its waits end, its handles close, its anonymous allocations go.
    ///
    /// A few handles are closed at once; more are left to the reclaiming thread, in steps.
    func end(_ caller: inout Caller) {
        caller.encoding = nil
        endWaits(of: &caller)
        endLeases(of: &caller)
        received(allBut: 0, &caller)
        guard caller.handles.count > Thresholds.closedAtOnceMax else {
            _ = close(&caller.handles, atMost: .max)
            return
        }
        // Moved out, so that the connection is rid of them at once.
        let handles = HandleBox(caller.handles.takeAll())
        mappings.enqueue(
            ReclaimJob { [self] in close(&handles.table, atMost: Thresholds.closedAtOnceMax) })
    }

    /// Closes handles of a connection that has ended.
    ///
    /// - Returns: Whether none is left.
    private func close(_ handles: inout HandleTable, atMost count: Int) -> Bool {
        var left = count
        while left > 0 {
            guard let allocation = handles.closeLast(budget) else { return true }
            disposeIfAnonymous(allocation)
            release(allocation)
            left -= 1
        }
        return false
    }

    /// Gives memory that is free, and was in use, back to the kernel.
    ///
    /// To be called every second or so, from any thread; the work is done on another.
    public func returnMemory() { mappings.returnMemory() }

    /// Checks that memory and names are as they must be.
    ///
    /// For tests, while no other thread uses the registry but the reclaiming one.
    func checkInvariants() {
        mappings.checkInvariants()
        mappings.blocks.checkInvariants()
        var timed = 0
        var awaits = Array(repeating: 0, count: Registry.shardCount)
        _ = waits.checkInvariants { awaits[bucket(of: $0.name).shard] += 1 }
        for shard in 0..<Registry.shardCount {
            let lock = lock(of: shard)
            lock.lock()
            precondition(shards[shard].awaits == awaits[shard], "a shard knows what waits for it")
            for index in 0..<shards[shard].table.slotCount {
                guard let allocation = shards[shard].table.allocation(at: index) else { continue }
                precondition(!allocation.isAnonymous, "what is in a table has a name")
                let bucket = bucket(of: allocation.name)
                precondition(bucket.shard == shard, "a name is in its shard")
                allocation.lock.lock()
                precondition(!allocation.flags.contains(.disposed), "what has a name lives")
                if let lease = allocation.lease { timed += lease.heapIndex >= 0 ? 1 : 0 }
                allocation.checkInvariants()
                allocation.lock.unlock()
            }
            lock.unlock()
        }
        // Anonymous ones are in no table.
        precondition(timed <= leases.checkInvariants().timed, "a lease is looked at")
    }

    /// A table on its way to another thread.
    private final class HandleBox: @unchecked Sendable {
        var table: HandleTable

        init(_ table: consuming HandleTable) { self.table = table }
    }

    // MARK: Buffers of connections

    /// Charges bytes of a connection's input or output that wait.
    ///
    /// From any thread.
    ///
    /// - Returns: False: it would be over the memory limit.
    public func chargeBuffer(_ size: Int) -> Bool { budget.charge(buffer: UInt64(size)) }

    /// Takes back what `chargeBuffer` charged.
    public func unchargeBuffer(_ size: Int) { budget.uncharge(buffer: UInt64(size)) }

    // MARK: Time

    /// Seconds since the registry's birth, by the monotonic clock.
    public var age: UInt32 {
        UInt32(truncatingIfNeeded: (Clock.coarse &- birthMonotonic) / Registry.second)
    }

    private static var second: UInt64 { 1_000_000_000 }

    /// The same, asked of the clock once for all that one call of `serve` does.
    @inline(__always)
    func age(_ caller: inout Caller) -> UInt32 {
        if caller.age == 0 { caller.age = age &+ 1 }
        return caller.age &- 1
    }

    /// When an allocation was made, in milliseconds since 1970.
    func created(_ allocation: Allocation) -> UInt64 {
        (birth + UInt64(allocation.created)) * 1000
    }
}

extension RawSpan {
    /// The bytes, which are a request's and so stay where they are while it is served.
    ///
    /// A closure around what is done with them would be a function of its own, with all that it
    /// uses handed over in memory.
    @inline(__always)
    var bytes: UnsafeRawBufferPointer { withUnsafeBytes { $0 } }
}
