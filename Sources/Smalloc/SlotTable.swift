// Requests under way on a multiplexed connection, found by their cookies.

internal import SmallocWire

/// How a request ended.
enum Outcome: Sendable {
    /// The reply's header; its payload in `small` if it has at most 8 bytes, else in `bytes`,
    /// unless it went into a sink.
    case reply(FrameHeader, small: UInt64, bytes: [UInt8])
    case failure(SmallocError)
}

typealias Waiter = UnsafeContinuation<Outcome, Never>

/// One request under way.
struct Slot {
    enum State {
        case free
        /// Asked, and nobody waits yet.
        case asked
        /// Asked; this one waits.
        case waiting(Waiter)
        /// Over, and nobody has come for it yet.
        case done(Outcome)
        /// Asked; nobody will ever come for it. The place is kept until the reply has come.
        case abandoned
        /// As `abandoned`, but somebody will come, to be told that it was cancelled.
        case cancelled
    }

    var state = State.free
    /// Makes a cookie of an earlier use of this place another number.
    var generation: UInt32 = 0
    var operation: UInt8 = 0
    /// The reply has come, so the place is not needed to recognise it any more.
    var replied = false
    /// Moment by which the reply must have come.
    var deadline: UInt64 = .max
    /// Where the reply's payload goes, with the place in it; nil for into the outcome.
    var sink: (any Sink)?
    var sinkOffset = 0
    var sinkSize = 0
    fileprivate var nextFree = -1
}

/// Places for requests.
///
/// A cookie is a place's number and generation, so that finding one is an index.
struct SlotTable {
    private var slots: [Slot] = []
    private var firstFree = -1
    /// Places taken, abandoned ones included.
    private(set) var count = 0

    /// Takes a place.
    ///
    /// - Returns: Its cookie, never 0.
    mutating func insert(_ operation: UInt8, _ state: Slot.State, deadline: UInt64) -> UInt64 {
        var index = firstFree
        if index < 0 {
            index = slots.count
            slots.append(Slot())
        } else {
            firstFree = slots[index].nextFree
        }
        count += 1
        slots[index].generation &+= 1
        if slots[index].generation == 0 { slots[index].generation = 1 }
        slots[index].operation = operation
        slots[index].replied = false
        slots[index].state = state
        slots[index].deadline = deadline
        return UInt64(slots[index].generation) << 32 | UInt64(index)
    }

    /// The place of a cookie, nil if no such request is under way.
    func index(of cookie: UInt64) -> Int? {
        let index = Int(cookie & 0xFFFF_FFFF)
        guard index < slots.count, UInt64(slots[index].generation) == cookie >> 32 else {
            return nil
        }
        if case .free = slots[index].state { return nil }
        return index
    }

    subscript(index: Int) -> Slot {
        get { slots[index] }
        _modify { yield &slots[index] }
    }

    mutating func remove(at index: Int) {
        slots[index].state = .free
        slots[index].sink = nil
        slots[index].nextFree = firstFree
        firstFree = index
        count -= 1
    }

    /// Ends a request: hands the outcome to who waits, or keeps it for who will come.
    ///
    /// - Parameter replied: Whether the reply has come, and the place is not needed for it any
    ///   more.
    /// - Returns: Who waits; to be resumed without the lock.
    mutating func finish(_ index: Int, _ outcome: Outcome, replied: Bool) -> Waiter? {
        if replied { slots[index].replied = true }
        switch slots[index].state {
        case .waiting(let waiter):
            leave(index)
            return waiter
        case .asked:
            slots[index].state = .done(outcome)
        case .abandoned:
            leave(index)
        case .cancelled:
            if replied { slots[index].state = .done(.failure(.cancelled)) }
        case .done, .free:
            break
        }
        return nil
    }

    /// Nobody will come for it any more: the place becomes free now or when the reply comes.
    mutating func leave(_ index: Int) {
        if slots[index].replied { remove(at: index) } else { slots[index].state = .abandoned }
    }

    var indices: Range<Int> { slots.indices }
}
