// Operations that make an allocation's bytes part of a client's address space.
// protocol/spec.md § Operations is the source of every check and its order.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    /// Answers with a descriptor of the allocation's memory, opened anew for the client.
    ///
    /// What was made to be mapped, and was never touched, gets its memory at once: some ten
    /// microseconds, less than another thread takes to wake. Other memory that can't be mapped yet
    /// is promoted first, off the loop.
    func map<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ flags: MapFlags, _ caller: inout Caller,
        _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let shares = try shares(for: caller)
        let failure = caller.promotionError
        caller.promotionError = nil
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        if let failure { throw failure }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let size = allocation.size
        let isWritable = flags.contains(.writable)
        guard size > 0 else {
            if isWritable { try Registry.checkMappable(allocation) }
            reply.mapped(
                MapStatus(type: allocation.type, offset: 0, size: 0, slot: 0, generation: 0),
                (-1, -1))
            return .answered
        }
        let populates = flags.contains(.populate)
        if let record = allocation.record, record.kind == .none, !populates,
            record.sharing.contains(.shareable)
        {
            guard mappings.attachFile(record, size: size) else { throw .outOfMemory }
        }
        guard let record = allocation.record, record.kind == .memfd,
            !populates || record.sharing.contains(.populated)
        else {
            allocation.retain()
            return .later(
                Pending(
                    .work(
                        Work(
                            kind: .promote(Promotion(mappings, populates: populates)), size: 0,
                            allocations: (allocation, nil)))))
        }
        if isWritable { try Registry.checkMappable(allocation) }
        // A client can touch all of the file, also what a truncate gave back before it was handed
        // out.
        let uncharged = record.madeSize - record.capacity
        guard uncharged <= 0 || budget.charge(UInt64(uncharged)) else { throw .memoryLimit }
        if uncharged > 0 {
            record.keptEnd = record.capacity
            record.capacity = record.madeSize
        }
        let count = caller.hasStateMemory ? 1 : 2
        guard shares.addPassing(count) else { throw .shareLimit }
        caller.passedCount += Int32(count)
        var (file, state): (Int32, Int32) = (-1, -1)
        do throws(SmallocError) {
            file = try Registry.reopen(record.descriptor, isWritable: isWritable)
            if count == 2 {
                state = try Registry.reopen(shares.state.descriptor, isWritable: false)
            }
        } catch {
            if file >= 0 { Glibc.close(file) }
            caller.passedCount -= Int32(count)
            shares.removePassing(count)
            throw error
        }
        record.sharing.insert(.handedOut)
        allocation.lease?.fields.pointee.wasMapped = true
        caller.hasStateMemory = true
        caller.maps &+= 1
        caller.cost += Caller.Cost.largeMemory
        reply.mapped(
            MapStatus(
                type: allocation.type, offset: 0, size: size, slot: record.slot,
                generation: shares.state.generation(of: record.slot)), (file, state))
        return .answered
    }

    /// A hint that the client has unmapped something, maybe the last of what it held: the kernel is
    /// asked now, and not within a second.
    func unmap<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let shares = try shares(for: caller)
        if shares.heldSize > 0 { mappings.lookForGone() }
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        if caller.maps > 0 { caller.maps -= 1 }
        reply.ok()
        return .answered
    }

    /// Makes an allocation's bytes unchangeable, for ever: off the loop, if clients map it.
    func freeze<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        var isDone = false
        defer { if isDone { tellFrozen(allocation) } }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let record = allocation.record
        if allocation.flags.contains(.frozen) {
            if record?.sharing.contains(.freezing) == true { throw .busy }
            // One whose memory could not be mapped for writing again is to be sealed yet.
            guard let record, record.kind == .memfd, !record.sharing.contains(.sealed) else {
                reply.ok()
                return .answered
            }
        }
        // Neither a transfer that writes, nor a move to a file, may go on in what is frozen.
        guard allocation.writers(mappings) == 0, !allocation.isMoving else { throw .busy }
        // What was never touched gets memory that can be frozen, and all of it is its own.
        if let record, allocation.size > 0 {
            if record.kind == .none {
                _ = try allocation.access(Extent(offset: 0, size: 1), .read).atHand()
            }
            if record.isStale { return later(allocation) }
        }
        let wasFrozen = allocation.flags.contains(.frozen)
        allocation.flags.insert(.frozen)
        guard let record, record.kind == .memfd else {
            isDone = true
            reply.ok()
            return .answered
        }
        record.sharing.insert(.freezing)
        allocation.pin(writes: false)
        allocation.retain()
        return .later(
            Pending(
                .work(
                    Work(
                        kind: .freeze(Freezing(mappings, wasFrozen: wasFrozen)), size: 0,
                        allocations: (allocation, nil)))
            ))
    }

    /// The memory that a client can map, where it can map any.
    private func shares(for caller: borrowing Caller) throws(SmallocError) -> SharedFiles {
        guard caller.takesDescriptors else { throw .mapNeedsUnixSocket }
        guard let shares = mappings.shares else { throw .mapIsOff }
        return shares
    }

    /// Whether it can be mapped for writing.
    ///
    /// Under its lock.
    private static func checkMappable(_ allocation: Allocation) throws(SmallocError) {
        guard allocation.flags.contains(.frozen) else { return }
        throw allocation.record?.sharing.contains(.freezing) == true ? .busy : .frozen
    }

    /// Opens a file anew: the kernel counts those that clients have apart from the daemon's own.
    private static func reopen(
        _ descriptor: Int32, isWritable: Bool
    ) throws(SmallocError) -> Int32 {
        let file = smalloc_file_reopen(descriptor, isWritable)
        if file >= 0 { return file }
        switch errno {
        case EWOULDBLOCK: throw .leased
        case EMFILE, ENFILE: throw .shareLimit
        default: throw .outOfMemory
        }
    }

    /// Which maps of an allocation are out.
    ///
    /// Under its lock. The kernel is asked, which takes some microseconds; what it can't say counts
    /// as writable.
    func mapsOut(_ allocation: Allocation) -> MapKind {
        guard let record = allocation.record, record.kind == .memfd,
            record.sharing.contains(.handedOut)
        else { return .none }
        let holders = smalloc_file_holders(record.descriptor)
        return holders == 0 ? .none : holders == 1 ? .read : .write
    }
}
