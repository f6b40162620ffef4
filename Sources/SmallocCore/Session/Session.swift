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
        /// After the output, the pieces of `fillViews` must leave; then `serve` again.
        case send
        /// `work` must run, then `finish`; or memory must come back, see `whenMemoryIsBack`. Then
        /// `serve` again.
        case work
        /// After the output the connection ends.
        case close
    }

    var mode = Mode.detecting
    /// A hello was answered with `ok`.
    public internal(set) var isGreeted = false
    /// What the first such hello said of the client.
    public internal(set) var client = ClientName()
    /// Text mode: the rest of a line that was too long is on its way.
    var skipsLine = false
    /// Why it stopped taking input, if it did.
    public internal(set) var pause = Pause.none
    /// What ended it, if something was wrong.
    public internal(set) var failure: Status?
    /// The last request was a large write.
    ///
    /// The next one probably is: a reader then does well to take little more than a header, and the
    /// data straight into its allocation.
    public internal(set) var expectsBulk = false
    /// Bytes of the unfinished request, as far as they are known; 0: not known.
    public internal(set) var wanted = 0
    /// Bytes of unconsumed text in which no line end was found.
    var scanned = 0
    var caller: Caller

    /// What it is in the middle of.
    var progress = Progress.none
    /// The request that is to be served once more, and since when it is at work.
    var again = Again()
    /// How text mode goes on with an answer that did not fit at once.
    var continuation: TextContinuation?

    /// Makes a session that waits for its first byte.
    ///
    /// - Parameters:
    ///   - owner: The user that connected, as of then; `noOwner` over TCP.
    ///   - takesDescriptors: Whether descriptors can be sent with its replies.
    public init(owner: UInt32 = Session.noOwner, takesDescriptors: Bool = false) {
        caller = Caller(owner: owner, takesDescriptors: takesDescriptors)
    }

    /// Says which connection of the shell's it is: `LoopWaits.nextTold` gives it back when there is
    /// something for `deliver`.
    public mutating func belong(to peer: UnsafeMutableRawPointer) { caller.peer = peer }

    /// Says what others are told of the connection, which outlives the session's use of it.
    public mutating func tell(by record: ClientRecord) { caller.record = record }

    /// A number that no user has.
    public static let noOwner = UInt32.max

    // MARK: The line

    /// Answers the whole requests at the start of `input` into the loop's output.
    ///
    /// - Returns: Bytes consumed. The rest must come again, in front of what arrives next.
    public mutating func serve(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) -> Int {
        if pause == .output || pause == .turn { pause = .none }
        caller.beginTurn(loop)
        guard pause == .none else { return 0 }
        wanted = 0
        if mode == .detecting, let first = input.first, !detect(first, loop) { return 0 }
        if caller.waits != nil { deliver(loop) }
        guard continuation == nil || goOn(loop), let base = input.baseAddress else { return 0 }
        var at = 0
        let earlier = again
        again = Again()
        var limit = BatchLimit(loop)
        if mode == .frames { loop.prefetch.pointee.begin(loop.registry, end: base + input.count) }
        while pause == .none {
            guard limit.hasRoom(loop) else {
                waitForOutput(loop, isLimit: limit.isAtLimit)
                break
            }
            if caller.cost >= Thresholds.turnCostMax || caller.hasTouched,
                caller.isTurnSpent()
            {
                pause = .turn
                break
            }
            let taken =
                mode == .frames
                ? serveFrame(base + at, arrived: input.count - at, loop)
                : serveLine(base + at, arrived: input.count - at, loop)
            if taken == 0 { break }
            at += taken
        }
        if let record = caller.record { tell(record) }
        if earlier.since != 0 { noteServed(earlier, isTaken: at > 0, loop) }
        // What the requests have cancelled.
        if caller.waits != nil { deliver(loop) }
        if loop.output.pointee.isLost { lose(loop) }
        return at
    }

    private mutating func detect(_ first: UInt8, _ loop: LoopContext) -> Bool {
        mode = first >= 0x80 ? .frames : .text
        caller.record?[.mode] = UInt64(mode.rawValue)
        guard first < 0x20, first != 0x0A, first != 0x0D, first != 0x09 else { return true }
        fail(SmallocError(.notSmalloc, .error, "neither a frame nor a line of text"), loop)
        return false
    }

    /// Does what the outcome of a request asks for: the only place that does.
    ///
    /// - Parameters:
    ///   - operation: Of the request, for a reply that comes later.
    ///   - cookie: The same; 0 in text mode.
    ///   - size: Bytes of the request.
    /// - Returns: Bytes consumed: `size`; 0 if the request has to be served once more.
    @inline(__always)
    mutating func accept(
        _ outcome: consuming Outcome, _ operation: UInt8, _ cookie: UInt64, size: Int,
        _ loop: LoopContext
    ) -> Int {
        switch consume outcome {
        case .answered:
            if caller.isEnding { pause = .close }
            return size
        case .send(let pieces):
            return accept(outgoing: pieces, operation, cookie, size: size, loop)
        case .receive(let pieces):
            return accept(incoming: pieces, operation, cookie, size: size, loop)
        case .later(let pending):
            return accept(pending, operation, cookie, size: size, loop)
        }
    }

    @inline(never)
    private mutating func accept(
        outgoing pieces: Pieces, _ operation: UInt8, _ cookie: UInt64, size: Int,
        _ loop: LoopContext
    ) -> Int {
        pieces.operation = operation
        pieces.cookie = cookie
        pieces.startedAt = loop.begin(operation)
        progress = .sending(pieces)
        if mode == .frames { pause = .send } else { _ = goOn(loop) }
        return size
    }

    @inline(never)
    private mutating func accept(
        incoming pieces: Pieces, _ operation: UInt8, _ cookie: UInt64, size: Int,
        _ loop: LoopContext
    ) -> Int {
        pieces.operation = operation
        pieces.cookie = cookie
        pieces.startedAt = loop.begin(operation)
        progress = .receiving(pieces)
        return size
    }

    @inline(never)
    private mutating func accept(
        _ pending: Pending, _ operation: UInt8, _ cookie: UInt64, size: Int, _ loop: LoopContext
    ) -> Int {
        pending.operation = operation
        pending.cookie = cookie
        if pending.servesAgain {
            again = Again(
                since: loop.turnStart, cookie: cookie, operation: operation,
                cause: pending.slowCause)
        } else {
            pending.startedAt = loop.begin(operation)
        }
        switch pending.cause {
        case .work, .memory:
            progress = .waiting(pending)
            pause = .work
        case .turn:
            pause = .turn
        case .event(let wait):
            wait.cookie = cookie
            wait.fields.pointee.startedAt = pending.startedAt
            // In binary mode what comes behind it goes on; lines are answered in their order.
            guard mode == .text else { break }
            progress = .waiting(pending)
            pause = .work
        }
        return pending.servesAgain ? 0 : size
    }

    /// The replies must leave before anything else is answered.
    mutating func waitForOutput(_ loop: LoopContext, isLimit: Bool = true) {
        pause = .output
        if isLimit { loop.counters.add(.pauses) }
    }

    // MARK: Ends

    /// Adds an error that belongs to no request, and ends the session after it.
    public mutating func fail(_ error: SmallocError, _ loop: LoopContext) {
        switch mode {
        // Before its first byte the mode is not known; a person can read a line.
        case .detecting, .text:
            var reply = TextReplies(output: loop.output)
            reply.error(error)
        case .frames:
            var reply = FrameReplies(output: loop.output, operation: 0, cookie: 0)
            reply.error(error)
        }
        loop.counters.refuse(error.status)
        close(error.status)
    }

    mutating func close(_ status: Status) {
        failure = status
        pause = .close
    }

    /// There was no memory for replies, and some are missing: what was sent before them is right,
    /// and nothing may be sent after it.
    @inline(never)
    mutating func lose(_ loop: LoopContext) {
        let descriptors = loop.output.pointee.descriptors
        if descriptors.0 >= 0 { Glibc.close(descriptors.0) }
        if descriptors.1 >= 0 { Glibc.close(descriptors.1) }
        loop.output.pointee.descriptors = (-1, -1)
        // Here, since the peer finds nothing to send: the next session has no part in the loss.
        loop.output.pointee.reset(keeping: LoopContext.outputSize)
        loop.counters.refuse(.outOfMemory)
        close(.outOfMemory)
    }

    /// Ends the session: handles close, anonymous allocations go.
    ///
    /// Not while its work runs.
    public mutating func end(_ loop: LoopContext) {
        switch progress {
        case .sending(let pieces), .receiving(let pieces): loop.registry.end(pieces)
        case .waiting(let pending): if let work = pending.work { loop.registry.end(work) }
        case .none, .refusing: break
        }
        progress = .none
        continuation = nil
        loop.registry.end(&caller)
        pause = .close
    }

    /// Whether a request has begun to arrive or to be answered, input that waits aside.
    public var isBusy: Bool {
        isMidRequest || continuation != nil
    }

    /// Whether a part of an answer has left, and the rest is to come.
    public var isAnswering: Bool { outgoing != nil || continuation != nil }

    /// Whether requests wait for events: such a connection is not idle.
    public var hasWaits: Bool { caller.waits.map { $0.count > 0 } ?? false }

    /// Whether the next request waits until one of them is over: a line does.
    public var isHeldByWait: Bool {
        if case .event = ordered?.cause { true } else { false }
    }

    // MARK: Descriptors

    /// Descriptors of its replies that the client may not have received yet.
    public var passedCount: Int { Int(caller.passedCount) }

    /// The client has received the descriptors of its replies, all but those that are still to be
    /// sent.
    public mutating func received(allBut count: Int, _ loop: LoopContext) {
        loop.registry.received(allBut: Int32(count), &caller)
    }

    // MARK: Later

    /// The work that `serve` paused for.
    ///
    /// The session keeps it until `finish`.
    public var work: Work? { ordered?.work }

    /// The work is done: answers its request.
    public mutating func finish(_ loop: LoopContext) {
        guard let pending = ordered, let work = pending.work else { return }
        progress = .none
        if pause == .work { pause = .none }
        if case .promote(let promotion) = work.kind { caller.promotionError = promotion.error }
        // Nothing is sent behind the last reply of a connection.
        if !pending.servesAgain, pause != .close {
            answer(pending, size: work.size, error: work.error, loop)
            noteEnd(of: pending, work, loop)
        }
        loop.registry.end(work)
    }

    /// Whether the request at hand waits for memory that is on its way back.
    public var waitsForMemory: Bool {
        if case .memory = ordered?.cause { true } else { false }
    }

    /// Calls back when the memory is back that `serve` paused for: on another thread, or at once.
    ///
    /// Then `memoryIsBack` is due, on the loop's thread.
    public func whenMemoryIsBack(_ body: @escaping @Sendable () -> Void) {
        guard case .memory(let pool) = ordered?.cause else { return }
        pool.onDrained(pool.beginDrain(), body)
    }

    /// The request that waited for memory is served again with the next `serve`.
    public mutating func memoryIsBack() {
        guard waitsForMemory else { return }
        progress = .none
        if pause == .work { pause = .none }
    }

    private func answer(
        _ pending: Pending, size: Int, error: SmallocError?, _ loop: LoopContext
    ) {
        if let error { loop.counters.refuse(error.status) }
        if mode == .text {
            var reply = TextReplies(output: loop.output)
            Session.answer(size, error, &reply)
        } else {
            var reply = FrameReplies(
                output: loop.output, operation: pending.operation, cookie: pending.cookie)
            Session.answer(size, error, &reply)
        }
    }

    private static func answer<Reply: ReplyWriter & ~Copyable>(
        _ size: Int, _ error: SmallocError?, _ reply: inout Reply
    ) {
        if let error { reply.error(error) } else { reply.done(size: UInt64(size)) }
    }
}
