// A request whose reply comes later: when a thread has done its work, after the others' turn, or
// when an event comes.

internal import SmallocWire

/// A request whose reply comes later, found by its cookie.
///
/// Used by its loop's thread only.
public final class Pending {
    /// What it waits for.
    enum Cause {
        /// A thread works on memory. Requests behind it on the connection wait.
        case work(Work)
        /// Memory is on its way back; then the request is served again. Requests behind it wait.
        case memory(MappingPool)
        /// The others have their turn; then the request is served again.
        case turn
        /// An event that may be long in coming. What comes behind it on the connection goes on.
        case event(Wait)
    }

    let cause: Cause
    /// Of the request; the session notes them when it accepts the outcome.
    var operation: UInt8 = 0
    var cookie: UInt64 = 0
    /// Nanoseconds of `Clock.now` when it was read.
    var startedAt: UInt64 = 0

    init(_ cause: Cause) { self.cause = cause }

    /// Whether the request is to be served once more, and not answered by this.
    var servesAgain: Bool {
        switch cause {
        case .work(let work): work.servesAgain
        case .memory, .turn: true
        case .event: false
        }
    }

    /// What the slow log says that it waits for.
    var slowCause: SlowRequest.Cause {
        switch cause {
        case .work: .work
        case .memory: .memory
        case .turn, .event: .nothing
        }
    }

    /// What a thread has to do for it, if anything.
    var work: Work? {
        if case .work(let work) = cause { work } else { nil }
    }
}
