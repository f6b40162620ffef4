// Gives an allocation memory that clients can map, its bytes unchanged, while requests go on.
//
// Small memory is copied at once, under the lock. A mapping moves slice by slice to where it is:
// each slice is written to the file, and the file is mapped over it, under the lock; so addresses
// stay as they were, and a request sees the old memory or the new one. Meanwhile nothing moves
// bytes without the lock: system calls and slices of work that do are waited for, each of which
// ends by itself; transfers go on by copies. So a client that does not read, or that trickles,
// holds nothing up.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import SmallocWire

/// The promotion of one allocation, for one request.
///
/// Used by one thread at a time, as its `Work` is.
final class Promotion {
    private let mappings: MappingPool
    private let populates: Bool
    /// Bytes that were populated; pinned while it is not nil.
    private var populated: Int?
    /// Whether it populates for writing, too.
    private var populatesWritable = false
    /// Bytes that an earlier promotion has moved, and that are not mapped as what is frozen is.
    private var thawed: Range<Int> = 0..<0
    /// Whether this one has begun to move the allocation, and others wait for it.
    private(set) var isMoving = false
    /// It had to wait, and should not go on at once.
    private var hasWaited = false
    /// Why it can't be.
    private(set) var error: SmallocError?

    /// - Parameter populates: Whether its pages are made, too, so that no access waits for one.
    init(_ mappings: MappingPool, populates: Bool) {
        self.mappings = mappings
        self.populates = populates
    }

    /// Does some of it.
    ///
    /// - Returns: Whether there is nothing left to do; else to be called again.
    func run(_ allocation: Allocation, steps: Int) -> Bool {
        do throws(SmallocError) {
            hasWaited = false
            for _ in 0..<steps where !hasWaited {
                if try step(allocation), isComplete(allocation) { return true }
            }
            return false
        } catch {
            self.error = error
            end(allocation)
            return true
        }
    }

    /// Whether there is nothing left to do, once a step says so.
    private func isComplete(_ allocation: Allocation) -> Bool {
        guard populates else { return true }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        return allocation.flags.contains(.disposed)
            || allocation.record?.sharing.contains(.populated) == true
    }

    /// Ends it, done or not: requests move bytes without the lock again.
    func end(_ allocation: Allocation) {
        if populated != nil {
            populated = nil
            if let cut = allocation.unpin(mappings, writes: populatesWritable) {
                mappings.give(forGood: cut)
            }
        }
        guard isMoving, let record = allocation.record else { return }
        isMoving = false
        allocation.lock.lock()
        record.sharing.remove(.moving)
        // What was cut off meanwhile, or disposed of.
        let cut = allocation.takeTail(mappings)
        allocation.lock.unlock()
        if let cut { mappings.give(forGood: cut) }
    }

    private func step(_ allocation: Allocation) throws(SmallocError) -> Bool {
        if isMoving { return try moveStep(allocation) }
        allocation.lock.lock()
        let isGone = allocation.flags.contains(.disposed)
        let record = allocation.record
        let kind = record?.kind
        let isPopulated = !populates || record?.sharing.contains(.populated) == true
        if kind == .memfd, !isPopulated, !isGone, populated == nil {
            // To make pages is to write: a freeze does not begin meanwhile.
            populatesWritable = !allocation.flags.contains(.frozen)
            allocation.pin(writes: populatesWritable)
            populated = 0
        }
        let isWaiting = allocation.isMoving
        allocation.lock.unlock()
        // The request, served again, finds out what it needs to know.
        if populated != nil, kind == .memfd { return try populate(allocation) }
        if isGone || kind == .memfd { return true }
        if isWaiting {
            // Another connection's promotion of the same.
            return wait(200)
        }
        if kind == .mapping {
            try begin(allocation)
            return false
        }
        return try kind == StorageRecord.Kind.none ? attach(allocation) : copy(allocation)
    }

