// Text mode of a session: one line.

internal import Glibc
internal import SmallocWire

/// How text mode goes on with an answer that did not fit at once.
final class TextContinuation {
    /// How data is shown.
    let format: TextFormat
    /// A listing that goes on: for what, where, and how much was told; a cursor of 0 is none.
    ///
    /// Without a prefix it is one of connections.
    fileprivate let prefix: [UInt8]?
    fileprivate var cursor: UInt64
    fileprivate var listed: UInt64

    fileprivate init(
        format: TextFormat, prefix: [UInt8]? = nil, cursor: UInt64 = 0, listed: UInt64 = 0
    ) {
        self.format = format
        self.prefix = prefix
        self.cursor = cursor
        self.listed = listed
    }
}

extension Session {
    /// Answers the line at the start of `input`, or drops one that is too long.
    ///
    /// - Returns: Bytes consumed; 0: the line is not whole, or has to be served once more.
    @inline(never)
    mutating func serveLine(_ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext) -> Int {
        let lineMax = Int(truncatingIfNeeded: loop.limits.lineSizeMax)
        let known = min(scanned, arrived)
        scanned = 0
        guard arrived > known, let end = memchr(input + known, 0x0A, arrived - known) else {
            scanned = arrived
            guard arrived > 0, skipsLine || Session.lineSize(input, arrived) > lineMax else {
                return 0
            }
            if !skipsLine { refuseLine(loop) }
            skipsLine = true
            scanned = 0
            return arrived
        }
        let size = UnsafeRawPointer(end) - input
        if skipsLine {
            skipsLine = false
        } else if Session.lineSize(input, size) > lineMax {
            refuseLine(loop)
        } else if !answerLine(UnsafeRawBufferPointer(start: input, count: size), loop) {
            return 0
        }
        return size + 1
    }

    /// Bytes of a line without a CR at its end, which may be half of its line end.
    private static func lineSize(_ start: UnsafeRawPointer, _ size: Int) -> Int {
        guard size > 0, start.load(fromByteOffset: size - 1, as: UInt8.self) == 0x0D else {
            return size
        }
        return size - 1
    }

    private mutating func refuseLine(_ loop: LoopContext) {
        caller.encoding = nil
        loop.counters.refuse(.lineTooLong)
        caller.cost += Caller.Cost.refusal
        var reply = TextReplies(output: loop.output)
        reply.error(
            SmallocError(
                .lineTooLong, .rangeError, "a line has at most \(loop.limits.lineSizeMax) bytes"))
    }

