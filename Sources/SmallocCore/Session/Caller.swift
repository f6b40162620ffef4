// A connection as the registry sees it: its user, its handles, and what its present request has
// cost so far.

internal import SmallocSystem

/// The connection that asks.
struct Caller: ~Copyable {
    /// The user that connected; `Session.noOwner` over TCP.
    let owner: UInt32
    var handles = HandleTable()
    /// Work done since `serve` was called, as bytes of a copy.
    ///
    /// Copies of small data are not in it: they are limited with the replies and the input.
    var cost = 0
    /// Requests since the last look at the clock that may have touched memory for the first time:
    /// what that takes, up to a millisecond for a huge page, only the clock tells.
    var touches = 0
    /// When the clock was first looked at since `serve` was called; 0: not yet.
    private var lookedAt: UInt64 = 0
    /// Seconds since the registry's birth and 1, or 0: not asked for since `serve` was called.
    var age: UInt64 = 0
    /// How often the present request has waited for memory.
    var waits = 0
    /// Where a listing of several pages goes on; 0: it is complete.
    var nextCursor: UInt64 = 0
    /// The connection ends after the reply.
    var isEnding = false
    /// The values of a long line that are read already.
    var encoding: Encoding?

    init(owner: UInt32) { self.owner = owner }

    /// Touches after which the clock is looked at.
    static let touchesMax = 1
    /// Nanoseconds that one call of `serve` may take, from its first look at the clock on.
    private static let turnMax: UInt64 = 1_000_000

    /// `serve` is called.
    @inline(__always)
    mutating func beginTurn() {
        cost = 0
        touches = 0
        lookedAt = 0
        age = 0
    }

    /// Whether other connections should have their turn.
    @inline(never)
    mutating func isTurnSpent() -> Bool {
        if cost >= Thresholds.turnCostMax { return true }
        touches = 0
        let now = Clock.now
        if lookedAt == 0 { lookedAt = now }
        return now - lookedAt >= Caller.turnMax
    }

    /// Bytes were written that may be memory's first.
    @inline(__always)
    mutating func noteTouch(of size: Int) {
        // More than a few pages take long enough to look at the clock at once.
        if size > 16 << 10 { touches += Caller.touchesMax }
    }

    /// What requests cost besides the bytes that they move, as bytes of a copy: 8 KiB take about a
    /// microsecond.
    enum Cost {
        /// To look at one range of a vectored request.
        static let range = 1 << 10
        /// To make, or to part with, an allocation of large memory.
        static let largeMemory = 32 << 10
        /// To tell all statistics.
        static let statistics = 256 << 10
        /// To read a line of text, its values aside.
        static let line = 8 << 10
        /// To look at one slot of a table of names, and at the allocation behind it.
        static let slot = 512
        /// To make a number of some bytes readable, or to read one, by byte.
        static let number = 128
        /// To put one name of a listing in order.
        static let sorting = 4 << 10
        /// To refuse a request.
        static let refusal = 4 << 10
    }
}
