// All allocations, by name in shards, and the one switch that every request of either mode goes
// through. The only thing that the loops share.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// All allocations.
///
/// Its methods may be called from every loop at once.
public final class Registry: @unchecked Sendable {
    static let shardCount = 1024
    /// From this many bytes on a copy or fill is left to another thread.
    ///
    /// What takes about 100 microseconds is done at once: to hand it over takes as long.
    static let workSizeMin = (1 << 20) + 1

    struct Shard: ~Copyable {
        var lockWord: UInt32 = 0
        var table: NameTable
        /// The table's, for those who look without the lock.
        let view = Atomic<UInt64>(0)
        // A cache line each, so that loops on neighbouring shards leave each other alone.
        private var padding: (UInt64, UInt64) = (0, 0)

        init(_ blocks: BlockPool) { table = NameTable(blocks) }
    }

    /// The limits in force.
    public let limits: SharedLimits
    /// One for each loop.
    public let counters: [Counters]
    let shards: UnsafeMutablePointer<Shard>
    let budget: MemoryBudget
    let mappings: MappingPool
    let nameHash: NameHash
    /// Seconds since 1970 and the monotonic clock at start: allocations keep 32-bit ages.
    private let birth: UInt64
    private let birthMonotonic: UInt64

    /// - Parameters:
    ///   - loops: Number of loops that will serve; each has counters of its own.
    ///   - warmSizeMax: Bytes of freed large memory kept for reuse.
    public convenience init(limits: SharedLimits, loops: Int, warmSizeMax: Int) {
        self.init(limits: limits, loops: loops, warmSizeMax: warmSizeMax, nameHash: NameHash())
    }

    /// With a key that is known, so that two registries list names in the same order.
    init(
        limits: SharedLimits, loops: Int, warmSizeMax: Int, nameHash: NameHash,
        restTime: UInt64 = MappingPool.restTime
    ) {
        self.limits = limits
        self.nameHash = nameHash
        counters = (0..<loops).map { _ in Counters() }
        budget = MemoryBudget(limits: limits)
        mappings = MappingPool(
            budget: budget, cleanSizeMax: warmSizeMax, restTime: restTime)
        shards = .allocate(capacity: Registry.shardCount)
        for index in 0..<Registry.shardCount {
            (shards + index).initialize(to: Shard(mappings.blocks))
        }
        birth = UInt64(time(nil))
        birthMonotonic = Clock.coarseSeconds
    }

    /// Does what a request asks and answers it; what is left to do is in `holdings.deferred`.
    ///
    /// Never traps, whatever the request says. Cost: one lock of the allocation by handle, one of a
    /// shard more by name.
    ///
    /// - Returns: False if the answer is an error.
    func execute<Reply: ReplyWriter & ~Copyable>(
        _ request: borrowing Request, _ holdings: inout Holdings, reply: inout Reply
    ) -> Bool {
        do throws(SmallocError) {
            switch request {
            case .read(let target, let start, let count, let unit):
                try read(target, start, count, unit, &holdings, &reply)
            case .write(let target, let start, let payload, let unit):
                try write(target, start, payload, unit, &holdings, &reply)
            case .readRanges(let target, let ranges):
                try readRanges(target, ranges, &holdings, &reply)
            case .writeRanges(let target, let ranges, let data):
                try writeRanges(target, ranges, data, &holdings, &reply)
            case .fill(let target, let start, let count, let payload, let unit):
                try fill(target, start, count, payload, unit, &holdings, &reply)
            case .copy(let source, let sourceStart, let dest, let destStart, let count, let unit):
                try copy(
                    source, sourceStart, dest, destStart, count, unit, &holdings, &reply)
            case .alloc(let name, let type, let typeWord, let length, let unit, let flags):
                try alloc(name, type, typeWord, length, unit, flags, &holdings, &reply)
            case .open(let name): try open(name, &holdings, &reply)
            case .close(let handle): try close(handle, &holdings, &reply)
            case .dispose(let target): try dispose(target, &holdings, &reply)
            case .truncate(let target, let length, let unit):
                try truncate(target, length, unit, &holdings, &reply)
            case .rename(let target, let newName):
                try rename(target, newName, &holdings, &reply)
            case .stat(let target): try stat(target, &holdings, &reply)
            case .list(let prefix, let cursor, let count, let sorted):
                try list(prefix, cursor, count, sorted, &holdings, &reply)
            case .stats: stats(&reply)
            case .hello: reply.hello(limits.snapshot)
            case .ping: reply.pong()
            case .quit:
                reply.bye()
                holdings.deferred = .quit
            case .help:
                // Text mode answers it itself: there is nothing in the registry to ask.
                throw .malformed("help is a verb of text mode")
            }
            return true
        } catch {
            reply.error(error)
            return false
        }
    }

    // MARK: Finding

    /// Where a name belongs: its shard, and its 16 bits in the shard's table.
    ///
    /// Nobody can choose names that collide, see `NameHash`.
    @inline(never)
    func place(of name: UnsafeRawBufferPointer) -> (shard: Int, tag: UInt64) {
        place(of: nameHash.hash(of: name))
    }

