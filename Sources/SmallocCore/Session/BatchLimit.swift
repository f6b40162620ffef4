// How much is answered before the replies must leave, and before other connections have their turn.

internal import SmallocWire

/// What may still be answered in one call of `serve`.
///
/// Every kind of reply counts, that of a refusal too: else what is refused could be asked without
/// end.
struct BatchLimit {
    private let outputMax: Int
    private let batchMax: Int
    private let repliesMax: UInt64
    private var replies: UInt64 = 0
    private var size = 0

    @inline(__always)
    init(_ loop: LoopContext) {
        outputMax = Int(truncatingIfNeeded: loop.limits.outputSizeMax)
        batchMax = min(outputMax, Thresholds.batchSizeMax)
        repliesMax = loop.limits.requestsInFlightMax
    }

    /// Whether one more request may be answered.
    ///
    /// Asked after each step, which gives one reply at most.
    @inline(__always)
    mutating func hasRoom(_ loop: LoopContext) -> Bool {
        let now = loop.output.pointee.count
        if now == size { return true }
        size = now
        replies += 1
        return now < batchMax && replies < repliesMax
    }

    /// Whether it is a limit that is reached, and not just enough for one system call.
    var isAtLimit: Bool { size >= outputMax || replies >= repliesMax }
}
