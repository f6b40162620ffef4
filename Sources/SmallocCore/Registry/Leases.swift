// All leases: those with a time in the order in which they are to be looked at, those of a
// connection in a ring of its own.
//
// A use of an allocation that ends notes the moment, and nothing else: no heap changes, no timer is
// set. When a lease's moment comes, it is looked at, and put off if it was used meanwhile. So a
// lease costs one look in its time at most; and one a second while it is in use and its time is
// shorter, or while it is mapped, which only the kernel can tell.

internal import SmallocSystem
internal import SmallocWire

/// The leases of all allocations.
///
/// One lock for all: only what is leased takes it, when it is made, when it ends, and when it is
/// looked at. It is taken last.
final class Leases: @unchecked Sendable {
    private let lock = Lock()
    // Under the lock.
    private var heap: DeadlineHeap<Lease>
    private var connectionCount = 0
    /// The moment that `wake` was called for last.
    private var armed = UInt64.max
    private var isExpiring = false
    private let budget: MemoryBudget
    private let blocks: BlockPool

    /// Nanoseconds by the monotonic clock; tests have one of their own.
    var clock: @Sendable () -> UInt64 = { Clock.now }

    /// Called by any thread when something is to be looked at earlier than was known: see
    /// `Registry.nextLease`.
    var wake: @Sendable () -> Void = {}

    init(_ budget: MemoryBudget, _ blocks: BlockPool) {
        self.budget = budget
        self.blocks = blocks
        heap = DeadlineHeap(budget)
    }

    // MARK: One lease

    /// Takes in the lease of an allocation that no other thread knows yet.
    ///
    /// - Parameter anchor: The connection's, made here with its first lease.
    /// - Throws: `.memoryLimit`, `.outOfMemory`.
    func add(_ lease: Lease, _ anchor: inout Lease?) throws(SmallocError) {
        lease.lastUsed = clock()
        guard lease.isOfConnection else { return try add(timed: lease) }
        let head: Lease
        if let anchor { head = anchor } else { head = try makeAnchor() }
        anchor = head
        lock.withLock {
            lease.fields.pointee.next = head
            lease.fields.pointee.previous = head.fields.pointee.previous
            head.fields.pointee.previous?.fields.pointee.next = lease
            head.fields.pointee.previous = lease
            connectionCount += 1
        }
    }

    private func add(timed lease: Lease) throws(SmallocError) {
        let end = lease.end(after: lease.lastUsed)
        // It never is over: there is nothing to look at.
        guard end != .max else { return }
        let (error, isFirst) = lock.withLock { () -> (SmallocError?, Bool) in
            if let error = heap.reserve() { return (error, false) }
            lease.deadline = end
            heap.insert(lease)
            guard end < armed else { return (nil, false) }
            armed = end
            return (nil, true)
        }
        if let error { throw error }
        if isFirst { wake() }
    }

    /// Takes the lease of an allocation out that ends, before its memory may go.
    func remove(_ lease: Lease) {
        lock.withLock {
            heap.remove(lease)
            unlink(lease)
        }
    }

    /// Under the lock.
    private func unlink(_ lease: Lease) {
        guard let next = lease.fields.pointee.next else { return }
        let previous = lease.fields.pointee.previous
        next.fields.pointee.previous = previous
        previous?.fields.pointee.next = next
        lease.fields.pointee.next = nil
        lease.fields.pointee.previous = nil
        connectionCount -= 1
    }

    // MARK: Those with a time

    /// When something is to be looked at next; nil: never.
    var next: UInt64? { lock.withLock { heap.first?.deadline } }

    /// The moment for which `wake` was called has come, or is to be forgotten.
    ///
    /// - Returns: Whether the caller is to look at what is due, and no other thread does.
    func beginExpiring() -> Bool {
        let (isBegun, isWanted) = lock.withLock { () -> (Bool, Bool) in
            guard !isExpiring else { return (false, false) }
            guard let first = heap.first else {
                armed = .max
                return (false, false)
            }
            if first.deadline <= clock() {
                isExpiring = true
                return (true, false)
            }
            // What it was set for has gone, or it was early.
            armed = first.deadline
            return (false, armed != .max)
        }
        if isWanted { wake() }
        return isBegun
    }

    /// Nothing is due any more.
    func endExpiring() {
        let isWanted = lock.withLock {
            isExpiring = false
            armed = heap.first?.deadline ?? .max
            return armed != .max
        }
        if isWanted { wake() }
    }

    /// The first lease that is due, with a reference to its allocation.
    ///
    /// It stays where it is: it is to be put off, or removed as its allocation ends.
    func firstDue(at now: UInt64) -> (lease: Lease, allocation: Allocation)? {
        lock.withLock {
            guard let first = heap.first, first.deadline <= now,
                let allocation = first.fields.pointee.allocation
            else { return nil }
            // It ends after it was taken out of here: so it has its memory yet.
            allocation.retain()
            return (first, allocation)
        }
    }

    /// Has a lease looked at later, unless it was removed.
    func putOff(_ lease: Lease, to deadline: UInt64) {
        lock.withLock {
            lease.deadline = max(deadline, lease.deadline)
            heap.sink(lease)
        }
    }

    // MARK: Those of a connection

    private func makeAnchor() throws(SmallocError) -> Lease {
        guard budget.charge(Lease.charge) else { throw .memoryLimit }
        guard let block = blocks.take(Lease.size) else {
            budget.uncharge(Lease.charge)
            throw .outOfMemory
        }
        let fields = block.bindMemory(to: Lease.Fields.self, capacity: 1)
        fields.initialize(to: Lease.Fields(milliseconds: 0, allocation: nil))
        let anchor = Lease(fields: fields)
        fields.pointee.next = anchor
        fields.pointee.previous = anchor
        return anchor
    }

    /// Takes out one of a connection's leases, with a reference to its allocation.
    ///
    /// Nil: there is none, and the anchor is gone.
    func takeFirst(of anchor: Lease) -> Allocation? {
        let first = lock.withLock { () -> Allocation? in
            guard let first = anchor.fields.pointee.next,
                let allocation = first.fields.pointee.allocation
            else { return nil }
            unlink(first)
            // As in `firstDue`.
            allocation.retain()
            return allocation
        }
        guard first == nil else { return first }
        blocks.give(UnsafeMutableRawPointer(anchor.fields), Lease.size)
        budget.unchargeHeap(Lease.charge)
        return nil
    }

    /// How many there are with a time that ends, and of connections.
    ///
    /// For tests, while no other thread uses the registry.
    func checkInvariants() -> (timed: Int, ofConnections: Int) {
        lock.withLock {
            heap.checkInvariants()
            return (heap.count, connectionCount)
        }
    }
}