    /// The same, of the name of a request, whose hash may be known.
    @inline(__always)
    func place(
        of name: UnsafeRawBufferPointer, _ known: KnownName
    ) -> (shard: Int, tag: UInt64) {
        place(of: known.start == name.baseAddress ? known.hash : nameHash.hash(of: name))
    }

    @inline(__always)
    func place(of hash: UInt64) -> (shard: Int, tag: UInt64) {
        (Int(hash & UInt64(Registry.shardCount - 1)), hash >> 48)
    }

    @inline(__always)
    func lock(of shard: Int) -> ByteLock { ByteLock(UnsafeMutableRawPointer(shards + shard)) }

    /// Tells those who look without the lock of a table that grew or shrank.
    ///
    /// Under the lock.
    @inline(__always)
    func publish(_ shard: Int) {
        let view = shards[shard].table.view
        if shards[shard].view.load(ordering: .relaxed) != view {
            shards[shard].view.store(view, ordering: .relaxed)
        }
    }

    /// The allocation of a name, with a reference for the caller; nil if there is none.
    func find(_ name: UnsafeRawBufferPointer, _ known: KnownName) -> Allocation? {
        let place = place(of: name, known)
        let lock = lock(of: place.shard)
        lock.lock()
        defer { lock.unlock() }
        let found = shards[place.shard].table.find(name, tag: place.tag)
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
        _ target: borrowing Reference, _ holdings: borrowing Holdings,
        missing: @autoclosure () -> SmallocError
    ) throws(SmallocError) -> Allocation {
        if target.handle != 0 {
            return try resolve(target.handle, holdings, missing: missing())
        }
        let found = find(target.name.bytes, holdings.known)
        guard let found else {
            // A name outside the grammar is never found; only then is it worth a look.
            throw Name.isValid(target.name) ? missing() : .invalidName
        }
        return found
    }

    /// The allocation of a handle, which keeps it for as long as the caller keeps the handle open.
    @inline(__always)
    func resolve(
        _ handle: UInt32, _ holdings: borrowing Holdings,
        missing: @autoclosure () -> SmallocError
    ) throws(SmallocError) -> Allocation {
        guard let allocation = holdings.handles[handle] else { throw missing() }
        return allocation
    }

    /// Ends what `resolve` began.
    @inline(__always)
    func letGo(_ allocation: Allocation, _ target: borrowing Reference) {
        if target.handle == 0 { release(allocation) }
    }

    /// Gives a reference back, and the memory with the last one.
    func release(_ allocation: Allocation) {
        if allocation.release() { budget.unchargeHeap(allocation.destroy(mappings: mappings)) }
    }

    // MARK: Ends

    /// Ends a transfer, done or not.
    func end(_ transfer: Transfer) {
        transfer.freeRanges()
        letGoPinned(transfer.allocation)
    }

    /// Ends work, done or not.
    ///
    /// Not while it runs.
    func end(_ work: Work) {
        if case .fill(_, let pattern) = work.kind { pattern.deallocate() }
        for allocation in [work.allocations.0, work.allocations.1] {
            guard let allocation else { continue }
            if work.isPinning { letGoPinned(allocation) } else { release(allocation) }
        }
    }

    private func letGoPinned(_ allocation: Allocation) {
        if let cut = allocation.unpin(mappings) { mappings.give(forGood: cut) }
        release(allocation)
    }

    /// Ends a connection: its handles close, its anonymous allocations go.
    func end(_ holdings: inout Holdings) {
        if holdings.handles.count > Registry.endedAtOnceMax {
            // Moved out, so that the connection is rid of them at once.
            let handles = HandleBox(holdings.handles.takeAll())
            if BackgroundThread.start({ [self] in end(&handles.table) }) { return }
            end(&handles.table)
        } else {
            end(&holdings.handles)
        }
    }

    /// Gives memory that is free, and was in use, back to the kernel.
    ///
    /// To be called every second or so, from any thread; the work is done on another.
    public func returnMemory() { mappings.returnMemory() }

    private func end(_ handles: inout HandleTable) {
        while let allocation = handles.closeLast(budget) {
            disposeIfAnonymous(allocation)
            release(allocation)
        }
    }

    /// Handles that a connection's end closes on its loop; more are left to a thread.
    private static let endedAtOnceMax = 512

    /// A table on its way to another thread.
    private final class HandleBox: @unchecked Sendable {
        var table: HandleTable

        init(_ table: consuming HandleTable) { self.table = table }
    }

    // MARK: Time

    /// Seconds since the registry's birth, by the monotonic clock.
    var age: UInt32 { UInt32(truncatingIfNeeded: Clock.coarseSeconds &- birthMonotonic) }

    /// The same, asked of the clock once for all that one call of `serve` does.
    @inline(__always)
    func age(_ holdings: inout Holdings) -> UInt32 {
        if holdings.age == 0 { holdings.age = UInt64(age) + 1 }
        return UInt32(truncatingIfNeeded: holdings.age - 1)
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
