// Which threads come first where loops and the threads that work for them share too few processors.

public import Glibc

/// When a thread that may be held up offers its processor to others: it is less important than
/// loops, and makes an offer after each step of its work.
///
/// Most of the time, a loop that wakes goes before a thread that has given way. Where the kernel
/// decides otherwise, it decides anew at its next tick, some milliseconds later; hence the offers.
/// The thread that takes an offer gets a whole slice of time. A loop with a few requests is done
/// with it at once. A thread that computes uses all of it: a thread that made it an offer every ten
/// microseconds would keep a thousandth of the processor. So a thread whose offer took long makes
/// none for a while, and keeps the share that its niceness gives it. `BusyPoll` does the same for
/// loops.
public struct Yielding {
    /// Bytes that a step of work moves: some ten microseconds.
    public static let stepSize = 128 << 10
    /// Nanoseconds of an offer that only a thread which computes takes.
    public static let contended: UInt64 = 1_000_000
    /// The time without offers is so many times as long as such an offer took.
    public static let restFactor: UInt64 = 20
    /// Nanoseconds without offers at most: a process that was stopped for a minute must not go
    /// without them for twenty.
    public static let restMax: UInt64 = 1_000_000_000
    /// The daemon's own niceness, as every thread has it that has not given way yet.
    private static let ours = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
    /// Ten steps make a tenth of a loop's share.
    private static let niceStep: Int32 = 10

    /// Until when the thread makes no offers, in nanoseconds of a monotonic clock.
    private var restsUntil: UInt64 = 0
    private let now: () -> UInt64
    private let yield: () -> Void

    /// Tests have a clock of their own.
    public init(
        now: @escaping () -> UInt64 = { Clock.now },
        yield: @escaping () -> Void = { _ = sched_yield() }
    ) {
        self.now = now
        self.yield = yield
    }

    /// Has the calling thread give way to loops from now on.
    ///
    /// Cheap enough to be said again before each piece of work.
    public static func giveWay() {
        // On Linux, against POSIX, 0 means this thread and not the process: setpriority(2), Notes.
        _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, min(ours + niceStep, 19))
    }

    /// Offers the processor to other threads, unless one kept it for long the last time.
    public mutating func yieldIfWorthIt() {
        let before = now()
        guard before >= restsUntil else { return }
        yield()
        let after = now()
        let taken = after - before
        guard taken > Yielding.contended else { return }
        let longest = Yielding.restMax / Yielding.restFactor
        restsUntil = after + min(taken, longest) * Yielding.restFactor
    }
}
