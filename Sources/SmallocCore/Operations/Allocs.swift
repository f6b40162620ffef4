// The operation that makes allocations, and what it does when there is no memory for one.
// protocol/spec.md § Operations is the source of every check and its order.

internal import Glibc
internal import SmallocWire

extension Registry {
    /// Makes an allocation that says more of itself.
    @inline(never)
    func allocDescribed<Reply: ReplyWriter & ~Copyable>(
        _ name: RawSpan, _ typeNumber: UInt8, _ typeWord: RawSpan, _ length: UInt64, _ unit: Unit,
        _ flags: AllocFlags, _ description: borrowing Payload, _ caller: inout Caller,
        _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let description = try Description(description, isLeased: flags.contains(.leased))
        return try withUnsafePointer(to: description) { (description) throws(SmallocError) in
            try allocate(
                name, typeNumber, typeWord, length, unit, flags, description,
                isShareable: flags.contains(.shareable), &caller, &reply)
        }
    }

    /// Makes an allocation without a description.
    @inline(__always)
    func alloc<Reply: ReplyWriter & ~Copyable>(
        _ name: RawSpan, _ typeNumber: UInt8, _ typeWord: RawSpan, _ length: UInt64, _ unit: Unit,
        _ flags: AllocFlags, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        guard flags.isDisjoint(with: [.shareable, .leased]) else {
            return try allocUnusual(
                name, typeNumber, typeWord, length, unit, flags, &caller, &reply)
        }
        return try allocate(
            name, typeNumber, typeWord, length, unit, flags, nil, isShareable: false, &caller,
            &reply)
    }

    /// The same, of memory that clients can map, or with a lease.
    @inline(never)
    private func allocUnusual<Reply: ReplyWriter & ~Copyable>(
        _ name: RawSpan, _ typeNumber: UInt8, _ typeWord: RawSpan, _ length: UInt64, _ unit: Unit,
        _ flags: AllocFlags, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let isShareable = flags.contains(.shareable)
        guard flags.contains(.leased) else {
            return try allocate(
                name, typeNumber, typeWord, length, unit, flags, nil, isShareable: isShareable,
                &caller, &reply)
        }
        return try withUnsafePointer(to: .ofConnection) { (description) throws(SmallocError) in
            try allocate(
                name, typeNumber, typeWord, length, unit, flags, description,
                isShareable: isShareable, &caller, &reply)
        }
    }

    /// - Parameters:
    ///   - description: Nil without the flag `described`.
    ///   - isShareable: The flag; what neither has pays for neither.
    @inline(__always)
    private func allocate<Reply: ReplyWriter & ~Copyable>(
        _ name: RawSpan, _ typeNumber: UInt8, _ typeWord: RawSpan, _ length: UInt64, _ unit: Unit,
        _ flags: AllocFlags, _ description: UnsafePointer<Description>?, isShareable: Bool,
        _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        // Where nothing is mapped, nothing is made for it.
        let isShareable = isShareable && mappings.shares != nil
        guard name.byteCount == 0 || isAllowed(name) else { throw .invalidName }
        guard let type = ElementType(wire: typeNumber) else {
            throw .unknownType(typeWord.byteCount > 0 ? typeWord.printable : "\(typeNumber)")
        }
        let size = WireSize(length, unit, type)
        guard size.bytes <= limits.lengthSizeMax else { throw .overMaxLength }
        guard size.bytes % UInt64(type.size) == 0 else {
            throw .invalidArgument("the size is not a whole number of elements")
        }
        if let description {
            try description.pointee.check(length: size.bytes >> UInt64(type.shift))
        }
        let wantsHandle = !flags.contains(.noHandle)
        if wantsHandle, UInt64(caller.handles.count) >= limits.handlesMax {
            throw taken(name) ? .alreadyExists : .handleLimit
        }
        // Told before the table of handles grows: a refused request changes nothing.
        if wantsHandle, caller.handles.isFull, taken(name) {
            throw .alreadyExists
        }
        // Large memory is not taken for a name that is.
        if isShareable || size.bytes >= UInt64(Thresholds.outOfLineSizeMin), taken(name) {
            throw .alreadyExists
        }
        if isShareable { try addShare() }
        guard budget.addAllocation() else {
            if isShareable { mappings.shares?.remove() }
            throw taken(name) ? .alreadyExists : .allocationLimit
        }
        let allocation: Allocation
        do throws(SmallocError) {
            allocation = try make(
                name, type, Int(size.bytes), age(&caller), caller.owner, description, isShareable)
        } catch {
            if isShareable { mappings.shares?.remove() }
            return try refuseAlloc(name, size, error, &caller)
        }
        do throws(SmallocError) {
            if wantsHandle, let error = caller.handles.reserve(budget) {
                abandon(allocation)
                throw error
            }
            if description != nil, let lease = allocation.lease {
                try begin(lease, allocation, &caller)
            }
        } catch {
            return try refuseAlloc(name, size, error, &caller)
        }
        caller.memoryWaits = 0
        caller.cost += Registry.cost(ofMaking: size.bytes)
        // Under its name any client may dispose of it at once: the handle's reference comes before.
        if wantsHandle { allocation.retain() }
        if name.byteCount > 0 {
            let added = insert(allocation, name.bytes)
            guard added == .added else {
                budget.removeAllocation()
                if wantsHandle { _ = allocation.release() }
                if description != nil {
                    endLease(allocation)
                    named(allocation)
                }
                abandon(allocation)
                throw added == .taken ? .alreadyExists : .outOfMemory
            }
        }
        var handle: UInt32 = 0
        if wantsHandle { handle = caller.handles.open(allocation) }
        reply.opened(handle: handle, type: type, size: size.bytes)
        if description != nil { named(allocation) }
        return .answered
    }

