// How long the turns of a loop take: all that it does between two polls.

import SmallocSystem

/// Measures the turns of one loop, and says when one has gone on for long enough.
///
/// What counts is the processor time of the loop's thread, so that a busy machine does not show as
/// a slow daemon. To ask for it is a system call, so it is asked for at most every `sampleGap`; a
/// turn's time is at most so much too high by that.
struct TurnClock {
    /// Nanoseconds after which the rest of a turn's work is left to the next turn: whatever one
    /// connection, or a thousand, ask for, others wait for about as long.
    private static let spent: UInt64 = 1_000_000
    /// Nanoseconds between two looks at the processor time, at least.
    private static let sampleGap: UInt64 = 250_000
    /// Callbacks between two looks at the clock: one connection has no more in a turn.
    private static let lookEvery = 2

    /// Callbacks of this turn.
    private var callbacks = 0
    /// When this turn was first looked at, by the wall clock.
    private var startedAt: UInt64 = 0
    private var wasSpent = false
    /// The last look at the processor time: when, and what it was.
    private var sampledAt: UInt64 = 0
    private var sampledTime: UInt64 = 0

    /// A callback begins.
    ///
    /// - Returns: Whether the turn has gone on for long enough already.
    @inline(__always)
    mutating func begin() -> Bool {
        callbacks &+= 1
        return callbacks % TurnClock.lookEvery == 0 ? look() : wasSpent
    }

    /// What comes next has a time of its own: peers that go on, and new input, take turns with each
    /// other.
    mutating func beginPart() {
        callbacks = 0
        wasSpent = false
    }

    @inline(never)
    private mutating func look() -> Bool {
        let now = Clock.now
        if callbacks == TurnClock.lookEvery { startedAt = now }
        wasSpent = now - startedAt > TurnClock.spent
        return wasSpent
    }

    /// The loop has polled, and has called back for all that came: the turn is over.
    ///
    /// - Parameter now: Nanoseconds of `Clock.now`.
    /// - Returns: Microseconds of the thread's processor time since the last look: those of the
    ///   turn, and at most `sampleGap` of others. 0: not looked at.
    mutating func end(now: UInt64) -> UInt64 {
        callbacks = 0
        wasSpent = false
        guard now - sampledAt >= TurnClock.sampleGap else { return 0 }
        return sample(now)
    }

    @inline(never)
    private mutating func sample(_ now: UInt64) -> UInt64 {
        let time = Clock.threadTime
        let taken = time - sampledTime
        let isFirst = sampledAt == 0
        sampledAt = now
        sampledTime = time
        return isFirst ? 0 : taken / 1000
    }
}