    /// Gives what was never touched a file for its memory.
    ///
    /// - Returns: False: it was touched meanwhile.
    private func attach(_ allocation: Allocation) throws(SmallocError) -> Bool {
        guard let shares = mappings.shares, shares.add() else { throw .shareLimit }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        guard let record = allocation.record, record.kind == .none,
            !allocation.flags.contains(.disposed)
        else {
            shares.remove()
            return false
        }
        guard !record.sharing.contains(.shareable) else {
            shares.remove()
            guard mappings.attachFile(record, size: allocation.size) else { throw .outOfMemory }
            return true
        }
        guard mappings.attachFile(record, size: allocation.size) else {
            shares.remove()
            throw .outOfMemory
        }
        return true
    }

    /// Why the system has just refused a file: there is no memory for it, or no descriptor.
    private func refusal() -> SmallocError {
        errno == ENOSPC || errno == ENOMEM ? .outOfMemory : .shareLimit
    }

    /// Waits for something that ends by itself.
    private func wait(_ microseconds: UInt32) -> Bool {
        usleep(microseconds)
        hasWaited = true
        return false
    }

    // MARK: Pages

    /// Makes the pages of the next slice; readers and writers go on.
    private func populate(_ allocation: Allocation) throws(SmallocError) -> Bool {
        guard let record = allocation.record, let base = record.base, let at = populated else {
            return true
        }
        let size = min(Thresholds.promotedSliceSize, record.capacity - at)
        guard size <= 0 || smalloc_populate(base + at, size, populatesWritable) else {
            throw .outOfMemory
        }
        populated = at + size
        guard at + size >= record.capacity else { return false }
        allocation.lock.lock()
        record.sharing.insert(.populated)
        allocation.lock.unlock()
        return true
    }

    // MARK: A copy

    /// Moves inline data, or a slot of an arena, to a file.
    ///
    /// - Returns: False: it is to be tried again.
    private func copy(_ allocation: Allocation) throws(SmallocError) -> Bool {
        guard let shares = mappings.shares else { throw .shareLimit }
        allocation.lock.lock()
        let record = allocation.record
        // Transfers under way go on in it, as far as they reached when they began.
        let reach =
            allocation.flags.contains(.transferred)
            ? mappings.inlineTransfers.count(allocation.key).reach : Int(allocation.size)
        let capacity = record?.capacity ?? max(mappings.capacity(for: reach), mappings.pageSize)
        let isAtWork = (record?.atWork ?? 0) > 0
        allocation.lock.unlock()
        if isAtWork { return wait(20) }
        guard shares.add() else { throw .shareLimit }
        var undo = Undo()
        defer { if !undo.isDone { undo.run(mappings, shares) } }
        undo.charge = UInt64(capacity) + (record == nil ? MappingPool.recordCharge : 0)
        guard mappings.budget.charge(undo.charge) else {
            undo.charge = 0
            throw .memoryLimit
        }
        guard mappings.budget.chargeMappings(1) else { throw .shareLimit }
        undo.countsMapping = true
        guard let made = mappings.makeFile(capacity, size: 0, shares) else { throw refusal() }
        undo.file = made
        undo.capacity = capacity
        var newRecord: StorageRecord?
        if record == nil {
            guard let address = mappings.blocks.take(StorageRecord.size) else { throw .outOfMemory }
            newRecord = StorageRecord(address: address)
            undo.record = newRecord
        }
        // The pages before the lock: to take fresh ones is what takes long.
        memset(made.base, 0, capacity)
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        guard !allocation.flags.contains(.disposed) else { return true }
        if let newRecord {
            guard allocation.isInline, Int(allocation.size) <= capacity else { return false }
            newRecord.initialize(capacity: capacity, owner: allocation.owner, pool: mappings)
            made.base.copyMemory(from: allocation.data, byteCount: Int(allocation.size))
            try freeze(made, capacity, allocation)
            fill(newRecord, made, capacity, allocation)
            allocation.becomeRecorded(newRecord, mappings)
            mappings.tellWaiters(on: allocation)
            undo.isDone = true
            return true
        }
        guard let record, record.capacity == capacity, record.kind == .arena, record.atWork == 0,
            record.wipeStale(.max),
            let old = record.base
        else {
            hasWaited = true
            return false
        }
        // What was cut off is zeros from now on, for those who are in the middle of it, too.
        made.base.copyMemory(
            from: old, byteCount: min(record.writtenSize, Int(allocation.size)))
        try freeze(made, capacity, allocation)
        guard let oldRecord = takeOver(record) else { throw .outOfMemory }
        let written = record.writtenSize
        fill(record, made, capacity, allocation)
        record.writtenSize = written
        mappings.tellWaiters(on: allocation)
        undo.isDone = true
        // Transfers under way ask for their bytes anew, and get the new ones.
        mappings.give(oldRecord)
        return true
    }

