// A connection as the registry sees it: its user, its handles, and what its present request has
// cost so far.

internal import SmallocSystem
internal import SmallocWire

/// The connection that asks.
struct Caller: ~Copyable {
    // Small ones first, and no larger than they need be: there is one of these for each connection.
    /// The user that connected; `Session.noOwner` over TCP.
    let owner: UInt32
    /// Seconds since the registry's birth and 1, or 0: not asked for since `serve` was called.
    var age: UInt32 = 0
    /// Where a listing of several pages goes on, a shard or a place among the connections; 0: it is
    /// complete.
    var nextCursor: UInt32 = 0
    /// How often the present request has waited for memory.
    var memoryWaits: UInt8 = 0
    /// The connection ends after the reply.
    var isEnding = false
    /// Whether descriptors can be sent to it.
    let takesDescriptors: Bool
    /// Whether it was sent the state memory's.
    var hasStateMemory = false
    /// Why the promotion failed that the present request waited for; 0: it did not.
    private var promotionFailure: UInt16 = 0
    /// Ranges of the present request whose memory is touched: see `touch`.
    var touchedRanges: UInt16 = 0
    /// Descriptors of its replies that it may not have received yet.
    var passedCount: Int32 = 0
    /// Memory may have been touched for the first time since the clock was looked at.
    private(set) var hasTouched = false
    var handles = HandleTable()
    /// Requests so far, and maps that it was given and has not said to have unmapped.
    var requests: UInt64 = 0
    var maps: UInt32 = 0
    /// What others are told of it; nil where there are no others.
    var record: ClientRecord?
    /// Requests that wait for events; nil before the first one.
    var waits: WaitList?
    /// What allocations are kept by that end with it; nil before the first one.
    var leases: Lease?
    /// The loop that serves it, from the first call of `serve` on.
    unowned(unsafe) var loop: LoopContext?
    /// The shell's connection: see `Session.belong`.
    var peer: UnsafeMutableRawPointer?
    /// Waits that the present request has notified so far.
    var notified: UInt64 = 0
    /// The number of the last wait that it may notify, once it has begun.
    var lastNotified: UInt64 = 0
    /// Work done since `serve` was called, as bytes of a copy.
    ///
    /// Copies of small data are not in it: they are limited with the replies and the input.
    var cost = 0
    /// When memory was first touched since `serve` was called; 0: not yet.
    private var touchedAt: UInt64 = 0
    /// The values of a long line that are read already.
    var encoding: Encoding?

    init(owner: UInt32, takesDescriptors: Bool = false) {
        self.owner = owner
        self.takesDescriptors = takesDescriptors
    }

    /// Why the promotion failed that the present request waited for.
    var promotionError: SmallocError? {
        get {
            switch Status(rawValue: promotionFailure) {
            case .ok: nil
            case .memoryLimit: .memoryLimit
            case .outOfMemory: .outOfMemory
            default: .shareLimit
            }
        }
        set { promotionFailure = newValue?.status.rawValue ?? 0 }
    }

    /// `serve` is called.
    @inline(__always)
    mutating func beginTurn(_ loop: LoopContext) {
        self.loop = loop
        cost = 0
        hasTouched = false
        touchedAt = 0
        age = 0
    }

    /// Whether other connections should have their turn.
    @inline(never)
    mutating func isTurnSpent() -> Bool {
        if cost >= Thresholds.turnCostMax { return true }
        hasTouched = false
        return touchedAt != 0 && isTouchingSpent
    }

    /// Whether memory has been touched for as long as a turn may.
    var isTouchingSpent: Bool { Clock.now - touchedAt >= Thresholds.touchTimeMax }

    /// Bytes are about to be written that may be their memory's first.
    ///
    /// What the kernel takes for that, up to milliseconds for a huge page, only the clock tells; it
    /// is looked at before the next request.
    @inline(__always)
    mutating func willTouch() {
        hasTouched = true
        if touchedAt == 0 { touchedAt = Clock.now }
    }

    /// What requests cost besides the bytes that they move, as bytes of a copy: 8 KiB take about a
    /// microsecond.
    enum Cost {
        /// To look at one range of a vectored request.
        static let range = 1 << 10
        /// To make an allocation in a block: its memory may be the first of a huge page, so a turn
        /// makes five hundred.
        static let inlineMemory = 16 << 10
        /// To make, to map, or to part with, an allocation of large memory, or to ask the kernel
        /// for its holders.
        static let largeMemory = 32 << 10
        /// To tell all statistics.
        static let statistics = 256 << 10
        /// To read a line of text, its values aside.
        static let line = 8 << 10
        /// To tell of one connection, or of one slow request.
        static let connection = 8 << 10
        /// To look at one slot of a table of names, and at the allocation behind it.
        static let slot = 512
        /// To make a number of some bytes readable, or to read one, by byte.
        static let number = 128
        /// To put one name of a listing in order.
        static let sorting = 4 << 10
        /// To make a wait, or to end one.
        static let wait = 2 << 10
        /// To look at one of the connection's waits.
        static let looked = 256
        /// To refuse a request.
        static let refusal = 4 << 10
    }
}
