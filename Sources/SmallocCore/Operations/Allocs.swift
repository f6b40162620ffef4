// The operation that makes allocations, and what it does when there is no memory for one.
// protocol/spec.md § Operations is the source of every check and its order.

internal import Glibc
internal import SmallocWire

extension Registry {
    func alloc<Reply: ReplyWriter & ~Copyable>(
        _ name: RawSpan, _ typeNumber: UInt8, _ typeWord: RawSpan, _ length: UInt64, _ unit: Unit,
        _ flags: RequestFlags, _ holdings: inout Holdings, _ reply: inout Reply
    ) throws(SmallocError) {
        guard name.byteCount == 0 || isAllowed(name) else { throw .invalidName }
        guard let type = ElementType(wire: typeNumber) else {
            throw .unknownType(typeWord.byteCount > 0 ? typeWord.printable : "\(typeNumber)")
        }
        let size = WireSize(length, unit, type)
        guard size.bytes <= limits.lengthSizeMax else { throw .overMaxLength }
        guard size.bytes % UInt64(type.size) == 0 else {
            throw .invalidArgument("the size is not a whole number of elements")
        }
        let wantsHandle = !flags.contains(.noHandle)
        if wantsHandle, UInt64(holdings.handles.count) >= limits.handlesMax {
            throw taken(name, holdings.known) ? .alreadyExists : .handleLimit
        }
        // Told before the table of handles grows: a refused request changes nothing.
        if wantsHandle, holdings.handles.isFull, taken(name, holdings.known) {
            throw .alreadyExists
        }
        // Large memory is not taken for a name that is.
        if size.bytes >= UInt64(MappingPool.sizeMin), taken(name, holdings.known) {
            throw .alreadyExists
        }
        guard budget.addAllocation() else {
            throw taken(name, holdings.known) ? .alreadyExists : .allocationLimit
        }
        let allocation: Allocation
        do throws(SmallocError) {
            allocation = try make(name, type, Int(size.bytes), age(&holdings))
            if wantsHandle, let error = holdings.handles.reserve(budget) {
                release(allocation)
                throw error
            }
        } catch {
            try refuseAlloc(name, size, error, &holdings)
            return
        }
        holdings.reclaims = 0
        if size.bytes < UInt64(MappingPool.sizeMin) { holdings.cost += Int(size.bytes) }
        // Under its name anybody may dispose of it at once: the handle's reference comes before.
        if wantsHandle { allocation.retain() }
        if name.byteCount > 0 {
            do throws(SmallocError) {
                try insert(allocation, name.bytes, holdings.known)
            } catch {
                budget.removeAllocation()
                if wantsHandle { _ = allocation.release() }
                release(allocation)
                throw error
            }
        }
        var handle: UInt32 = 0
        if wantsHandle { handle = holdings.handles.open(allocation) }
        reply.opened(handle: handle, type: type, size: size.bytes)
    }

    /// Ends an alloc for which there was no memory: with its error, or by waiting for memory that
    /// is on its way back.
    @inline(never)
    private func refuseAlloc(
        _ name: RawSpan, _ size: WireSize, _ error: SmallocError, _ holdings: inout Holdings
    ) throws(SmallocError) {
        budget.removeAllocation()
        if taken(name, holdings.known) { throw .alreadyExists }
        guard error.status == .memoryLimit else { throw error }
        let mapped = mappings.capacity(for: Int(size.bytes))
        if waitForMemory(UInt64(mapped), &holdings) { return }
        throw error
    }

    /// Whether memory is on its way back that makes `size` bytes fit: then the request is served
    /// again when it is free.
    ///
    /// So it is when nothing is on its way any more, but the bytes would fit: they came back a
    /// moment ago.
    func waitForMemory(_ size: UInt64, _ holdings: inout Holdings) -> Bool {
        guard size > 0 || mappings.pendingSize > 0 || mappings.warmSize > 0,
            holdings.reclaims < 3,
            budget.canFit(size, returning: UInt64(mappings.pendingSize))
        else {
            holdings.reclaims = 0
            return false
        }
        holdings.reclaims += 1
        mappings.gather()
        holdings.deferred = .work(
            Work(kind: .reclaim(mappings), size: 0, allocations: (nil, nil)))
        return true
    }

    /// Makes an allocation within the memory limit.
    ///
    /// - Throws: `.memoryLimit`, `.outOfMemory`.
    @inline(__always)
    private func make(
        _ name: RawSpan, _ type: ElementType, _ size: Int, _ age: UInt32
    ) throws(SmallocError) -> Allocation {
        // Of malloc's blocks it is known only after what they take; corrected below.
        let estimate = Allocation.heapCharge(nameSize: name.byteCount, size: size)
        if size >= MappingPool.sizeMin {
            let capacity = UInt64(mappings.capacity(for: size))
            return try makeMapped(name, type, size, age, estimate, capacity)
        }
        guard budget.charge(estimate) else { throw .memoryLimit }
        let made = Allocation.make(
            name: name.bytes, type: type, size: size, created: age, mappings: mappings)
        guard let made else {
            budget.uncharge(estimate)
            throw .outOfMemory
        }
        if !made.flags.contains(.pooled) {
            budget.correct(from: estimate, to: made.heapCharge(mappings.blocks))
        }
        return made
    }

    /// The same, of one with a mapping of its own.
    @inline(never)
    private func makeMapped(
        _ name: RawSpan, _ type: ElementType, _ size: Int, _ age: UInt32, _ estimate: UInt64,
        _ capacity: UInt64
    ) throws(SmallocError) -> Allocation {
        mappings.noteScattered()
        let charge = estimate + capacity
        var error = SmallocError.memoryLimit
        if budget.charge(charge) {
            let made = Allocation.make(
                name: name.bytes, type: type, size: size, created: age, mappings: mappings)
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
