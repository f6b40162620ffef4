// What a session has begun and not finished. Most sessions never have one.

internal import SmallocWire

/// The rare state of a session, apart from it so that an idle one stays small.
final class Errand {
    /// Data on its way into an allocation.
    var incoming: Transfer?
    /// Data on its way out of one.
    var outgoing: Transfer?
    /// How text mode shows it.
    var format = TextFormat.numbers
    /// Work for another thread.
    var work: Work?
    /// Operation and cookie of the request that the work belongs to.
    var workOperation: UInt8 = 0
    var workCookie: UInt64 = 0
    /// Bytes of a refused payload that are still to come, and what is answered then.
    var refusedLeft: UInt64 = 0
    var refusal: (header: FrameHeader, error: SmallocError)?
    /// A listing in text mode that goes on: where, for what, and how much was told.
    var listCursor: UInt64 = 0
    var listPrefix: [UInt8] = []
    var listed: UInt64 = 0

    /// Gives back what it holds.
    ///
    /// Not while its work runs.
    func end(_ registry: Registry) {
        if let incoming { registry.end(incoming) }
        if let outgoing { registry.end(outgoing) }
        if let work { registry.end(work) }
        incoming = nil
        outgoing = nil
        work = nil
    }
}
