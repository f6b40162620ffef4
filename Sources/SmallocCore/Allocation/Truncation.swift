// What truncate cuts off a large allocation, and what dispose leaves of one to which other
// connections have handles, goes back to the system, in whole pages, as soon as no transfer can be
// in the middle of moving it.

internal import Glibc
internal import SmallocSystem

/// Transfers and work move bytes without the lock, where the memory was when they began.
///
/// Until they end they pin it: what is cut off meanwhile stays mapped, and charged, and goes with
/// the last of them. A thread that holds the lock needs no pin: `size` says how far it may go.
extension Allocation {
    /// Transfers and work under way.
    var pins: Int { record.map { Int($0.pins) } ?? 0 }

    /// Keeps the memory where it is, as far as it reaches now, until `unpin`.
    ///
    /// Under the lock, with a reference.
    ///
    /// - Parameter writes: Whether it changes bytes: meanwhile the allocation can't be frozen.
    func pin(writes: Bool) {
        guard let record else { return }
        record.pins += 1
        if writes { record.writers += 1 }
    }

    /// Ends a `pin`.
    ///
    /// - Returns: What was cut off meanwhile, as `takeTail`.
    func unpin(_ mappings: MappingPool, writes: Bool) -> Mapping? {
        lock.lock()
        defer { lock.unlock() }
        guard let record else { return nil }
        record.pins -= 1
        if writes { record.writers -= 1 }
        // With the last reference all of it goes, and in one piece.
        return isUnshared ? nil : takeTail(mappings)
    }

    /// From here on the allocation is gone for all connections.
    ///
    /// Under the lock. A connection that still has a handle to it need not know, and may keep it
    /// for days: so its memory is cut off, as by a truncate to nothing, unless the caller is the
    /// last user and `destroy` comes next.
    ///
    /// - Parameter ownReferences: Those that the caller gives back at once.
    /// - Returns: As `takeTail`.
    func endForAll(_ mappings: MappingPool, ownReferences: UInt64 = 1) -> Mapping? {
        flags.insert(.disposed)
        if let record, record.slot != 0 { mappings.shares?.state.end(record.slot) }
        guard record != nil, referenceCount > ownReferences else { return nil }
        size = 0
        return takeTail(mappings)
    }

    /// Parts with the whole pages behind `size`, unless they are pinned.
    ///
    /// Under the lock. They are the caller's to give back to the pool, before its reference.
    func takeTail(_ mappings: MappingPool) -> Mapping? {
        guard let record, record.pins == 0 else { return nil }
        if record.kind == .memfd { return takeSharedTail(record, mappings) }
        // A mapping that is on its way to a file.
        if record.descriptor >= 0 { return nil }
        // A page at least, so that there is always memory behind a pointer.
        let kept = max(mappings.capacity(for: Int(size)), mappings.pageSize)
        let capacity = record.capacity
        guard kept < capacity else { return nil }
        guard let base = record.base else {
            mappings.uncharge(record, downTo: kept)
            return nil
        }
        record.capacity = kept
        let written = max(record.writtenSize - kept, 0)
        record.cut(to: kept)
        // Addresses are many, but a client could take all of them if what it cut off kept them.
        let takesAddresses = record.kind == .mapping && record.madeSize == capacity
        if takesAddresses { record.madeSize = kept }
        return Mapping(
            base: base + kept, capacity: capacity - kept, writtenSize: written,
            kind: takesAddresses ? .mappingTail : .tail)
    }

    /// The same of memory that clients map.
    ///
    /// What was disposed of is parted with as a whole: who has mapped it keeps it. What was cut off
    /// reads as zeros for all, and stays charged if a client could touch it again.
    private func takeSharedTail(_ record: StorageRecord, _ mappings: MappingPool) -> Mapping? {
        guard let base = record.base else { return nil }
        if flags.contains(.disposed) {
            // Without memory for a second record it goes with the last reference.
            guard let address = mappings.blocks.take(StorageRecord.size) else { return nil }
            let whole = StorageRecord(address: address)
            memcpy(address, record.address, StorageRecord.size)
            // It is charged a page as long as it is open somewhere, as all that has a record is.
            mappings.budget.chargeAnyway(UInt64(mappings.pageSize) + MappingPool.recordCharge)
            let owner = record.owner
            record.initialize(capacity: mappings.pageSize, owner: owner, pool: mappings)
            mappings.give(whole)
            return nil
        }
        guard !flags.contains(.frozen) else { return nil }
        let kept = max(mappings.capacity(for: Int(size)), mappings.pageSize)
        let isOut = record.sharing.contains(.handedOut)
        // Behind the last byte, up to the page's end: a client could see it, and may have stored
        // it.
        let written = isOut ? record.capacity : record.writtenSize
        if written > Int(size) {
            memset(base + Int(size), 0, min(kept, written) - Int(size))
        }
        let end = isOut && record.keptEnd > 0 ? record.keptEnd : record.capacity
        guard kept < end else { return nil }
        record.cut(to: Int(size))
        record.sharing.insert(.cut)
        if isOut {
            record.keptEnd = kept
            mappings.budget.chargeAnyway(UInt64(end - kept))
        } else {
            record.capacity = kept
        }
        // Under the lock: what is given later, the whole of it, stands behind it in the queue.
        mappings.give(
            forGood: Mapping(
                base: base + kept, capacity: end - kept, writtenSize: max(written - kept, 0),
                kind: .memfdTail))
        return nil
    }
}
