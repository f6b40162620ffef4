// Requests under way on a multiplexed connection, found by their cookies.

internal import SmallocWire

/// One request under way.
struct Slot {
    enum State: UInt8 {
        case free
        /// Asked, and nobody waits yet.
        case asked
        /// Asked; `waiter` waits.
        case waiting
        /// Over, and nobody has come for `answer` yet.
        case done
        /// Asked; nobody will ever come for it. The place is kept until the reply has come.
        case abandoned
        /// As `abandoned`, but somebody will come, to be told that it was cancelled.
        case cancelled
    }

    var state = State.free
    var operation: UInt8 = 0
    /// The reply has come, so the place is not needed to recognise it any more.
    var replied = false
    /// Makes a cookie of an earlier use of this place another number.
    fileprivate var generation: UInt32 = 0
    /// Who waits, while the state says so.
    var waiter: Waiter?
    /// The thread's look in which it was asked, if its waiter can't be cancelled; else 0.
    var look: UInt32 = 0
    /// Bytes of payload that a good reply has; -1 if all of the reply is wanted.
    var size = -1
    /// Memory for that payload, for as long as somebody waits or will come.
    var room: UnsafeMutableRawPointer?
    /// Nanoseconds in which it must be answered.
    var allowed: UInt64 = .max
    /// Moment by which the reply must have come, unless `look` says that it is too young for one.
    var deadline: UInt64 = .max
    /// Where a large payload goes, `size` bytes from `sinkOffset` on.
    var sink: (any Sink)?
    var sinkOffset = 0
    /// The batch that it stands for; nil for a single request.
    var batch: BatchRecord?
    fileprivate var answer = Answer()
    fileprivate var nextFree = -1
}

/// Places for requests.
///
/// A cookie is a place's number and generation, so that finding one is an index.
struct SlotTable: ~Copyable {
    private var slots: UnsafeMutablePointer<Slot>
    private var capacity = 16
    /// Places that have ever been taken.
    private var used = 0
    private var firstFree = -1
    /// Places taken, abandoned ones included.
    private(set) var count = 0

    init() { slots = .allocate(capacity: capacity) }

    deinit {
        slots.deinitialize(count: used)
        slots.deallocate()
    }

    /// Takes a place.
    ///
    /// - Returns: Its index. Its state is to be set by the caller.
    @inline(__always)
    mutating func insert(_ operation: UInt8) -> Int {
        var index = firstFree
        if index < 0 {
            if used == capacity { grow() }
            index = used
            used += 1
            (slots + index).initialize(to: Slot())
        } else {
            firstFree = slots[index].nextFree
        }
        count += 1
        let slot = slots + index
        // The upper bit of a cookie is the mark of batches.
        slot.pointee.generation = (slot.pointee.generation + 1) & 0x7FFF_FFFF
        if slot.pointee.generation == 0 { slot.pointee.generation = 1 }
        slot.pointee.operation = operation
        slot.pointee.replied = false
        slot.pointee.look = 0
        slot.pointee.size = -1
        slot.pointee.room = nil
        slot.pointee.deadline = .max
        return index
    }

    @inline(never)
    private mutating func grow() {
        let larger = UnsafeMutablePointer<Slot>.allocate(capacity: capacity * 2)
        larger.moveInitialize(from: slots, count: used)
        slots.deallocate()
        slots = larger
        capacity *= 2
    }

    /// The cookie of a place in its present use, never 0.
    func cookie(of index: Int) -> UInt64 {
        UInt64(slots[index].generation) << 32 | UInt64(index)
    }

    /// The same of a place by its address.
    func cookie(of slot: UnsafeMutablePointer<Slot>) -> UInt64 { cookie(of: slot - slots) }

    /// The place of a cookie, nil if no such request is under way.
    func index(of cookie: UInt64) -> Int? {
        let index = Int(cookie & 0xFFFF_FFFF)
        guard index < used, UInt64(slots[index].generation) == cookie >> 32,
            slots[index].state != .free
        else { return nil }
        return index
    }

    /// The same for a cookie that may be of a request in a batch: the batch's place.
    @inline(__always)
    func carrier(of cookie: UInt64) -> Int? {
        if cookie & BatchRecord.cookieMark == 0 {
            return index(of: cookie).flatMap { slots[$0].batch == nil ? $0 : nil }
        }
        let index = Int(cookie >> 32 & 0x7FFF_FFFF)
        guard index < used, slots[index].batch != nil else { return nil }
        return index
    }

    /// A place; to be left alone once another has been taken.
    func at(_ index: Int) -> UnsafeMutablePointer<Slot> { slots + index }

    mutating func remove(at index: Int) {
        let slot = slots + index
        slot.pointee.state = .free
        if slot.pointee.sink != nil { slot.pointee.sink = nil }
        if slot.pointee.batch != nil { slot.pointee.batch = nil }
        if slot.pointee.answer.more != nil { slot.pointee.answer = Answer() }
        slot.pointee.nextFree = firstFree
        firstFree = index
        count -= 1
    }

    /// Ends a request: hands the answer to who waits, or keeps it for who will come.
    ///
    /// - Parameter replied: Whether the reply has come, and the place is not needed for it any
    ///   more.
    /// - Returns: Who waits; to be resumed without the lock.
    mutating func finish(_ index: Int, _ answer: Answer, replied: Bool) -> Waiter? {
        let slot = slots + index
        if replied { slot.pointee.replied = true }
        switch slot.pointee.state {
        case .waiting:
            let waiter = slot.pointee.waiter
            leave(index)
            return waiter
        case .asked:
            slot.pointee.answer = answer
            slot.pointee.state = .done
        case .abandoned:
            leave(index)
        case .cancelled:
            if replied {
                slot.pointee.answer = Answer(.cancelled)
                slot.pointee.state = .done
            }
        case .done, .free:
            break
        }
        return nil
    }

    /// Takes the answer of a request that is done.
    mutating func take(_ index: Int) -> Answer {
        let answer = slots[index].answer
        slots[index].answer = Answer()
        leave(index)
        return answer
    }

    /// Nobody will come for it any more: the place becomes free now or when the reply comes.
    mutating func leave(_ index: Int) {
        if slots[index].replied { remove(at: index) } else { slots[index].state = .abandoned }
    }

    var indices: Range<Int> { 0..<used }
}
