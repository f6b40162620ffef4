// Whether a loop asks for events again instead of sleeping until some come. To wake a thread takes
// 20 to 50 microseconds on the machines of today, ten times what a small request needs.

import CLibuv
import Glibc

/// Decides, after each poll of a loop, how the next one waits.
///
/// A loop that had something to do within the window before the last time expects more, and polls
/// without sleeping for as long as the window; between two polls it lets every other thread that is
/// ready have the processor. Where one takes it, the loop would wait for its whole turn each time,
/// so it sleeps for a while instead, and is woken before others. Traffic with longer gaps than the
/// window, and none, cost nothing. Precedents: the kernel's halt_poll_ns and net.core.busy_poll.
struct BusyPoll {
    /// Nanoseconds; 0 never polls.
    private let window: UInt64
    /// When there was last something to do.
    private var activeAt: UInt64 = 0
    /// Until when it sleeps, because another thread wants the processor.
    private var restsUntil: UInt64 = 0
    /// Nanoseconds of a yield that only a thread which computes takes; a client that shares the
    /// processor sends its next request before.
    private static let contended: UInt64 = 500_000
    /// Nanoseconds for which it sleeps then.
    private static let rest: UInt64 = 500_000_000
    /// Polling without sleeping at the moment.
    private(set) var isPolling = false

    /// - Parameter microseconds: The window; 0 never polls.
    init(microseconds: UInt64) { window = microseconds * 1000 }

    /// A poll is over.
    ///
    /// - Parameters:
    ///   - isActive: It brought something to do.
    ///   - now: Nanoseconds of a monotonic clock.
    /// - Returns: Whether the next one must not sleep.
    mutating func polled(isActive: Bool, now: UInt64) -> Bool {
        let gap = now &- activeAt
        if isActive { activeAt = now }
        isPolling = (isActive || isPolling) && gap < window && now >= restsUntil
        return isPolling
    }

    /// Other threads were let go first, which took from `before` to `after`.
    mutating func yielded(from before: UInt64, to after: UInt64) {
        if after &- before > BusyPoll.contended { restsUntil = after &+ BusyPoll.rest }
    }
}