    /// Gives back the memory of what is not made after all.
    @inline(never)
    private func abandon(_ allocation: Allocation) { releaseQuietly(allocation) }

    /// Gives back the reference that `begin` has taken: an allocation has its name, or gets none.
    @inline(never)
    private func named(_ allocation: Allocation) {
        if allocation.isLeased { release(allocation) }
    }

    /// Begins the lease of an allocation that has no name yet, with a reference more: a short one
    /// may be over before the name is there.
    @inline(never)
    private func begin(
        _ lease: Lease, _ allocation: Allocation, _ caller: inout Caller
    ) throws(SmallocError) {
        do throws(SmallocError) {
            try leases.add(lease, &caller.leases)
        } catch {
            abandon(allocation)
            throw error
        }
        allocation.retain()
    }

    /// Counts one more file for memory that clients will map.
    @inline(never)
    private func addShare() throws(SmallocError) {
        guard mappings.shares?.add() == true else { throw .shareLimit }
    }

    /// What an alloc costs, as bytes of a copy: inline data is wiped, and what is very large takes
    /// its addresses from the kernel at once.
    @inline(__always)
    private static func cost(ofMaking size: UInt64) -> Int {
        if size < UInt64(Thresholds.outOfLineSizeMin) {
            return Int(size) + Caller.Cost.inlineMemory
        }
        return size > UInt64(Thresholds.lazySizeMax) ? 65_536 : Caller.Cost.largeMemory
    }

    /// Ends an alloc for which there was no memory: with its error, or by waiting for memory that
    /// is on its way back.
    @inline(never)
    private func refuseAlloc(
        _ name: RawSpan, _ size: WireSize, _ error: SmallocError, _ caller: inout Caller
    ) throws(SmallocError) -> Outcome {
        budget.removeAllocation()
        let waits = caller.memoryWaits
        caller.memoryWaits = 0
        if taken(name) { throw .alreadyExists }
        guard error.status == .memoryLimit else { throw error }
        caller.memoryWaits = waits
        let mapped = mappings.capacity(for: Int(size.bytes))
        if let outcome = waitForMemory(UInt64(mapped), &caller) { return outcome }
        throw error
    }

    /// The wait for memory that is on its way back and makes `size` bytes fit: the request is
    /// served again after it.
    ///
    /// So it is when nothing is on its way any more, but the bytes would fit: they came back a
    /// moment ago. Nil: it does not help to wait.
    func waitForMemory(_ size: UInt64, _ caller: inout Caller) -> Outcome? {
        // What clients held, and have let go of since the loop looked.
        mappings.shares?.releaseGone(budget)
        guard size > 0 || mappings.pendingSize > 0 || mappings.warmSize > 0,
            caller.memoryWaits < 3,
            budget.canFit(size, returning: UInt64(mappings.pendingSize))
        else {
            caller.memoryWaits = 0
            return nil
        }
        caller.memoryWaits += 1
        return .later(Pending(.memory(mappings)))
    }

    /// Makes an allocation within the memory limit.
    ///
    /// - Throws: `.memoryLimit`, `.outOfMemory`.
    @inline(__always)
    private func make(
        _ name: RawSpan, _ type: ElementType, _ size: Int, _ age: UInt32, _ owner: UInt32,
        _ description: UnsafePointer<Description>?, _ isShareable: Bool
    ) throws(SmallocError) -> Allocation {
        if size >= Thresholds.outOfLineSizeMin || isShareable {
            return try makeRecorded(name, type, size, age, owner, description, isShareable)
        }
        // Of malloc's blocks it is known only after what they take; corrected below.
        let estimate = Allocation.heapCharge(
            nameSize: name.byteCount, size: size, description: description)
        guard budget.charge(estimate) else { throw .memoryLimit }
        let made = Allocation.make(
            name: name.bytes, type: type, size: size, created: age, owner: owner,
            description: description, mappings: mappings)
        guard let made else {
            budget.uncharge(estimate)
            throw .outOfMemory
        }
        if !made.flags.contains(.pooled) {
            budget.correct(from: estimate, to: made.heapCharge(mappings.blocks))
        }
        return made
    }

    /// The same, of one that is not inline.
    @inline(never)
    private func makeRecorded(
        _ name: RawSpan, _ type: ElementType, _ size: Int, _ age: UInt32, _ owner: UInt32,
        _ description: UnsafePointer<Description>?, _ isShareable: Bool
    ) throws(SmallocError) -> Allocation {
        mappings.noteFragmented()
        let estimate = Allocation.heapCharge(
            nameSize: name.byteCount, size: isShareable ? 0 : size, description: description)
        let capacity = UInt64(
            isShareable
                ? max(mappings.capacity(for: size), mappings.pageSize)
                : mappings.capacity(for: size))
        let charge = estimate + capacity + MappingPool.recordCharge
        var error = SmallocError.memoryLimit
        if budget.charge(charge) {
            let made = Allocation.make(
                name: name.bytes, type: type, size: size, created: age, owner: owner,
                description: description, isShareable: isShareable, mappings: mappings)
            if let made {
                if !made.flags.contains(.pooled) {
                    budget.correct(from: estimate, to: made.heapCharge(mappings.blocks))
                }
                return made
            }
            budget.uncharge(charge)
            error = .outOfMemory
        }
        throw error
    }
}
