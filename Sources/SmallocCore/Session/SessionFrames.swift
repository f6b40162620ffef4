// Binary mode of a session: one frame after another.

internal import Glibc
internal import SmallocWire

extension Session {
    /// Answers whole frames; begins large writes; skips what was refused.
    mutating func serveFrames(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) -> Int {
        guard let base = input.baseAddress else { return 0 }
        var at = 0
        var room = Room(loop)
        loop.ahead.pointee.begin(loop.registry, end: base + input.count)
        while pause == .none {
            guard room.isLeft(loop) else {
                waitForOutput(loop, isLimit: room.isLimit)
                break
            }
            if mustYield() { break }
            let left = input.count - at
            if errand != nil, left > 0 {
                let taken = absorb(UnsafeRawBufferPointer(start: base + at, count: left), loop)
                at += taken
                if taken > 0 { continue }
            }
            let isNamed = left >= FrameHeader.byteCount && FrameHeader.isNamed(base + at)
            let taken =
                isNamed
                ? serveByName(base + at, arrived: left, loop)
                : serveByHandle(base + at, arrived: left, loop)
            if taken < 0 { break }
            if taken > 0 {
                at += taken
                continue
            }
            guard left >= FrameHeader.byteCount else {
                // What is no frame is refused by its first byte: 39 more may never come.
                if left > 0,
                    base.load(fromByteOffset: at, as: UInt8.self) != FrameHeader.requestMagic
                {
                    refuseStream(loop)
                    break
                }
                wanted = FrameHeader.byteCount
                break
            }
            let header = FrameHeader(from: base + at)
            let payloadSize = Int(header.payloadSize)
            let operation: Operation
            do throws(SmallocError) {
                operation = try examine(header, loop)
            } catch {
                if error.status == .malformedFrame {
                    refuseStream(loop)
                } else if error.status.closes {
                    refuse(header, error, loop)
                    failure = error.status
                    pause = .close
                } else {
                    at += FrameHeader.byteCount
                    refuse(header, error, payloadSize: UInt64(payloadSize), loop)
                }
                continue
            }
            let payload = base + at + FrameHeader.byteCount
            let arrived = left - FrameHeader.byteCount
            if operation == .write, payloadSize > Limits.atomicSizeMax {
                let begun = beginBulk(header, payload, arrived: arrived, loop)
                if begun >= 0 {
                    at += FrameHeader.byteCount + begun
                    continue
                }
                if begun == Session.prefixMissing || begun == Session.postponed { break }
            }
            guard arrived >= payloadSize else {
                wanted = FrameHeader.byteCount + payloadSize
                break
            }
            execute(
                header, operation,
                RawSpan(_unsafeStart: UnsafeRawPointer(payload), byteCount: payloadSize), loop)
            let end = at + FrameHeader.byteCount + payloadSize
            if case .nothing = holdings.deferred {
            } else if !settle(header, loop) {
                break
            }
            at = end
        }
        return at
    }

    @inline(__always)
    private mutating func execute(
        _ header: FrameHeader, _ operation: Operation, _ payload: RawSpan, _ loop: LoopContext
    ) {
        loop.counters.count(operation)
        expectsBulk = false
        var reply = FrameReplies(
            output: loop.output, operation: header.operation, cookie: header.cookie)
        do throws(SmallocError) {
            let request = try FrameCodec.decode(header, operation, payload: payload)
            if loop.registry.execute(request, &holdings, reply: &reply) {
                // Nothing but hello gets here ungreeted.
                isGreeted = true
                return
            }
        } catch {
            reply.error(error)
        }
        loop.counters.add(.errors)
    }

    /// The checks that come before an operation's own, in the order of protocol/spec.md § Frames.
    @inline(__always)
    private mutating func examine(
        _ header: FrameHeader, _ loop: LoopContext
    ) throws(SmallocError) -> Operation {
        guard header.magic == FrameHeader.requestMagic,
            header.version == FrameHeader.currentVersion, isGreeted,
            UInt64(header.payloadSize) <= loop.limits.frameSizeMax, header.status == 0,
            let operation = Operation(wire: header.operation),
            header.flags & ~Session.flags(operation) == 0,
            Int(header.payloadSize) <= FrameCodec.smallPayloadMax || operation == .write
        else { return try examineSlowly(header, loop) }
        return operation
    }

    /// The same once more, to find out what is wrong; and the first hello.
    @inline(never)
    private mutating func examineSlowly(
        _ header: FrameHeader, _ loop: LoopContext
    ) throws(SmallocError) -> Operation {
        guard header.magic == FrameHeader.requestMagic else { throw Session.noFrame }
        guard header.version == FrameHeader.currentVersion else {
            throw SmallocError(
                .unsupportedVersion, .error,
                "the daemon speaks version \(FrameHeader.currentVersion)")
        }
        let operation = Operation(wire: header.operation)
        guard isGreeted || operation == .hello else {
            throw SmallocError(.helloRequired, .error, "the first frame must be hello")
        }
        guard UInt64(header.payloadSize) <= loop.limits.frameSizeMax else { throw .frameTooLarge }
        guard header.status == 0 else { throw .malformed("the status of a request is 0") }
        guard let operation else {
            throw SmallocError(
                .unknownOperation, .error, "there is no operation \(header.operation)")
        }
        guard header.flags & ~Session.flags(operation) == 0 else {
            throw SmallocError(
                .unsupportedFlags, .error, "a flag has no meaning for \(operation.name)")
        }
        guard Int(header.payloadSize) <= FrameCodec.smallPayloadMax || operation == .write else {
            throw .malformed("more payload than \(operation.name) can have")
        }
        return operation
    }

