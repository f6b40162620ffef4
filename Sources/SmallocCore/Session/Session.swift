// One connection's protocol: bytes in, replies out, no IO. The whole daemon as one loop.
//
//   detecting -> text                       by the first byte
//   detecting -> frames (greeted after hello)
//   any       -> pause == .close
//
// `serve` consumes whole requests and says why it stopped. What it did not consume comes again,
// with more behind it. It knows nothing of sockets, loops or time.

internal import Glibc
public import SmallocWire

/// The state of one connection.
///
/// Used by its loop's thread only.
public struct Session: ~Copyable {
    enum Mode: UInt8 {
        case detecting
        case text
        case frames
    }

    /// Why `serve` stopped.
    public enum Pause: UInt8, Sendable {
        /// All that was whole is answered; more input is welcome.
        case none
        /// Enough replies: they must leave first. Then `serve` again.
        case output
        /// Enough work: others must have their turn. Then `serve` again.
        case turn
        /// After the output, the pieces of `sendPiece` must leave; then `serve` again.
        case send
        /// `takeWork` must run; then `finish`, then `serve` again.
        case work
        /// After the output the connection ends.
        case close
    }

    var mode = Mode.detecting
    var isGreeted = false
    /// Text mode: the rest of a line that was too long is on its way.
    var skipsLine = false
    /// Why it stopped taking input, if it did.
    public internal(set) var pause = Pause.none
    /// What ended it, if something was wrong.
    public internal(set) var failure: Status?
    /// Bytes of the unfinished request, as far as they are known; 0: not known.
    public internal(set) var wanted = 0
    /// Bytes of unconsumed text in which no line end was found.
    var scanned = 0
    /// The last request was a large write.
    ///
    /// The next one probably is: a reader then does well to take little more than a header, and the
    /// data straight into its allocation.
    public internal(set) var expectsBulk = false
    var holdings = Holdings()
    var errand: Errand?

    /// Makes a session that waits for its first byte.
    public init() {}

    /// Answers the whole requests at the start of `input` into the loop's output.
    ///
    /// - Returns: Bytes consumed. The rest must come again, in front of what arrives next.
    public mutating func serve(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) -> Int {
        if pause == .output || pause == .turn { pause = .none }
        holdings.cost = 0
        holdings.age = 0
        guard pause == .none else { return 0 }
        wanted = 0
        if mode == .detecting, let first = input.first {
            mode = first >= 0x80 ? .frames : .text
            if first < 0x20, first != 0x0A, first != 0x0D, first != 0x09 {
                fail(SmallocError(.notSmalloc, .error, "neither a frame nor a line of text"), loop)
                return 0
            }
        }
        return mode == .text ? serveText(input, loop) : serveFrames(input, loop)
    }

    /// The input has ended: answers a last line without its end.
    ///
    /// Call after `serve`, when it paused for nothing, with what it left.
    ///
    /// - Returns: False if the line waits for memory: to be called again when the work is done.
    public mutating func serveEnd(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) -> Bool {
        guard mode == .text, pause == .none, !skipsLine, !input.isEmpty else { return true }
        return serveLine(input, loop)
    }

    /// Whether a request has begun to arrive or to be answered, input that waits aside.
    public var isBusy: Bool {
        guard let errand else { return false }
        return errand.incoming != nil || errand.outgoing != nil || errand.work != nil
            || errand.refusal != nil || errand.listCursor != 0
    }

    /// Whether a part of an answer has left, and the rest is to come.
    public var isAnswering: Bool {
        guard let errand else { return false }
        return errand.outgoing != nil || errand.listCursor != 0
    }

    /// Adds an error that belongs to no request, and ends the session after it.
    public mutating func fail(_ error: SmallocError, _ loop: LoopContext) {
        switch mode {
        // Before its first byte nobody knows the mode; a line can be read by whoever is there.
        case .detecting, .text:
            var reply = TextReplies(output: loop.output)
            reply.error(error)
        case .frames:
            var reply = FrameReplies(output: loop.output, operation: 0, cookie: 0)
            reply.error(error)
        }
        loop.counters.add(.errors)
        failure = error.status
        pause = .close
    }

    /// Ends the session: handles close, anonymous allocations go.
    ///
    /// Not while its work runs.
    public mutating func end(_ loop: LoopContext) {
        errand?.end(loop.registry)
        errand = nil
        loop.registry.end(&holdings)
        pause = .close
    }

    // MARK: Straight into an allocation

