// Whether the other side of a TCP connection is still there.
//
// The kernel asks the other side of an idle connection itself (keepalive). Where sent data is not
// acknowledged it sends again for a quarter of an hour instead, and where the other side's window
// is shut it asks about the window for ever. TCP_USER_TIMEOUT is no help: it also ends a connection
// whose other side answers and keeps its window shut.

import CSmalloc

/// What is known of whether the other side answers.
struct Liveness {
    /// How often it is looked at.
    static let lookMilliseconds: UInt64 = 2500
    /// How long it may owe an answer before it counts as gone.
    ///
    /// With the 10 s after which the kernel asks again at the latest, and two looks, under a
    /// minute.
    static let goneMilliseconds: UInt64 = 40_000

    private var lookedAt: UInt64
    /// When it was first seen to owe an answer, and since when it has given none; `never`: it owes
    /// none.
    private var silentSince = Liveness.never
    private static let never = UInt64.max

    /// - Parameter now: A monotonic clock, in milliseconds.
    init(now: UInt64) { lookedAt = now }

    /// Looks at a socket now and then.
    ///
    /// - Parameters:
    ///   - socket: A connected TCP socket.
    ///   - now: As for `init`.
    /// - Returns: Whether the other side has vanished.
    mutating func isGone(_ socket: Int32, now: UInt64) -> Bool {
        guard now - lookedAt >= Liveness.lookMilliseconds else { return false }
        lookedAt = now
        return isGone(unanswered: smalloc_unanswered_milliseconds(socket), now: now)
    }

    /// The same with what the kernel says, as `smalloc_unanswered_milliseconds` tells it.
    mutating func isGone(unanswered: Int64, now: UInt64) -> Bool {
        guard unanswered > 0 else {
            silentSince = Liveness.never
            return false
        }
        // An answer since then was to another question, and this one is as young as this look.
        let since = silentSince
        guard since != Liveness.never, now - min(now, UInt64(unanswered)) <= since else {
            silentSince = now
            return false
        }
        return now - since >= Liveness.goneMilliseconds
    }
}
