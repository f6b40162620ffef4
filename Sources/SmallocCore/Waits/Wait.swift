// One request that waits on a cell until another one notifies it, or watches names until something
// becomes of one: who it is, and the lists that it stands in.
//
// There may be thousands for each connection, so it is a block of raw memory, charged to the memory
// of all allocations, and links itself into every list. Which thread may touch what:
//
//   queues, isQueued, result   under the allocation's lock; of a watch its loop's thread
//   next of the mailbox        under the mailbox's lock
//   all else                   its loop's thread
//
// It is ended once, by the thread that takes it out of the queues: a notify, dispose or truncate of
// any loop, or its own loop for a timeout, a cancel or the end of its connection. One that another
// thread has ended goes through the mailbox of its loop (`LoopWaits`), and no other way. A watch is
// ended by its own loop alone (`LoopWatches`): its block has no allocation, and its prefix behind
// the fields.

internal import SmallocSystem
internal import SmallocWire

/// A pointer to a wait's block, which comes from the block pool.
struct Wait: Equatable, @unchecked Sendable {
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
        /// A reference to it is held; nil of a watch.
        let allocation: Allocation?
        /// Of the cell; of a watch the bytes of its prefix.
        let offset: Int
        /// Grows with each wait on any allocation; of a watch the number of the next event.
        var number: UInt64
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
        var isQueued = true
        var result = End.timeout
        /// In the mailbox.
        var nextMail: Wait?
        /// Among the connection's: those that wait, or those that have ended.
        var next: Wait?
        var previous: Wait?
    }

    /// How a wait ends.
    enum End: UInt8 {
        case notified
        case timeout
        case disposed
        case cancelled
        /// There are events for a watch, or some that it has missed.
        case events
    }

    /// - Parameter prefix: Its bytes, of a watch.
    static func size(prefix: Int = 0) -> Int { MemoryLayout<Fields>.size + prefix }

    /// What one of that size is charged.
    static func charge(_ size: Int) -> UInt64 { UInt64(BlockPool.capacity(for: size)) }

    /// Bytes of its block.
    var size: Int { Wait.size(prefix: isWatch ? offset : 0) }

    var isWatch: Bool { fields.pointee.allocation == nil }

    /// Of a watch: what the names begin with.
    var prefix: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: UnsafeRawPointer(fields) + MemoryLayout<Fields>.size, count: isWatch ? offset : 0
        )
    }

    /// Not of a watch.
    var allocation: Allocation {
        guard let allocation = fields.pointee.allocation else {
            preconditionFailure("a watch waits on no allocation")
        }
        return allocation
    }
    var offset: Int { fields.pointee.offset }
    var deadline: UInt64 { fields.pointee.deadline }
    var cookie: UInt64 {
        get { fields.pointee.cookie }
        nonmutating set { fields.pointee.cookie = newValue }
    }

    /// A place of one of the two queues.
    @inline(__always)
    func place(_ kind: WaitQueues.Kind) -> UnsafeMutablePointer<Place> {
        UnsafeMutableRawPointer(fields).assumingMemoryBound(to: Place.self)
            + Int(kind.rawValue)
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
