// Requests that have no answer yet, found by their cookies.

internal import SmallocWire

/// One request, or one batch of them, that has been asked for.
struct PendingRequest {
    enum State: UInt8 {
        case free
        /// Asked, and nothing waits yet.
        case asked
        /// Asked; `waiter` waits.
        case waiting
        /// Over; the answer has not been fetched yet.
        case done
        /// Asked; the answer will never be fetched. The entry is kept until the reply has come.
        case abandoned
        /// As `abandoned`, but the task will come once more, to be told that it was cancelled.
        case cancelled

        // Of the state, as the same of a whole entry would copy it.
        /// Whether a task waits for it, or will come.
        var isWanted: Bool { self == .waiting || self == .asked }
        /// Whether no answer to it will be looked at.
        var isUnwanted: Bool { self == .abandoned || self == .cancelled }
    }

    var state = State.free
    var operation: UInt8 = 0
    /// The handle that it was asked by; 0: none.
    var handle: UInt32 = 0
    /// It waits in the daemon, and does not count as in flight.
    var isWait = false
    /// The reply has come, so the entry is not needed to recognise it any more.
    var isReplied = false
    /// Makes a cookie of an earlier use of this entry another number.
    fileprivate var generation: UInt32 = 0x7FFF_FFFF
    /// The task that waits, while the state says so.
    var waiter: Waiter?
    /// The deadline round in which it was asked, if its waiter can't be cancelled; else 0.
    var round: UInt32 = 0
    /// Bytes of payload that a good reply has; -1 if all of the reply is wanted.
    var size = -1
    /// Memory for that payload, while the state is `asked` or `waiting`.
    var room: UnsafeMutableRawPointer?
    /// Nanoseconds in which it must be answered.
    var allowed: UInt64 = .max
    /// Moment by which the reply must have come, unless `round` says that it is too young for one.
    var deadline: UInt64 = .max
    /// Where a large payload goes, `size` bytes from `sinkOffset` on.
    var sink: (any Sink)?
    var sinkOffset = 0
    /// Offset in the payload of a good reply of the u32 that tells how many descriptors come with
    /// it; -1 if none can.
    var descriptorsAt = -1
    /// The batch that it stands for; nil for a single request.
    var batch: BatchRecord?
    fileprivate var answer = Answer()
    fileprivate var nextFree = -1
}

/// Entries for requests without an answer.
///
/// A cookie is an entry's number, from 1 on, and its generation, so that finding one is an index.
struct PendingTable: ~Copyable {
    private var entries: UnsafeMutablePointer<PendingRequest>
    private var capacity = 16
    /// Entries that have ever been taken.
    private var used = 0
    private var firstFree = -1
    /// Entries taken, abandoned ones included.
    private(set) var count = 0

    init() { entries = .allocate(capacity: capacity) }

    deinit {
        entries.deinitialize(count: used)
        entries.deallocate()
    }

    /// Takes an entry.
    ///
    /// - Returns: Its index. Its state is to be set by the caller.
    @inline(__always)
    mutating func insert(_ operation: UInt8, _ handle: UInt32) -> Int {
        var index = firstFree
        if index < 0 {
            if used == capacity { grow() }
            index = used
            used += 1
            (entries + index).initialize(to: PendingRequest())
        } else {
            firstFree = entries[index].nextFree
        }
        count += 1
        let entry = entries + index
        // The upper bit of a cookie is the mark of batches.
        entry.pointee.generation = (entry.pointee.generation + 1) & 0x7FFF_FFFF
        entry.pointee.operation = operation
        entry.pointee.handle = handle
        entry.pointee.isWait = false
        entry.pointee.isReplied = false
        entry.pointee.round = 0
        entry.pointee.size = -1
        entry.pointee.room = nil
        entry.pointee.descriptorsAt = -1
        entry.pointee.deadline = .max
        return index
    }

    @inline(never)
    private mutating func grow() {
        let larger = UnsafeMutablePointer<PendingRequest>.allocate(capacity: capacity * 2)
        larger.moveInitialize(from: entries, count: used)
        entries.deallocate()
        entries = larger
        capacity *= 2
    }

    /// The cookie of an entry in its present use, never 0.
    func cookie(of index: Int) -> UInt64 {
        UInt64(entries[index].generation) << 32 | UInt64(index + 1)
    }

    /// The same of an entry by its address.
    func cookie(of entry: UnsafeMutablePointer<PendingRequest>) -> UInt64 {
        cookie(of: entry - entries)
    }

    /// The entry of a cookie, nil if no such request is under way.
    func index(of cookie: UInt64) -> Int? {
        let index = Int(cookie & 0xFFFF_FFFF) - 1
        guard index >= 0, index < used, UInt64(entries[index].generation) == cookie >> 32,
            entries[index].state != .free
        else { return nil }
        return index
    }

    /// The same for a cookie that may be of a request in a batch: the batch's entry.
    @inline(__always)
    func carrier(of cookie: UInt64) -> Int? {
        if cookie & BatchRecord.cookieMark == 0 {
            return index(of: cookie).flatMap { entries[$0].batch == nil ? $0 : nil }
        }
        let index = Int(cookie >> 32 & 0x7FFF_FFFF)
        guard index < used, entries[index].batch != nil else { return nil }
        return index
    }

    /// An entry; to be left alone once another has been taken.
    func at(_ index: Int) -> UnsafeMutablePointer<PendingRequest> { entries + index }

    mutating func remove(at index: Int) {
        let entry = entries + index
        entry.pointee.state = .free
        if entry.pointee.sink != nil { entry.pointee.sink = nil }
        if entry.pointee.batch != nil { entry.pointee.batch = nil }
        if entry.pointee.answer.more != nil { entry.pointee.answer = Answer() }
        entry.pointee.nextFree = firstFree
        firstFree = index
        count -= 1
    }

    /// Ends a request: gives back the task that waits for the answer, or keeps the answer for the
    /// caller that will come for it.
    ///
    /// - Parameter replied: Whether the reply has come, and the entry is not needed for it any
    ///   more.
    /// - Returns: The task that waits; to be resumed without the lock.
    mutating func finish(_ index: Int, _ answer: Answer, replied: Bool) -> Waiter? {
        let entry = entries + index
        if replied { entry.pointee.isReplied = true }
        switch entry.pointee.state {
        case .waiting:
            let waiter = entry.pointee.waiter
            leave(index)
            return waiter
        case .asked:
            entry.pointee.answer = answer
            entry.pointee.state = .done
        case .abandoned:
            leave(index)
        case .cancelled:
            if replied {
                entry.pointee.answer = Answer(.cancelled)
                entry.pointee.state = .done
            }
        case .done, .free:
            break
        }
        return nil
    }

    /// Takes the answer of a request that is done.
    @inline(__always)
    mutating func take(_ index: Int) -> Answer {
        let answer = entries[index].answer
        leave(index)
        return answer
    }

    /// Nothing will come for the answer any more: the entry becomes free now, or when the reply
    /// comes.
    @inline(__always)
    mutating func leave(_ index: Int) {
        if entries[index].isReplied { remove(at: index) } else { entries[index].state = .abandoned }
    }

    var indices: Range<Int> { 0..<used }
}
