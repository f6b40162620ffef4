// Text mode of a session: one line after another.

internal import Glibc
internal import SmallocWire

extension Session {
    /// Bytes of an allocation that are shown at a time: whole elements of every type, whole groups
    /// of base64.
    private static let shownAtOnce = 24 * 1024
    /// What it costs to make a number of some bytes readable, as bytes of a copy.
    private static let shownCost = 128

    /// Answers whole lines, and goes on with an answer that did not fit at once.
    mutating func serveText(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) -> Int {
        guard goOn(loop), let base = input.baseAddress else { return 0 }
        let lineMax = Int(truncatingIfNeeded: loop.limits.lineSizeMax)
        var at = 0
        var room = Room(loop)
        while pause == .none {
            guard room.isLeft(loop) else {
                waitForOutput(loop, isLimit: room.isLimit)
                break
            }
            if mustYield() { break }
            let left = input.count - at
            let known = min(scanned, left)
            scanned = 0
            guard left > known,
                let end = memchr(base + at + known, 0x0A, left - known)
            else {
                scanned = left
                if skipsLine || Session.lineSize(base + at, left) > lineMax {
                    at += tooLong(left, loop)
                }
                break
            }
            let size = UnsafeRawPointer(end) - (base + at)
            if skipsLine {
                skipsLine = false
                at += size + 1
                continue
            }
            if Session.lineSize(base + at, size) > lineMax {
                refuseLine(loop)
                at += size + 1
                continue
            }
            let line = UnsafeRawBufferPointer(start: base + at, count: size)
            guard serveLine(line, loop) else { break }
            at += size + 1
        }
        return at
    }

    /// Bytes of a line without a CR at its end, which may be half of its line end.
    private static func lineSize(_ start: UnsafeRawPointer, _ size: Int) -> Int {
        guard size > 0, start.load(fromByteOffset: size - 1, as: UInt8.self) == 0x0D else {
            return size
        }
        return size - 1
    }

    /// The line has no end yet and is too long already: says so once, drops what there is.
    private mutating func tooLong(_ left: Int, _ loop: LoopContext) -> Int {
        if !skipsLine { refuseLine(loop) }
        skipsLine = true
        scanned = 0
        return left
    }

    private func refuseLine(_ loop: LoopContext) {
        loop.counters.add(.errors)
        var reply = TextReplies(output: loop.output)
        reply.error(
            SmallocError(
                .lineTooLong, .rangeError, "a line has at most \(loop.limits.lineSizeMax) bytes"))
    }

    /// Answers one line without its end.
    ///
    /// False: it has to be served again.
    @discardableResult
    mutating func serveLine(_ bytes: UnsafeRawBufferPointer, _ loop: LoopContext) -> Bool {
        var bytes = bytes
        if bytes.last == 0x0D { bytes = UnsafeRawBufferPointer(rebasing: bytes.dropLast()) }
        guard let start = bytes.baseAddress, bytes.contains(where: { $0 != 0x20 && $0 != 0x09 })
        else { return true }
        let line = RawSpan(_unsafeStart: start, byteCount: bytes.count)
        var format = TextFormat.numbers
        do throws(SmallocError) {
            let request = try TextCodec.parse(line, format: &format)
            return answer(request, format, loop)
        } catch {
            loop.counters.add(.errors)
            var reply = TextReplies(output: loop.output)
            reply.error(error)
            if error.status.closes {
                failure = error.status
                pause = .close
            }
            return true
        }
    }

    private mutating func answer(
        _ request: borrowing Request, _ format: TextFormat, _ loop: LoopContext
    ) -> Bool {
        if let operation = Session.operation(request) { loop.counters.count(operation) }
        var reply = TextReplies(output: loop.output, format: format)
        switch request {
        case .help(let verb):
            reply.help(verb)
            return true
        default: break
        }
        if !loop.registry.execute(request, &holdings, reply: &reply) { loop.counters.add(.errors) }
        defer { holdings.deferred = .nothing }
        switch holdings.deferred {
        case .nothing: break
        case .quit: pause = .close
        case .page(let cursor):
            let errand = needErrand()
            errand.listCursor = cursor
            errand.listed = reply.listed
            switch request {
            case .list(let prefix, _, _, _):
                errand.listPrefix = prefix.withUnsafeBytes { Array($0) }
            default: break
            }
            _ = goOn(loop)
        case .send(let transfer):
            let errand = needErrand()
            errand.outgoing = transfer
            errand.format = format
            _ = goOn(loop)
        case .work(let work):
            needErrand().work = work
            pause = .work
            if work.servesAgain { return false }
        }
        return true
    }

    /// Goes on with data or a listing, as far as the output has room.
    ///
    /// False: not done yet.
    private mutating func goOn(_ loop: LoopContext) -> Bool {
        guard let errand else { return true }
        let room = Int(truncatingIfNeeded: loop.limits.outputSizeMax)
        while errand.outgoing != nil {
            guard loop.output.pointee.count < room else {
                waitForOutput(loop)
                return false
            }
            show(errand, loop)
            holdings.cost += Session.shownAtOnce * Session.shownCost
            if mustYield() { return false }
        }
        while errand.listCursor != 0 {
            guard loop.output.pointee.count < room else {
                waitForOutput(loop)
                return false
            }
            nextPage(errand, loop)
            if mustYield() { return false }
        }
        return true
    }

    /// Shows the next elements of a long read.
    private func show(_ errand: Errand, _ loop: LoopContext) {
        guard let transfer = errand.outgoing, let start = transfer.piece.baseAddress else { return }
        var reply = TextReplies(
            continuing: transfer.allocation.type, output: loop.output, format: errand.format)
        let size = min(transfer.piece.count, Session.shownAtOnce)
        reply.appendData(start, size)
        errand.outgoing?.advance(size)
        if transfer.left == size {
            reply.endData()
            errand.outgoing = nil
            loop.registry.end(transfer)
        }
    }

    /// Tells the next page of a long listing.
    private mutating func nextPage(_ errand: Errand, _ loop: LoopContext) {
        var reply = TextReplies(output: loop.output, listed: errand.listed)
        errand.listPrefix.withUnsafeBytes { prefix in
            let span = RawSpan(_unsafeBytes: prefix)
            _ = loop.registry.execute(
                .list(prefix: span, cursor: errand.listCursor, count: 0, sorted: false), &holdings,
                reply: &reply)
        }
        errand.listed = reply.listed
        errand.listCursor = 0
        if case .page(let cursor) = holdings.deferred { errand.listCursor = cursor }
        holdings.deferred = .nothing
    }

    private static func operation(_ request: borrowing Request) -> Operation? {
        switch request {
        case .hello: .hello
        case .ping: .ping
        case .alloc: .alloc
        case .open: .open
        case .close: .close
        case .stat: .stat
        case .list: .list
        case .read, .readRanges: .read
        case .write, .writeRanges: .write
        case .fill: .fill
        case .copy: .copy
        case .dispose: .dispose
        case .truncate: .truncate
        case .rename: .rename
        case .stats: .stats
        case .quit: .quit
        case .help: nil
        }
    }
}