    @inline(__always)
    private static func flags(_ operation: Operation) -> UInt8 {
        switch operation {
        case .read, .write: RequestFlags.vectored.rawValue
        case .alloc: RequestFlags.noHandle.rawValue
        default: 0
        }
    }

    // MARK: What is left to do

    /// Sees to what an operation left to do.
    ///
    /// False: the request has to be served again.
    mutating func settle(_ header: FrameHeader, _ loop: LoopContext) -> Bool {
        defer { holdings.deferred = .nothing }
        switch holdings.deferred {
        case .nothing, .page: break
        case .quit: pause = .close
        case .send(let transfer):
            needErrand().outgoing = transfer
            pause = .send
        case .work(let work):
            let errand = needErrand()
            errand.work = work
            errand.workOperation = header.operation
            errand.workCookie = header.cookie
            pause = .work
            if work.servesAgain { return false }
        }
        return true
    }

    // MARK: Large writes

    static let prefixMissing = -1
    static let notBulk = -2
    static let postponed = -3

    /// Begins a write whose data is received straight into its allocation, or refuses it.
    ///
    /// - Returns: Bytes of payload consumed: name and ranges; or `prefixMissing`, or `notBulk` for
    ///   one small enough to wait for, or `postponed` for one to be served again.
    private mutating func beginBulk(
        _ header: FrameHeader, _ payload: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        let isVectored = header.flags & RequestFlags.vectored.rawValue != 0
        let nameSize = Int(header.nameSize)
        var error: SmallocError?
        var rangesSize = 0
        if isVectored {
            if header.size < 1 || header.size > UInt64(Limits.rangesMax) {
                error = .invalidArgument("a vectored request has 1 to \(Limits.rangesMax) ranges")
            } else {
                rangesSize = Int(header.size) * 16
            }
            if header.offset != 0 { error = FrameCodec.shape }
        }
        // Over the atomic size by far, so name and ranges fit.
        let prefix = nameSize + rangesSize
        let dataSize = Int(header.payloadSize) - prefix
        if dataSize <= Limits.atomicSizeMax, error == nil { return Session.notBulk }
        if !isVectored, header.size != UInt64(dataSize) { error = FrameCodec.shape }
        if (header.handle != 0) == (nameSize != 0) || header.type != 0 { error = FrameCodec.shape }
        if let error {
            loop.counters.count(.write)
            refuse(header, error, payloadSize: UInt64(header.payloadSize), loop)
            return 0
        }
        guard arrived >= prefix else {
            wanted = FrameHeader.byteCount + prefix
            return Session.prefixMissing
        }
        loop.counters.count(.write)
        let name = RawSpan(_unsafeStart: payload, byteCount: nameSize)
        let ranges = RawSpan(_unsafeStart: payload + nameSize, byteCount: rangesSize)
        do throws(SmallocError) {
            needErrand().incoming = try loop.registry.receive(
                Reference(handle: header.handle, name: name), header, ranges: ranges,
                dataSize: dataSize, &holdings)
            if case .work = holdings.deferred, !settle(header, loop) { return Session.postponed }
        } catch {
            refuse(header, error, payloadSize: UInt64(dataSize), loop)
        }
        return prefix
    }

    /// Takes input that belongs to a write begun, or to a payload refused.
    ///
    /// 0: there is neither.
    private mutating func absorb(_ input: UnsafeRawBufferPointer, _ loop: LoopContext) -> Int {
        guard let errand, let source = input.baseAddress else { return 0 }
        if errand.incoming != nil {
            let piece = receivePiece(sizeMax: input.count)
            piece.baseAddress?.copyMemory(from: source, byteCount: piece.count)
            received(piece.count, loop)
            return piece.count
        }
        guard let refusal = errand.refusal else { return 0 }
        let size = Int(min(errand.refusedLeft, UInt64(input.count)))
        errand.refusedLeft -= UInt64(size)
        if errand.refusedLeft == 0 {
            errand.refusal = nil
            refuse(refusal.header, refusal.error, loop)
        }
        return size
    }

    // MARK: Refusals

    private static var noFrame: SmallocError {
        SmallocError(.malformedFrame, .error, "a frame starts with 0xE5")
    }

    /// Ends a connection whose bytes are no frames; what they would say of a request means nothing.
    private mutating func refuseStream(_ loop: LoopContext) {
        fail(Session.noFrame, loop)
    }

    /// Answers with an error, once the payload has gone by.
    private mutating func refuse(
        _ header: FrameHeader, _ error: SmallocError, payloadSize: UInt64, _ loop: LoopContext
    ) {
        if payloadSize == 0 {
            refuse(header, error, loop)
            return
        }
        // A reader should take what is dropped in large pieces.
        expectsBulk = false
        let errand = needErrand()
        errand.refusal = (header, error)
        errand.refusedLeft = payloadSize
    }

    private func refuse(_ header: FrameHeader, _ error: SmallocError, _ loop: LoopContext) {
        loop.counters.add(.errors)
        var reply = FrameReplies(
            output: loop.output, operation: header.operation, cookie: header.cookie)
        reply.error(error)
    }
}
