// The shortest way through a session: pings, and whole, plain reads and writes by handle, which is
// what nearly all requests of a busy connection are. The same operations do the work, and write the
// replies; only the checks of a frame are fewer, because one comparison stands for most of them.

internal import SmallocSystem
internal import SmallocWire

extension Session {
    /// Answers the frame at the start of `input` if it is a ping, or a plain read or write by
    /// handle, of no more than the atomic size, and whole.
    ///
    /// Costs about a third of the general way, which takes all others and finds the same errors.
    ///
    /// - Parameter arrived: Bytes at `input`.
    /// - Returns: Bytes consumed; 0 for any other frame, and for one that the batch has to leave
    ///   before.
    @inline(__always)
    mutating func serveByHandle(
        _ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        guard arrived >= FrameHeader.byteCount, isGreeted else { return 0 }
        let first = UInt64(littleEndian: input.loadUnaligned(as: UInt64.self))
        if first == FrameHeader.plain(.read) { return read(input, loop) }
        if first == FrameHeader.plain(.write) { return write(input, arrived: arrived, loop) }
        if first == FrameHeader.plain(.ping) { return ping(input, loop) }
        return 0
    }

    // These take the frame and not its header, which would be built in memory for each call.

    @inline(never)
    private mutating func read(_ input: UnsafeRawPointer, _ loop: LoopContext) -> Int {
        let header = FrameHeader(from: input)
        // A handle of 0 means by name, and there is none.
        guard header.handle != 0, header.payloadSize == 0,
            header.size <= UInt64(Limits.atomicSizeMax)
        else { return 0 }
        expectsBulk = false
        var reply = FrameReplies(
            output: loop.output, operation: Operation.read.rawValue, cookie: header.cookie)
        let registry = loop.registry
        do throws(SmallocError) {
            guard
                try registry.read(
                    try registry.resolve(header.handle, holdings, missing: .noData), header.offset,
                    header.size, .bytes, &holdings, &reply)
            else { return 0 }
        } catch {
            refuse(&reply, error, loop)
        }
        loop.counters.count(.read)
        return FrameHeader.byteCount
    }

    @inline(never)
    private mutating func write(
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
        let registry = loop.registry
        do throws(SmallocError) {
            guard
                try registry.store(
                    UnsafeRawBufferPointer(
                        start: input + FrameHeader.byteCount, count: payloadSize),
                    in: try registry.resolve(header.handle, holdings, missing: .noData),
                    header.offset, .bytes)
            else { return 0 }
            reply.done(size: header.size)
        } catch {
            refuse(&reply, error, loop)
        }
        loop.counters.count(.write)
        return FrameHeader.byteCount + payloadSize
    }

    @inline(never)
    private mutating func ping(_ input: UnsafeRawPointer, _ loop: LoopContext) -> Int {
        let header = FrameHeader(from: input)
        guard header.handle == 0, header.payloadSize == 0, header.offset == 0, header.size == 0
        else { return 0 }
        expectsBulk = false
        var reply = FrameReplies(
            output: loop.output, operation: Operation.ping.rawValue, cookie: header.cookie)
        reply.pong()
        loop.counters.count(.ping)
        return FrameHeader.byteCount
    }

    @inline(never)
    func refuse(
        _ reply: inout FrameReplies, _ error: SmallocError, _ loop: LoopContext
    ) {
        reply.error(error)
        loop.counters.add(.errors)
    }
}
