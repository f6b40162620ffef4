// How leased allocations end: by their time, when no handle and no map of them was open for so
// long, or with their connection. protocol/spec.md § Leases.

internal import SmallocSystem
internal import SmallocWire

extension Registry {
    /// Called by any thread when `nextLease` has become earlier.
    ///
    /// To be set before the first client.
    public func onLease(_ body: @escaping @Sendable () -> Void) { leases.wake = body }

    /// When `expireLeases` is to be called next, in nanoseconds of `Clock.now`; nil: there is no
    /// lease that ends.
    public var nextLease: UInt64? { leases.next }

    /// Has the reclaiming thread dispose of allocations whose lease is over.
    ///
    /// To be called when the moment of `nextLease` has come. When all are done that are due, the
    /// body of `onLease` is called if there are others.
    public func expireLeases() {
        guard leases.beginExpiring() else {
            // Too early, or at work already.
            return
        }
        mappings.enqueue(
            ReclaimJob { [self] in
                guard expireSome(atMost: Thresholds.closedAtOnceMax) else { return false }
                leases.endExpiring()
                return true
            })
    }

    /// Looks at leases that are due.
    ///
    /// - Returns: Whether none is left.
    func expireSome(atMost count: Int) -> Bool {
        for _ in 0..<count {
            let now = leases.clock()
            guard let (lease, allocation) = leases.firstDue(at: now) else { return true }
            let end = self.end(of: lease, allocation, now)
            if end > now {
                leases.putOff(lease, to: end)
            } else if !disposeNow(allocation, ifUnusedAt: now) {
                // It is used again, or another thread disposes of it, and removes the lease.
                leases.putOff(lease, to: now &+ 1_000_000)
            }
            // That was no use of it.
            releaseQuietly(allocation)
        }
        return false
    }

    /// Nanoseconds after which what is in use is looked at again: as often as the daemon looks for
    /// maps that have gone.
    private static var lookAgain: UInt64 { 1_000_000_000 }

    /// When a lease is over, as far as is known now.
    ///
    /// With a reference.
    private func end(of lease: Lease, _ allocation: Allocation, _ now: UInt64) -> UInt64 {
        let end = lease.end(after: lease.lastUsed)
        // Its end of use is noted: what is looked at again is at the earliest over then.
        if isUsed(allocation) { return max(lease.end(after: now), now &+ Registry.lookAgain) }
        guard end <= now else { return end }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        // That a map goes is told by no event. It was there as long as it may have been.
        if mapsOut(allocation) != .none {
            lease.fields.pointee.wasMapped = true
            return now &+ Registry.lookAgain
        }
        guard lease.fields.pointee.wasMapped else { return end }
        lease.fields.pointee.wasMapped = false
        lease.lastUsed = now
        return lease.end(after: now)
    }

    /// Whether anything but the registry, and the caller, has a reference.
    private func isUsed(_ allocation: Allocation) -> Bool { allocation.referenceCount > 2 }

    /// Whether an allocation that the caller has a reference to may end now.
    ///
    /// Under the lock of its shard, so that no request finds it meanwhile.
    func isUnused(_ allocation: Allocation, at now: UInt64) -> Bool {
        guard let lease = allocation.lease else { return false }
        return !isUsed(allocation) && lease.end(after: lease.lastUsed) <= now
    }

    /// What `stat` tells of a lease: its milliseconds, and those that are left.
    ///
    /// Under the allocation's lock.
    func leaseNumbers(
        _ allocation: Allocation, isUsed: Bool
    ) -> (milliseconds: UInt64, left: UInt64) {
        guard let lease = allocation.lease else { return (Lease.none, Lease.none) }
        let milliseconds = lease.fields.pointee.milliseconds
        if lease.isOfConnection { return (milliseconds, Lease.none) }
        return (milliseconds, isUsed ? milliseconds : lease.left(at: leases.clock()))
    }

    /// Notes that a use of an allocation ends.
    @inline(never)
    func noteUse(_ allocation: Allocation) { allocation.lease?.lastUsed = leases.clock() }

    /// Takes the lease of an allocation out that ends.
    @inline(never)
    func endLease(_ allocation: Allocation) {
        if let lease = allocation.lease { leases.remove(lease) }
    }

    /// Ends allocations whose lease is that of a connection which has ended: a few at once, more
    /// are left to the reclaiming thread.
    func endLeases(of caller: inout Caller) {
        guard let anchor = caller.leases else { return }
        caller.leases = nil
        if endSome(of: anchor) { return }
        mappings.enqueue(ReclaimJob { [self] in endSome(of: anchor) })
    }

    /// - Returns: Whether none is left.
    private func endSome(of anchor: Lease) -> Bool {
        for _ in 0..<Thresholds.closedAtOnceMax {
            guard let allocation = leases.takeFirst(of: anchor) else { return true }
            disposeNow(allocation)
            releaseQuietly(allocation)
        }
        return false
    }
}
