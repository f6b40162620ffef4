// What truncate cuts off a large allocation, and what dispose leaves of one to which other
// connections have handles, goes back to the system, in whole pages, as soon as no transfer can be
// in the middle of moving it.
//
// What clients can map is a file, and what is cut off it becomes zeros at once, whatever is under
// way: a page that is given back keeps its address, and who reads or writes there gets a new one.
// So a reader that stalls keeps the addresses, and what they are charged, and no bytes. A request
// that writes may put bytes behind the cut until it ends; then they become zeros as well.

internal import CSmalloc
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

    /// The same for a transfer, which may be of inline data: its block stays anyway, and the file
    /// that it may move to is made as large as the transfer needs.
    func pin(_ mappings: MappingPool, writes: Bool) {
        guard isInline else { return pin(writes: writes) }
        flags.insert(.transferred)
        mappings.inlineTransfers.begin(key, writes: writes, reach: Int(size))
    }

    /// By which its transfers of inline data are found.
    var key: Int { Int(bitPattern: block) }

    /// Transfers and work under way that write; under the lock.
    func writers(_ mappings: MappingPool) -> UInt32 {
        if let record { return record.writers }
        guard flags.contains(.transferred) else { return 0 }
        return mappings.inlineTransfers.count(key).writers
    }

    /// Ends a `pin`.
    ///
    /// - Returns: What was cut off meanwhile, as `takeTail`.
    func unpin(_ mappings: MappingPool, writes: Bool) -> Mapping? {
        lock.lock()
        defer { lock.unlock() }
        guard let record else {
            guard flags.contains(.transferred) else { return nil }
            if mappings.inlineTransfers.end(key, writes: writes) { flags.remove(.transferred) }
            return nil
        }
        record.pins -= 1
        if writes { record.writers -= 1 }
        // With the last reference all of it goes, and in one piece.
        guard !isUnshared else { return nil }
        // It may have written behind a cut.
        let wroteBehind = writes && record.writtenSize > Int(size)
        guard record.pins == 0 || wroteBehind else { return nil }
        return takeTail(mappings, wroteBehind: wroteBehind)
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
    ///
    /// - Parameter wroteBehind: Whether a request that has ended may have put bytes there again.
    func takeTail(_ mappings: MappingPool, wroteBehind: Bool = false) -> Mapping? {
        guard let record else { return nil }
        if record.kind == .memfd {
            takeSharedTail(record, mappings, wroteBehind: wroteBehind)
            return nil
        }
        // Pinned, or a mapping that is on its way to a file.
        guard record.pins == 0, record.descriptor < 0 else { return nil }
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

    /// The same of memory that clients map, pinned or not.
    ///
    /// What was disposed of is parted with as a whole: who has mapped it keeps it. What was cut off
    /// reads as zeros for all, and stays charged if a client, or a request under way, could touch
    /// it again.
    private func takeSharedTail(
        _ record: StorageRecord, _ mappings: MappingPool, wroteBehind: Bool
    ) {
        guard let base = record.base else { return }
        guard !flags.contains(.disposed) else {
            // It is charged a page as long as it is open somewhere, as all that has a record is.
            if record.pins == 0 { giveShared(record, mappings, capacity: mappings.pageSize) }
            return
        }
        guard !flags.contains(.frozen) else { return }
        let size = Int(size)
        let kept = max(mappings.capacity(for: size), mappings.pageSize)
        let isOut = record.sharing.contains(.handedOut)
        if isOut, size <= Thresholds.leftSizeMax, kept < record.capacity,
            leaveFile(record, mappings, kept)
        {
            return
        }
        let staysCharged = isOut || record.pins > 0
        let written = isOut ? record.capacity : record.writtenSize
        var end = staysCharged && record.keptEnd > 0 ? record.keptEnd : record.capacity
        if wroteBehind { end = max(end, mappings.capacity(for: record.writtenSize)) }
        if written > size {
            clear(record, base, size..<min(kept, written))
            // A slice under way writes on: its end has to find that there is something.
            if record.atWork == 0 || record.writers == 0 { record.cut(to: size) }
        }
        guard kept < end else { return }
        record.sharing.insert(.cut)
        if staysCharged {
            record.keptEnd = kept
        } else {
            record.keptEnd = 0
            record.capacity = kept
        }
        // Under the lock: what is given later, the whole of it, stands behind it in the queue.
        mappings.give(
            forGood: Mapping(
                base: base + kept, capacity: end - kept, writtenSize: max(written - kept, 0),
                kind: .memfdTail, isCharged: !staysCharged))
    }

    /// Moves what is left to a file of its own where no client is seen to have the old one mapped.
    ///
    /// The old one is given up: whoever holds it in a way that can't be seen is told of by the
    /// kernel, and until then it stays charged.
    ///
    /// - Returns: False: a client has it, something is under way, or there is no memory.
    private func leaveFile(
        _ record: StorageRecord, _ mappings: MappingPool, _ kept: Int
    ) -> Bool {
        guard record.pins == 0, record.atWork == 0, let base = record.base,
            let shares = mappings.shares, smalloc_file_holders(record.descriptor) == 0,
            shares.add()
        else { return false }
        // Larger memory is counted as a kernel mapping from the beginning.
        let isCounted = kept <= Arenas.sizeMax
        if !isCounted || mappings.budget.chargeMappings(1) {
            if let made = mappings.makeFile(kept, size: size, shares) {
                let (old, isShareable) = (record.slot, record.sharing.contains(.shareable))
                memcpy(made.base, base, Int(size))
                if giveShared(record, mappings, capacity: kept) {
                    record.attach(
                        made.base, .memfd, madeSize: kept, writtenSize: Int(size))
                    record.descriptor = made.descriptor
                    record.slot = made.slot
                    if isShareable { record.sharing.insert(.shareable) }
                    shares.state.end(old)
                    mappings.tellWaiters(on: self)
                    return true
                }
                _ = smalloc_unmap(made.base, kept)
                close(made.descriptor)
                shares.state.give(made.slot)
            }
            if isCounted { mappings.budget.unchargeMappings(1) }
        }
        shares.remove()
        return false
    }

    /// Makes zero what is behind the last byte, up to the page's end: a client could see it, and
    /// may have stored it.
    private func clear(
        _ record: StorageRecord, _ base: UnsafeMutableRawPointer, _ range: Range<Int>
    ) {
        guard range.count > 0 else { return }
        // The kernel does it in order with a system call, or a slice, that moves bytes there now.
        if record.atWork > 0,
            smalloc_file_punch(record.descriptor, range.lowerBound, range.count)
        {
            return
        }
        memset(base + range.lowerBound, 0, range.count)
    }

    /// Parts with all of the memory, and leaves a record that has none yet.
    ///
    /// - Returns: False: there is no memory for a second record.
    @discardableResult
    private func giveShared(
        _ record: StorageRecord, _ mappings: MappingPool, capacity: Int
    ) -> Bool {
        guard let address = mappings.blocks.take(StorageRecord.size) else { return false }
        let whole = StorageRecord(address: address)
        memcpy(address, record.address, StorageRecord.size)
        mappings.budget.chargeAnyway(UInt64(capacity) + MappingPool.recordCharge)
        let owner = record.owner
        record.initialize(capacity: capacity, owner: owner, pool: mappings)
        mappings.give(whole)
        return true
    }
}