    /// Freezes the copy of what was frozen before.
    private func freeze(
        _ made: (base: UnsafeMutableRawPointer, descriptor: Int32, slot: UInt32), _ capacity: Int,
        _ allocation: Allocation
    ) throws(SmallocError) {
        guard allocation.flags.contains(.frozen) else { return }
        guard smalloc_file_replace(made.descriptor, 0, made.base, capacity, false),
            seal(allocation, made.descriptor, made.slot)
        else { throw .outOfMemory }
    }

    /// A second record for memory that is replaced.
    private func takeOver(_ record: StorageRecord) -> StorageRecord? {
        guard let base = record.base, let address = mappings.blocks.take(StorageRecord.size) else {
            return nil
        }
        mappings.budget.chargeAnyway(MappingPool.recordCharge)
        let old = StorageRecord(address: address)
        old.initialize(capacity: record.capacity, owner: record.owner, pool: mappings)
        old.attach(
            base, record.kind, madeSize: record.madeSize, writtenSize: record.writtenSize)
        return old
    }

    private func fill(
        _ record: StorageRecord,
        _ made: (base: UnsafeMutableRawPointer, descriptor: Int32, slot: UInt32), _ capacity: Int,
        _ allocation: Allocation
    ) {
        let written = allocation.isInline ? Int(allocation.size) : 0
        record.attach(made.base, .memfd, madeSize: capacity, writtenSize: written)
        record.descriptor = made.descriptor
        record.slot = made.slot
        if allocation.flags.contains(.frozen) { record.sharing.insert(.sealed) }
        mappings.shares?.state.resize(made.slot, to: allocation.size)
    }

    /// What to take back if a promotion fails.
    private struct Undo {
        var charge: UInt64 = 0
        var countsMapping = false
        var file: (base: UnsafeMutableRawPointer, descriptor: Int32, slot: UInt32)?
        var capacity = 0
        var record: StorageRecord?
        var isDone = false

        func run(_ mappings: MappingPool, _ shares: SharedFiles) {
            if let file {
                _ = Mapping.unmap(file.base, capacity)
                close(file.descriptor)
                shares.state.give(file.slot)
            }
            if let record { mappings.blocks.give(record.address, StorageRecord.size) }
            if countsMapping { mappings.budget.unchargeMappings(1) }
            mappings.budget.uncharge(charge)
            shares.remove()
        }
    }

    /// Seals the new file of what was frozen before: no process has it yet.
    ///
    /// Under the lock, with no writable mapping of the file. False: the system refuses.
    private func seal(_ allocation: Allocation, _ descriptor: Int32, _ slot: UInt32) -> Bool {
        guard allocation.flags.contains(.frozen) else { return true }
        guard smalloc_file_freeze(descriptor) else { return false }
        mappings.shares?.state.raise(.frozen, of: slot)
        return true
    }

    // MARK: In place

