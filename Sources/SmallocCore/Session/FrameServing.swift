// Binary mode of a session: one frame.
//
// What nearly all requests of a busy connection are (pings, plain reads and writes, by handle or by
// name, atomics by handle, small allocs and disposes) is told by one comparison of the first 8
// bytes of the header, which stands for most of the checks; the rest take `examine` and `decode`.
// All of them end in `Registry.execute` and `accept`. The comparison serves pipelining clients: a
// small read costs half the instructions with it.

internal import SmallocWire

extension Session {
    /// Answers the frame at the start of `input`, begins a large write, or takes more of one.
    ///
    /// - Returns: Bytes consumed; 0: the frame is not whole, or has to be served once more.
    @inline(__always)
    mutating func serveFrame(
        _ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        if isMidRequest, arrived > 0 {
            return absorb(UnsafeRawBufferPointer(start: input, count: arrived), loop)
        }
        guard arrived >= FrameHeader.byteCount, isGreeted else {
            return serveAny(input, arrived: arrived, loop)
        }
        let first = UInt64(littleEndian: input.loadUnaligned(as: UInt64.self))
        var taken = 0
        if first == FrameHeader.plain(.read) {
            taken = serveRead(input, loop)
        } else if first == FrameHeader.plain(.write) {
            taken = serveWrite(input, arrived: arrived, loop)
        } else if FrameHeader.isNamed(input) {
            taken = serveNamed(input, arrived: arrived, loop)
        } else if first == FrameHeader.plain(.ping) {
            taken = servePing(input, loop)
        } else if first == FrameHeader.plain(.atomic) {
            taken = serveAtomic(input, arrived: arrived, loop)
        }
        // Whatever is not so plain, or has to wait: the general way finds out why.
        if taken > 0 || pause != .none { return taken }
        return serveAny(input, arrived: arrived, loop)
    }

    // MARK: Plain frames

    // These take the frame and not its header, which would be built in memory for each call.

    @inline(never)
    private mutating func serveRead(_ input: UnsafeRawPointer, _ loop: LoopContext) -> Int {
        let header = FrameHeader(from: input)
        // A handle of 0 means by name, and there is none.
        guard header.handle != 0, header.payloadSize == 0 else { return 0 }
        expectsBulk = false
        var reply = FrameReplies(
            output: loop.output, operation: Operation.read.rawValue, cookie: header.cookie)
        let outcome = loop.registry.execute(
            .read(
                Reference(handle: header.handle, name: RawSpan()), start: header.offset,
                count: header.size, .bytes),
            &caller, loop.counters, &reply)
        return accept(
            outcome, Operation.read.rawValue, header.cookie, size: FrameHeader.byteCount, loop)
    }

    @inline(never)
    private mutating func serveWrite(
        _ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        let header = FrameHeader(from: input)
        let payloadSize = Int(header.payloadSize)
        guard header.handle != 0, header.size == UInt64(payloadSize),
            payloadSize <= min(Limits.atomicSizeMax, arrived - FrameHeader.byteCount),
            UInt64(payloadSize) <= loop.limits.frameSizeMax
        else { return 0 }
        expectsBulk = false
        var reply = FrameReplies(
            output: loop.output, operation: Operation.write.rawValue, cookie: header.cookie)
        let data = RawSpan(_unsafeStart: input + FrameHeader.byteCount, byteCount: payloadSize)
        let outcome = loop.registry.execute(
            .write(
                Reference(handle: header.handle, name: RawSpan()), start: header.offset,
                .bytes(data), .bytes),
            &caller, loop.counters, &reply)
        return accept(
            outcome, Operation.write.rawValue, header.cookie,
            size: FrameHeader.byteCount + payloadSize, loop)
    }

    @inline(never)
    private mutating func servePing(_ input: UnsafeRawPointer, _ loop: LoopContext) -> Int {
        let header = FrameHeader(from: input)
        guard header.handle == 0, header.payloadSize == 0, header.offset == 0, header.size == 0
        else { return 0 }
        expectsBulk = false
        var reply = FrameReplies(
            output: loop.output, operation: Operation.ping.rawValue, cookie: header.cookie)
        let outcome = loop.registry.execute(.ping, &caller, loop.counters, &reply)
        return accept(
            outcome, Operation.ping.rawValue, header.cookie, size: FrameHeader.byteCount, loop)
    }

    @inline(never)
    private mutating func serveAtomic(
        _ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        let header = FrameHeader(from: input)
        let size = FrameHeader.byteCount + FrameCodec.atomicSize
        guard header.handle != 0, header.size == 0,
            header.payloadSize == UInt32(FrameCodec.atomicSize), arrived >= size,
            UInt64(header.payloadSize) <= loop.limits.frameSizeMax
        else { return 0 }
        let rest = RawSpan(
            _unsafeStart: input + FrameHeader.byteCount, byteCount: FrameCodec.atomicSize)
        guard let action = try? FrameCodec.atomicAction(rest) else { return 0 }
        expectsBulk = false
        var reply = FrameReplies(
            output: loop.output, operation: Operation.atomic.rawValue, cookie: header.cookie)
        let outcome = loop.registry.execute(
            .atomic(
                Reference(handle: header.handle, name: RawSpan()), start: header.offset, action,
                .bytes(rest.extracting(droppingFirst: 8)), .bytes),
            &caller, loop.counters, &reply)
        return accept(outcome, Operation.atomic.rawValue, header.cookie, size: size, loop)
    }

