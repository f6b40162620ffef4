// The lease of one allocation: when it ends by itself. It stands in front of the allocation's
// block, with what a user says of it, and links itself into the lists of `Leases`.

internal import Synchronization

/// A pointer to a lease, or to what a connection keeps its own by.
///
/// Which thread may touch what:
///
///   lastUsed                   any thread, at any time
///   wasMapped                  under the allocation's lock
///   deadline, heapIndex, links under the lock of `Leases`
struct Lease: Equatable, Deadlined, @unchecked Sendable {
    let fields: UnsafeMutablePointer<Fields>

    struct Fields {
        /// When the last use of the allocation ended, in nanoseconds of the clock of `Leases`.
        var lastUsed: UInt64 = 0
        /// Milliseconds that it may be unused; 0: it ends with its connection.
        let milliseconds: UInt64
        /// Nil: the anchor of a connection.
        let allocation: Allocation?
        /// When it is to be looked at, likewise.
        var deadline: UInt64 = .max
        /// Where it is in the heap of deadlines; -1: nowhere.
        var heapIndex = -1
        /// The ring of a connection, which its anchor belongs to.
        var next: Lease?
        var previous: Lease?
        /// A client may have had it mapped when that was looked for last.
        var wasMapped = false
    }

    static var size: Int { (MemoryLayout<Fields>.size + 7) & ~7 }

    /// What an anchor is charged.
    static var charge: UInt64 { UInt64(BlockPool.capacity(for: size)) }

    /// The number that means no lease on the wire.
    static var none: UInt64 { .max }

    private var lastUsedWord: UnsafeMutablePointer<Atomic<UInt64>> {
        UnsafeMutableRawPointer(fields).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    var lastUsed: UInt64 {
        get { lastUsedWord.pointee.load(ordering: .relaxed) }
        nonmutating set { lastUsedWord.pointee.store(newValue, ordering: .relaxed) }
    }

    var deadline: UInt64 {
        get { fields.pointee.deadline }
        nonmutating set { fields.pointee.deadline = newValue }
    }

    var heapIndex: Int {
        get { fields.pointee.heapIndex }
        nonmutating set { fields.pointee.heapIndex = newValue }
    }

    /// Whether it ends with its connection.
    var isOfConnection: Bool { fields.pointee.milliseconds == 0 }

    /// Nanoseconds that the allocation may be unused; `UInt64.max`: for ever.
    var time: UInt64 {
        let (time, isOver) = fields.pointee.milliseconds.multipliedReportingOverflow(by: 1_000_000)
        return isOver ? .max : time
    }

    /// When it is over if it was used last at `moment`; `UInt64.max`: never.
    func end(after moment: UInt64) -> UInt64 {
        let (end, isOver) = moment.addingReportingOverflow(time)
        return isOver ? .max : end
    }

    /// Milliseconds that are left of it, if it is not in use.
    func left(at now: UInt64) -> UInt64 {
        let used = lastUsed
        let unused = now > used ? (now - used) / 1_000_000 : 0
        let milliseconds = fields.pointee.milliseconds
        return milliseconds > unused ? milliseconds - unused : 0
    }
}

extension Allocation {
    /// The lease of one that has the flag.
    var lease: Lease? {
        guard isLeased else { return nil }
        return Lease(
            fields: (block - describedSize).assumingMemoryBound(to: Lease.Fields.self))
    }
}
