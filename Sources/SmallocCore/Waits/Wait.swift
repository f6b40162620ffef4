// One request that waits: on a cell until another one notifies it, or for a name until there is an
// allocation of it. Who it is, and the lists that it stands in.
//
// There may be thousands for each connection, so it is a block of raw memory, charged to the memory
// of all allocations, and links itself into every list. Which thread may touch what:
//
//   queues, isQueued, result   under the allocation's lock, or of a name that of its shard
//   next of the mailbox        under the mailbox's lock
//   all else                   its loop's thread
//
// It is ended once, by the thread that takes it out of the queues: a notify, dispose or truncate of
// any loop, one that gives the name to an allocation, or its own loop for a timeout, a cancel or
// the end of its connection. One that another thread has ended goes through the mailbox of its loop
// (`LoopWaits`), and no other way.

internal import SmallocSystem
internal import SmallocWire

/// A pointer to a wait's block, which comes from the block pool.
struct Wait: Equatable, Deadlined, @unchecked Sendable {
    let fields: UnsafeMutablePointer<Fields>

    /// A place in a queue: see `WaitQueues`.
    struct Place {
        /// The ring of those that wait for the same: the next younger, the next older.
        var next: Wait?
        var previous: Wait?
        /// It is the oldest, and stands in the chain of its bucket for all.
        var isFirst = false
        var chainNext: Wait?
        var chainPrevious: Wait?
    }

    struct Fields {
        // First, so that a place is found by its number.
        /// Among those that wait on the same cell, and on the same allocation.
        var places = (Place(), Place())
        /// A reference to it is held; of a wait for a name only once there is one.
        var allocation: Allocation?
        /// Of the cell; of a wait for a name, bytes of the name, which stands behind the fields.
        let offset: Int
        /// What it waits for.
        let aim: Aim
        /// Grows with each wait on any allocation.
        let number: UInt64
        /// Its connection's, which outlives it.
        let list: Unmanaged<WaitList>
        /// Where it is told of once it has ended.
        let loop: Unmanaged<LoopWaits>
        /// Nanoseconds of `Clock.now`; `UInt64.max`: for ever.
        let deadline: UInt64
        /// Where it is in the heap of deadlines; -1: nowhere.
        var heapIndex = -1
        /// The request's.
        var cookie: UInt64 = 0
        /// Nanoseconds of `Clock.now` when it was read.
        var startedAt: UInt64 = 0
        var isQueued = true
        var result = End.timeout
        /// In the mailbox.
        var nextMail: Wait?
        /// Among the connection's: those that wait, or those that have ended.
        var next: Wait?
        var previous: Wait?
    }

    /// What a request waits for.
    enum Aim: UInt8 {
        /// That a cell is notified.
        case cell
        /// That there is an allocation of a name; then it opens a handle, or only tells.
        case name
        case nameWithoutHandle
        /// The same of one that is frozen.
        case frozenName
        case frozenNameWithoutHandle

        var isFrozen: Bool { self == .frozenName || self == .frozenNameWithoutHandle }
        var opensHandle: Bool { self == .name || self == .frozenName }

        init(_ flags: OpenFlags, opensHandle: Bool) {
            self =
                flags.contains(.awaitFrozen)
                ? opensHandle ? .frozenName : .frozenNameWithoutHandle
                : opensHandle ? .name : .nameWithoutHandle
        }
    }

    /// How a wait ends.
    enum End: UInt8 {
        /// There is an allocation of the name, which is `allocation` now.
        case appeared
        case notified
        case timeout
        case disposed
        case cancelled
    }

    /// Bytes of one, a name included.
    static func size(nameSize: Int) -> Int { MemoryLayout<Fields>.size + nameSize }

    /// Its block's.
    var size: Int { Wait.size(nameSize: isForName ? offset : 0) }

    /// What one is charged.
    var charge: UInt64 { UInt64(BlockPool.capacity(for: size)) }

    var isForName: Bool { fields.pointee.aim != .cell }

    /// That of its cell.
    var allocation: Allocation {
        guard let allocation = fields.pointee.allocation else {
            preconditionFailure("a wait for a name has no allocation yet")
        }
        return allocation
    }

    /// The name that it waits for.
    var name: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: UnsafeRawPointer(fields) + MemoryLayout<Fields>.size, count: offset)
    }

    var offset: Int { fields.pointee.offset }
    var deadline: UInt64 { fields.pointee.deadline }
    var heapIndex: Int {
        get { fields.pointee.heapIndex }
        nonmutating set { fields.pointee.heapIndex = newValue }
    }
    var cookie: UInt64 {
        get { fields.pointee.cookie }
        nonmutating set { fields.pointee.cookie = newValue }
    }

    /// A place of one of the two queues.
    @inline(__always)
    func place(_ kind: WaitQueues.Kind) -> UnsafeMutablePointer<Place> {
        UnsafeMutableRawPointer(fields).assumingMemoryBound(to: Place.self)
            + (kind == .allocation ? 1 : 0)
    }

    /// Notes how it has ended.
    ///
    /// Under the allocation's lock, by the thread that has taken it out of the queues.
    func end(_ result: End) { fields.pointee.result = result }

    /// The same by any thread: its loop learns of it.
    func endElsewhere(_ result: End) {
        end(result)
        fields.pointee.loop._withUnsafeGuaranteedRef { $0.post(self) }
    }
}