    /// Where the next bytes of input belong, if they are data of a large write; else empty.
    ///
    /// Bytes put there are told by `received`, not served.
    ///
    /// - Parameter sizeMax: Bytes that will come at most.
    public func receivePiece(sizeMax: Int) -> UnsafeMutableRawBufferPointer {
        guard let piece = errand?.incoming?.piece else {
            return UnsafeMutableRawBufferPointer(start: nil, count: 0)
        }
        return UnsafeMutableRawBufferPointer(rebasing: piece.prefix(sizeMax))
    }

    /// `count` bytes, or none, arrived in `receivePiece`.
    ///
    /// The last ones are answered.
    public mutating func received(_ count: Int, _ loop: LoopContext) {
        guard let errand, errand.incoming != nil else { return }
        errand.incoming?.advance(count)
        guard let transfer = errand.incoming, transfer.left == 0 else { return }
        errand.incoming = nil
        expectsBulk = true
        var reply = FrameReplies(
            output: loop.output, operation: transfer.operation, cookie: transfer.cookie)
        reply.done(size: UInt64(transfer.size))
        loop.registry.end(transfer)
    }

    // MARK: Straight out of an allocation

    /// What must leave next, after the output; empty when all of it has.
    public var sendPiece: UnsafeRawBufferPointer {
        errand?.outgoing.map { UnsafeRawBufferPointer($0.piece) }
            ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// Bytes that must leave, of `sendPiece` and all pieces behind it.
    public var sendLeft: Int { errand?.outgoing?.left ?? 0 }

    /// `count` bytes of `sendPiece` have left.
    public mutating func sent(_ count: Int, _ loop: LoopContext) {
        guard let errand, errand.outgoing != nil else { return }
        errand.outgoing?.advance(count)
        guard let transfer = errand.outgoing, transfer.left == 0 else { return }
        errand.outgoing = nil
        loop.registry.end(transfer)
        if pause == .send { pause = .none }
    }

    // MARK: Work

    /// The work that `serve` paused for.
    ///
    /// The session keeps it until `finish`.
    public var work: Work? { errand?.work }

    /// The work is done: answers its request.
    public mutating func finish(_ loop: LoopContext) {
        guard let errand, let work = errand.work else { return }
        errand.work = nil
        if pause == .work { pause = .none }
        // Nothing is said behind a goodbye.
        if work.servesAgain || pause == .close { return loop.registry.end(work) }
        if mode == .text {
            var reply = TextReplies(output: loop.output)
            reply.done(size: UInt64(work.size))
        } else {
            var reply = FrameReplies(
                output: loop.output, operation: errand.workOperation, cookie: errand.workCookie)
            reply.done(size: UInt64(work.size))
        }
        loop.registry.end(work)
    }

    // MARK: Room

    /// What may still be answered before the replies must leave.
    ///
    /// Every kind of reply counts, that of a refusal too: else what is refused could be asked
    /// without end.
    struct Room {
        private let sizeMax: Int
        private let batchMax: Int
        private let repliesMax: UInt64
        private var replies: UInt64 = 0
        private var size = 0

        init(_ loop: LoopContext) {
            sizeMax = Int(truncatingIfNeeded: loop.limits.outputSizeMax)
            batchMax = Session.batchSize(loop)
            repliesMax = loop.limits.requestsInFlightMax
        }

        /// Asked after each step, which gives one reply at most.
        @inline(__always)
        mutating func isLeft(_ loop: LoopContext) -> Bool {
            let now = loop.output.pointee.count
            if now == size { return true }
            size = now
            replies += 1
            return now < batchMax && replies < repliesMax
        }

        /// Whether it is a limit that is reached, and not just enough for one system call.
        var isLimit: Bool { size >= sizeMax || replies >= repliesMax }
    }

    /// Bytes of replies that leave together: as many as stay in a processor's cache until they do.
    private static let batchSizeMax = 256 << 10

    /// The same, or less where less may wait.
    @inline(__always)
    static func batchSize(_ loop: LoopContext) -> Int {
        min(Int(truncatingIfNeeded: loop.limits.outputSizeMax), batchSizeMax)
    }

    /// Work that one call of `serve` may do, in bytes moved or their like: about a millisecond.
    static let costMax = 8 << 20

    /// Whether others should have their turn first.
    mutating func mustYield() -> Bool {
        guard holdings.cost >= Session.costMax else { return false }
        pause = .turn
        return true
    }

    /// The replies must leave before anything else is answered.
    mutating func waitForOutput(_ loop: LoopContext, isLimit: Bool = true) {
        pause = .output
        if isLimit { loop.counters.add(.pauses) }
    }

    /// The errand, made on first use.
    mutating func needErrand() -> Errand {
        if let errand { return errand }
        let made = Errand()
        errand = made
        return made
    }
}