    /// Answers a whole, plain read, write, dispose or alloc by name.
    @inline(never)
    private mutating func serveNamed(
        _ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        let first = UInt64(littleEndian: input.loadUnaligned(as: UInt64.self))
        let header = FrameHeader(from: input)
        let nameSize = Int(header.nameSize)
        let payloadSize = Int(header.payloadSize)
        guard header.handle == 0, payloadSize >= nameSize,
            payloadSize <= min(Limits.atomicSizeMax, arrived - FrameHeader.byteCount),
            UInt64(payloadSize) <= loop.limits.frameSizeMax
        else { return 0 }
        let plain = first & ~(0xFF << 48)
        let rest = payloadSize &- nameSize
        switch plain {
        case FrameHeader.plain(.read):
            guard rest == 0 else { return 0 }
            prefetch(input, loop)
            return serveNamedRead(input, loop)
        case FrameHeader.plain(.write):
            guard header.size == UInt64(rest) else { return 0 }
            prefetch(input, loop)
            return serveNamedWrite(input, loop)
        case FrameHeader.plain(.dispose):
            guard rest == 0, header.offset == 0, header.size == 0 else { return 0 }
            prefetch(input, loop)
            return serveNamedDispose(input, loop)
        default:
            // The type may be any, and a handle may be wanted or not.
            guard
                plain & ~(UInt64(AllocFlags.noHandle.rawValue) << 24 | 0xFF << 56)
                    == FrameHeader.plain(.alloc), rest == 0, header.offset == 0
            else { return 0 }
            prefetch(input, loop)
            return serveNamedAlloc(input, loop)
        }
    }

    @inline(__always)
    private mutating func prefetch(_ input: UnsafeRawPointer, _ loop: LoopContext) {
        expectsBulk = false
        guard loop.prefetch.pointee.isOn else { return }
        loop.prefetch.pointee.advance(
            to: UnsafeRawBufferPointer(
                start: input + FrameHeader.byteCount, count: FrameHeader.nameSize(input)),
            loop.registry)
    }

    @inline(never)
    private mutating func serveNamedRead(_ input: UnsafeRawPointer, _ loop: LoopContext) -> Int {
        let header = FrameHeader(from: input)
        let name = RawSpan(
            _unsafeStart: input + FrameHeader.byteCount, byteCount: Int(header.nameSize))
        var reply = FrameReplies(
            output: loop.output, operation: Operation.read.rawValue, cookie: header.cookie)
        let outcome = loop.registry.execute(
            .read(
                Reference(handle: 0, name: name), start: header.offset,
                count: header.size, .bytes),
            &caller, loop.counters, &reply)
        return accept(
            outcome, Operation.read.rawValue, header.cookie, size: FrameHeader.wholeSize(input),
            loop)
    }

    @inline(never)
    private mutating func serveNamedWrite(_ input: UnsafeRawPointer, _ loop: LoopContext) -> Int {
        let header = FrameHeader(from: input)
        let name = RawSpan(
            _unsafeStart: input + FrameHeader.byteCount, byteCount: Int(header.nameSize))
        var reply = FrameReplies(
            output: loop.output, operation: Operation.write.rawValue, cookie: header.cookie)
        let data = RawSpan(
            _unsafeStart: input + FrameHeader.byteCount + Int(header.nameSize),
            byteCount: Int(header.size))
        let outcome = loop.registry.execute(
            .write(
                Reference(handle: 0, name: name), start: header.offset,
                .bytes(data), .bytes),
            &caller, loop.counters, &reply)
        return accept(
            outcome, Operation.write.rawValue, header.cookie, size: FrameHeader.wholeSize(input),
            loop)
    }

    @inline(never)
    private mutating func serveNamedDispose(_ input: UnsafeRawPointer, _ loop: LoopContext) -> Int {
        let header = FrameHeader(from: input)
        let name = RawSpan(
            _unsafeStart: input + FrameHeader.byteCount, byteCount: Int(header.nameSize))
        var reply = FrameReplies(
            output: loop.output, operation: Operation.dispose.rawValue, cookie: header.cookie)
        let outcome = loop.registry.execute(
            .dispose(Reference(handle: 0, name: name)), &caller, loop.counters,
            &reply)
        return accept(
            outcome, Operation.dispose.rawValue, header.cookie,
            size: FrameHeader.wholeSize(input), loop)
    }