    /// The input has ended: refuses a last line without its end.
    ///
    /// It may be a part of what was meant, so nothing of it is carried out. Call after `serve`,
    /// when it paused for nothing, with what it left.
    public mutating func serveEnd(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) {
        guard mode == .text, pause == .none, !skipsLine else { return }
        let isBlank = input.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }
        if !isBlank { fail(.incompleteLine, loop) }
    }

    /// Answers one line without its end.
    ///
    /// False: it has to be served again.
    private mutating func answerLine(
        _ bytes: UnsafeRawBufferPointer, _ loop: LoopContext
    ) -> Bool {
        var bytes = bytes
        if bytes.last == 0x0D { bytes = UnsafeRawBufferPointer(rebasing: bytes.dropLast()) }
        guard let start = bytes.baseAddress, bytes.contains(where: { $0 != 0x20 && $0 != 0x09 })
        else { return true }
        let before = loop.output.pointee.count
        defer {
            // A byte of text takes about as long as 64 that are copied.
            let shown = max(0, loop.output.pointee.count - before)
            caller.cost += Caller.Cost.line + shown * 64
        }
        let line = RawSpan(_unsafeStart: start, byteCount: bytes.count)
        var format = TextFormat.numbers
        do throws(SmallocError) {
            let request = try TextCodec.parse(line, format: &format)
            return answer(request, format, loop)
        } catch {
            loop.counters.refuse(error.status)
            var reply = TextReplies(output: loop.output)
            reply.error(error)
            if error.status.closes { close(error.status) }
            return true
        }
    }

    private mutating func answer(
        _ request: borrowing Request, _ format: TextFormat, _ loop: LoopContext
    ) -> Bool {
        var reply = TextReplies(output: loop.output, format: format)
        var prefix: [UInt8]?
        switch request {
        case .help(let verb):
            reply.help(verb)
            return true
        case .list(let asked, _, _, _):
            // No name is longer, so no more of it is looked at.
            prefix = asked.withUnsafeBytes { Array($0.prefix(Limits.nameSizeMax + 1)) }
        case .read: continuation = TextContinuation(format: format)
        default: break
        }
        let operation = request.operation?.rawValue ?? 0
        let outcome = loop.registry.execute(request, &caller, loop.counters, &reply)
        if caller.nextCursor != 0 {
            continuation = TextContinuation(
                format: format, prefix: prefix, cursor: UInt64(caller.nextCursor),
                listed: reply.listed)
            caller.nextCursor = 0
        }
        let taken = accept(outcome, operation, 0, size: 1, loop)
        // It belongs to this line, however it was answered.
        if taken > 0 { caller.encoding = nil }
        if pause == .none, continuation != nil { _ = goOn(loop) }
        if outgoing == nil, continuation?.cursor == 0 { continuation = nil }
        return taken > 0
    }

    /// Goes on with data or a listing, as far as the output has room.
    ///
    /// False: not done yet.
    mutating func goOn(_ loop: LoopContext) -> Bool {
        guard let continuation else { return true }
        let room = Int(truncatingIfNeeded: loop.limits.outputSizeMax)
        while outgoing != nil || continuation.cursor != 0 {
            guard loop.output.pointee.count < room else {
                waitForOutput(loop)
                return false
            }
            guard caller.cost < Thresholds.turnCostMax else {
                pause = .turn
                return false
            }
            if let outgoing {
                show(outgoing, continuation.format, loop)
            } else {
                nextPage(continuation, loop)
            }
        }
        self.continuation = nil
        return true
    }

    /// Shows the next elements of a long read.
    private mutating func show(_ pieces: Pieces, _ format: TextFormat, _ loop: LoopContext) {
        var reply = TextReplies(
            continuing: pieces.allocation.type, output: loop.output, format: format)
        // A copy: to make it readable takes long, and nothing is kept of the memory meanwhile.
        let size = pieces.copy(to: loop.shown, sizeMax: Thresholds.shownSliceSize)
        reply.appendData(loop.shown, size)
        caller.cost += size * Caller.Cost.number
        guard pieces.left == 0 else { return }
        reply.endData()
        progress = .none
        noteEnd(of: pieces, loop)
        loop.registry.end(pieces)
    }

    private mutating func answerPage(
        _ request: borrowing Request, _ reply: inout TextReplies, _ loop: LoopContext
    ) {
        let outcome = loop.registry.execute(request, &caller, loop.counters, &reply)
        // All pages are one request.
        if let operation = request.operation { loop.counters.uncount(operation) }
        caller.requests &-= 1
        guard case .answered = outcome else {
            preconditionFailure("a page of a listing is answered at once")
        }
    }

    /// Tells the next page of a long listing.
    private mutating func nextPage(_ continuation: TextContinuation, _ loop: LoopContext) {
        var reply = TextReplies(output: loop.output, listed: continuation.listed)
        if let prefix = continuation.prefix {
            prefix.withUnsafeBytes { prefix in
                answerPage(
                    .list(
                        prefix: RawSpan(_unsafeBytes: prefix), cursor: continuation.cursor,
                        count: 0, sorted: false), &reply, loop)
            }
        } else {
            answerPage(.clients(cursor: continuation.cursor, count: 0), &reply, loop)
        }
        continuation.listed = reply.listed
        continuation.cursor = UInt64(caller.nextCursor)
        caller.nextCursor = 0
    }
}