    /// Has a mapping touched under the lock only, and its file made.
    private func begin(_ allocation: Allocation) throws(SmallocError) {
        guard let shares = mappings.shares else { throw .shareLimit }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        guard let record = allocation.record, record.kind == .mapping, !allocation.isMoving,
            !allocation.flags.contains(.disposed)
        else { return }
        if record.descriptor < 0 {
            guard shares.add() else { throw .shareLimit }
            let descriptor = smalloc_file_create(record.capacity)
            guard descriptor >= 0 else {
                let error = refusal()
                shares.remove()
                throw error
            }
            record.descriptor = descriptor
            record.movedEnd = 0
        }
        if let base = record.base { try wipeTail(record, base, Int(allocation.size)) }
        // It was frozen after an earlier promotion had moved that, and had then failed.
        thawed = 0..<(allocation.flags.contains(.frozen) ? record.movedEnd : 0)
        record.sharing.insert(.moving)
        isMoving = true
    }

    /// Makes zero what is behind the last byte: a client could see it.
    ///
    /// That is less than a page, unless a truncate came after a promotion that had failed, or
    /// something is under way: then it makes zero what is in the file already, and the rest never
    /// gets there.
    private func wipeTail(
        _ record: StorageRecord, _ base: UnsafeMutableRawPointer, _ size: Int
    ) throws(SmallocError) {
        let written = record.writtenSize
        guard written > size else { return }
        // What is in the file may be mapped for reading only.
        let moved = min(record.movedEnd, written) - size
        guard moved <= 0 || smalloc_file_punch(record.descriptor, size, moved) else {
            throw .outOfMemory
        }
        guard record.pins == 0 else { return }
        let start = max(size, record.movedEnd)
        if written > start { memset(base + start, 0, written - start) }
        record.cut(to: size)
    }

    /// Moves the next slice.
    private func moveStep(_ allocation: Allocation) throws(SmallocError) -> Bool {
        guard let shares = mappings.shares, let record = allocation.record else { return true }
        // Both copies of a slice at most are there at a time: that much is charged beside.
        allocation.lock.lock()
        guard record.atWork == 0, record.wipeStale(Thresholds.promotedSliceSize),
            let base = record.base
        else {
            allocation.lock.unlock()
            return wait(20)
        }
        if let at = thawed.first {
            let size = min(Thresholds.promotedSliceSize, thawed.count)
            let isMapped = smalloc_file_replace(record.descriptor, at, base + at, size, false)
            thawed = (at + size)..<thawed.upperBound
            allocation.lock.unlock()
            guard isMapped else { throw .outOfMemory }
            return false
        }
        let at = record.movedEnd
        if at < record.capacity {
            let size = min(Thresholds.promotedSliceSize, record.capacity - at)
            // What was never written, or was cut off, is a hole.
            let kept = min(record.writtenSize, Int(allocation.size))
            let written = max(0, min(size, kept - at))
            let isMoved =
                smalloc_file_write(record.descriptor, at, base + at, written)
                && smalloc_file_replace(
                    record.descriptor, at, base + at, size, !allocation.flags.contains(.frozen))
            if isMoved { record.movedEnd = at + size }
            allocation.lock.unlock()
            guard isMoved else {
                // Else it could come back: zeros are left out when it is moved again.
                _ = smalloc_file_punch(record.descriptor, at, size)
                throw .outOfMemory
            }
            return false
        }
        let slot = shares.state.take(size: allocation.size)
        guard slot != 0 else {
            allocation.lock.unlock()
            throw .shareLimit
        }
        guard seal(allocation, record.descriptor, slot) else {
            shares.state.give(slot)
            allocation.lock.unlock()
            throw .outOfMemory
        }
        record.becomeFile(slot: slot)
        if allocation.flags.contains(.frozen) { record.sharing.insert(.sealed) }
        mappings.tellWaiters(on: allocation)
        _ = smalloc_welcome_huge(base, record.capacity, true)
        allocation.lock.unlock()
        end(allocation)
        return true
    }
}
