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
        // What the requests have cancelled.
        if caller.waits != nil { deliver(loop) }
        if loop.output.pointee.isLost { lose(loop) }
        return at
    }

    private mutating func detect(_ first: UInt8, _ loop: LoopContext) -> Bool {
        mode = first >= 0x80 ? .frames : .text
        guard first < 0x20, first != 0x0A, first != 0x0D, first != 0x09 else { return true }
        fail(SmallocError(.notSmalloc, .error, "neither a frame nor a line of text"), loop)
        return false
    }

    /// Does what the outcome of a request asks for: the only place that does.
    ///
    /// - Parameters:
    ///   - operation: Of the request, for a reply that comes later; 0 in text mode.
    ///   - cookie: The same.
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
            pieces.operation = operation
            pieces.cookie = cookie
            progress = .receiving(pieces)
            return size
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
        progress = .sending(pieces)
        if mode == .frames { pause = .send } else { _ = goOn(loop) }
        return size
    }

    @inline(never)
    private mutating func accept(
        _ pending: Pending, _ operation: UInt8, _ cookie: UInt64, size: Int, _ loop: LoopContext
    ) -> Int {
        pending.operation = operation
        pending.cookie = cookie
        switch pending.cause {
        case .work, .memory:
            progress = .waiting(pending)
            pause = .work
        case .turn:
            pause = .turn
        case .event(let wait):
            wait.cookie = cookie
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
        loop.counters.add(.errors)
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
        loop.counters.add(.errors)
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

    // MARK: Straight into an allocation

    /// Whether the next bytes of input are data of a large write.
    public var expectsData: Bool { incoming != nil }

    /// Where the next bytes of input belong, if they are data of a large write; else empty.
    ///
    /// Bytes put there are told by `received`, not served.
    ///
    /// - Parameter sizeMax: Bytes that will come at most.
    public func receiveRoom(sizeMax: Int) -> UnsafeMutableRawBufferPointer {
        incoming?.room(sizeMax: sizeMax) ?? UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    /// `count` bytes, or none, have arrived in `receiveRoom`.
    ///
    /// The last ones are answered.
    public mutating func received(_ count: Int, _ loop: LoopContext) {
        guard let incoming else { return }
        incoming.received(count)
        if incoming.left == 0 { endReceiving(incoming, loop) }
    }

    /// Whether a request is not done with: in binary mode the next bytes are its payload then.
    @inline(__always)
    var isMidRequest: Bool {
        if case .none = progress { false } else { true }
    }

    /// Takes input that belongs to a write begun, or to a payload refused.
    ///
    /// 0: there is neither.
    mutating func absorb(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) -> Int {
        if let incoming {
            let taken = incoming.take(input)
            if incoming.left == 0 { endReceiving(incoming, loop) }
            return taken
        }
        guard case .refusing(let refusal) = progress else { return 0 }
        let size = refusal.drop(input.count)
        if refusal.left == 0 {
            progress = .none
            refusal.reply(to: loop.output)
        }
        return size
    }

    private mutating func endReceiving(_ pieces: Pieces, _ loop: LoopContext) {
        progress = .none
        expectsBulk = true
        var reply = FrameReplies(
            output: loop.output, operation: pieces.operation, cookie: pieces.cookie)
        reply.done(size: UInt64(pieces.size))
        loop.registry.end(pieces)
    }

    // MARK: Straight out of an allocation

    /// What must leave next, after the output: copied to it where the ranges are small, else as
    /// views.
    ///
    /// - Parameter sizeMax: Bytes that one system call sends at most.
    /// - Returns: Views of the loop's `views`; 0 if there is nothing but output.
    public mutating func fillViews(sizeMax: Int, _ loop: LoopContext) -> Int {
        guard pause == .send, let outgoing else { return 0 }
        if loop.output.pointee.count < Thresholds.copiedSizeMax {
            _ = outgoing.copy(
                to: loop.output, sizeMax: Thresholds.copiedSizeMax, isForced: outgoing.mustCopy)
        }
        let count = outgoing.fill(loop.views, sizeMax: sizeMax)
        if outgoing.left == 0 { endSending(outgoing, loop) }
        return count
    }

    /// Copies what must leave next to the output: the socket is full, and no pointer is kept until
    /// it is not.
    public mutating func copyNext(sizeMax: Int, _ loop: LoopContext) {
        guard pause == .send, let outgoing else { return }
        _ = outgoing.copy(
            to: loop.output, sizeMax: min(sizeMax, Thresholds.copiedSizeMax), isForced: true)
        if outgoing.left == 0 { endSending(outgoing, loop) }
    }

    /// `count` bytes of the views have left.
    public mutating func sent(_ count: Int, _ loop: LoopContext) {
        guard let outgoing else { return }
        outgoing.sent(count)
        if outgoing.left == 0 { endSending(outgoing, loop) }
    }

    private mutating func endSending(_ pieces: Pieces, _ loop: LoopContext) {
        progress = .none
        loop.registry.end(pieces)
        if pause == .send { pause = .none }
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
        if error != nil { loop.counters.add(.errors) }
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
