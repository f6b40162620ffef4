// How long the turns of a loop take: from the first callback after a poll to the next poll.

import SmallocSystem

/// Measures the turns of one loop, and says when one has gone on for long enough.
///
/// What counts is the processor time of the loop's thread, so that a busy machine does not show as
/// a slow daemon. To ask for it is a system call, so it is asked for after turns that took long by
/// the wall clock, and now and then; a turn's time is at most `sampleGap` too high by that.
struct TurnClock {
    /// Nanoseconds after which the rest of a turn's work is left to the next turn: whatever one
    /// connection, or a thousand, ask for, others wait for about as long.
    private static let spent: UInt64 = 2_000_000
    /// Nanoseconds of the wall clock below which a turn is not looked at.
    private static let short: UInt64 = 500_000
    /// Nanoseconds between two looks at the processor time, at least.
    private static let sampleGap: UInt64 = 250_000

    /// When the turn began, by the wall clock; 0: there is none.
    private var startedAt: UInt64 = 0
    /// The last look at the processor time: when, and what it was.
    private var sampledAt: UInt64 = 0
    private var sampledTime: UInt64 = 0

    /// A callback begins; the first one begins the turn.
    @inline(__always)
    mutating func begin() {
        if startedAt == 0 { startedAt = Clock.now }
    }

    /// Whether the turn has gone on for long enough.
    var isSpent: Bool { startedAt != 0 && Clock.now - startedAt > TurnClock.spent }

    /// The loop is about to poll.
    ///
    /// - Returns: Microseconds of the thread's processor time that the turn took; 0 for short ones.
    mutating func end() -> UInt64 {
        guard startedAt != 0 else { return 0 }
        let now = Clock.now
        let wall = now - startedAt
        startedAt = 0
        guard wall >= TurnClock.short || now - sampledAt >= TurnClock.sampleGap else { return 0 }
        let time = Clock.threadTime
        let taken = min(wall, time - sampledTime)
        let isFirst = sampledAt == 0
        sampledAt = now
        sampledTime = time
        return wall >= TurnClock.short && !isFirst ? taken / 1000 : 0
    }
}
