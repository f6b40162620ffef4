// Who comes first where loops and the threads that work for them share too few processors.

public import Glibc

/// The turns of a thread that may be held up: it is less important than loops, and offers them its
/// turn after each step of its work.
///
/// Most of the time, a loop that wakes goes before a thread that has given way. Where the kernel
/// decides otherwise it looks again at its next tick only, some milliseconds later; hence the
/// offers. Who offers gives up a whole turn: a loop with a few requests is done with it at once,
/// but somebody who computes takes all of it, and would leave a thousandth of the processor to whom
/// offers it every ten microseconds. So there are no more offers for a while after such a one, and
/// the thread keeps the share that its niceness gives it. `BusyPoll` does the same for loops.
public struct Yielding {
    /// Bytes that a step of work moves: some ten microseconds.
    public static let stepSize = 128 << 10
    /// Nanoseconds that only somebody who computes takes.
    public static let contended: UInt64 = 1_000_000
    /// Rests for so many times as long as such an offer took.
    public static let restFactor: UInt64 = 20
    /// Nanoseconds that it rests at most: who was stopped for a minute must not rest for twenty.
    public static let restMax: UInt64 = 1_000_000_000
    /// The daemon's own niceness, as every thread has it that has not given way yet.
    private static let ours = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
    /// Ten steps make a tenth of a loop's share.
    private static let niceStep: Int32 = 10

    /// Until when it makes no offers, in nanoseconds of a monotonic clock.
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

    /// Lets others have the processor, unless they kept it for long the last time.
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