    @inline(never)
    private mutating func serveNamedAlloc(_ input: UnsafeRawPointer, _ loop: LoopContext) -> Int {
        let header = FrameHeader(from: input)
        let name = RawSpan(
            _unsafeStart: input + FrameHeader.byteCount, byteCount: Int(header.nameSize))
        var reply = FrameReplies(
            output: loop.output, operation: Operation.alloc.rawValue, cookie: header.cookie)
        let outcome = loop.registry.execute(
            .alloc(
                name: name, type: header.type, typeWord: RawSpan(),
                length: header.size, .bytes, AllocFlags(rawValue: header.flags),
                description: .bytes(RawSpan())),
            &caller, loop.counters, &reply)
        return accept(
            outcome, Operation.alloc.rawValue, header.cookie, size: FrameHeader.wholeSize(input),
            loop)
    }

    // MARK: All frames

    /// Answers any frame, or says what is wrong with it.
    @inline(never)
    private mutating func serveAny(
        _ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        guard arrived >= FrameHeader.byteCount else {
            // What is no frame is refused by its first byte: 39 more may never come.
            if arrived > 0, input.load(as: UInt8.self) != FrameHeader.requestMagic {
                refuseStream(loop)
            } else {
                wanted = FrameHeader.byteCount
            }
            return 0
        }
        let header = FrameHeader(from: input)
        let operation: Operation
        do throws(SmallocError) {
            operation = try examine(header, loop)
        } catch {
            return refuse(header, error, loop)
        }
        let needed = FrameCodec.neededSize(header, operation)
        guard arrived - FrameHeader.byteCount >= needed else {
            wanted = FrameHeader.byteCount + needed
            return 0
        }
        expectsBulk = false
        let payload = RawSpan(
            _unsafeStart: input + FrameHeader.byteCount, byteCount: needed)
        let before = loop.output.pointee.count
        var reply = FrameReplies(
            output: loop.output, operation: header.operation, cookie: header.cookie)
        let outcome: Outcome
        do throws(SmallocError) {
            let request = try FrameCodec.decode(header, operation, payload: payload)
            // Nothing but hello gets here ungreeted.
            if !isGreeted { greet(payload) }
            outcome = loop.registry.execute(request, &caller, loop.counters, &reply)
        } catch {
            loop.counters.count(operation)
            loop.registry.refuse(error, &caller, loop.counters, &reply)
            outcome = .answered
        }
        let taken = accept(
            outcome, header.operation, header.cookie, size: FrameHeader.byteCount + needed, loop)
        // Its descriptors leave with it, and with no other reply.
        if loop.output.pointee.passesDescriptors, pause == .none {
            waitForOutput(loop, isLimit: false)
        }
        let rest = UInt64(header.payloadSize) - UInt64(needed)
        if rest > 0, taken > 0, !isMidRequest, pause == .none { hold(from: before, rest, loop) }
        return taken
    }

    @inline(never)
    private mutating func greet(_ software: RawSpan) {
        isGreeted = true
        client = ClientName(software)
    }

    /// The checks that come before an operation's own, in the order of protocol/spec.md § Frames.
    private func examine(
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
        guard header.flags & ~operation.flags == 0 else {
            throw SmallocError(
                .unsupportedFlags, .error, "a flag has no meaning for \(operation.name)")
        }
        guard Int(header.payloadSize) <= FrameCodec.smallPayloadMax || operation == .write else {
            throw .malformed("more payload than \(operation.name) can have")
        }
        return operation
    }

    // MARK: Refusals

    private static var noFrame: SmallocError {
        SmallocError(.malformedFrame, .error, "a frame starts with 0xE5")
    }

    /// Ends a connection whose bytes are no frames: the fields of a header mean nothing there.
    private mutating func refuseStream(_ loop: LoopContext) {
        fail(Session.noFrame, loop)
    }

    /// Answers a frame that is not executed.
    ///
    /// - Returns: Bytes consumed: those of the header, or none if the connection ends.
    private mutating func refuse(
        _ header: FrameHeader, _ error: SmallocError, _ loop: LoopContext
    ) -> Int {
        if error.status == .malformedFrame {
            refuseStream(loop)
            return 0
        }
        // A reader should take what is dropped in large pieces.
        expectsBulk = false
        let before = loop.output.pointee.count
        var reply = FrameReplies(
            output: loop.output, operation: header.operation, cookie: header.cookie)
        loop.registry.refuse(error, &caller, loop.counters, &reply)
        guard !error.status.closes else {
            close(error.status)
            return 0
        }
        hold(from: before, UInt64(header.payloadSize), loop)
        return FrameHeader.byteCount
    }

    /// Holds a reply back until `size` more bytes of its request have arrived, so that the next
    /// frame begins where the header said.
    private mutating func hold(from start: Int, _ size: UInt64, _ loop: LoopContext) {
        guard size > 0, !loop.output.pointee.isLost else { return }
        guard let refusal = Refusal(loop.output, from: start, payloadSize: size) else {
            // In its place comes the last reply of the connection.
            loop.output.pointee.truncate(to: start)
            return fail(.outOfMemory, loop)
        }
        progress = .refusing(refusal)
    }
}
