// The shortest way through a session: whole, plain reads and writes by handle, which is what nearly
// all requests of a busy connection are. The same operations do the work, and write the replies;
// only the checks of a frame are fewer, because one comparison stands for most of them.

internal import SmallocWire

extension Session {
    /// Answers the frame at the start of `input` if it is a plain read or write by handle, whole,
    /// and small enough to be copied.
    ///
    /// Costs about a third of the general way, which takes all others and finds the same errors.
    ///
    /// - Parameter arrived: Bytes at `input`.
    /// - Returns: Bytes consumed; 0 for any other frame.
    @inline(__always)
    mutating func serveByHandle(
        _ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        guard arrived >= FrameHeader.byteCount, isGreeted else { return 0 }
        let first = UInt64(littleEndian: input.loadUnaligned(as: UInt64.self))
        let header = FrameHeader(from: input)
        // A handle of 0 means by name, and there is none.
        guard header.handle != 0 else { return 0 }
        if first == FrameHeader.plain(.read) {
            guard header.payloadSize == 0, header.size <= UInt64(Registry.copiedSizeMax) else {
                return 0
            }
            read(header, loop)
            return FrameHeader.byteCount
        }
        let payloadSize = Int(header.payloadSize)
        guard first == FrameHeader.plain(.write), header.size == UInt64(payloadSize),
            payloadSize <= min(Limits.atomicSizeMax, arrived - FrameHeader.byteCount),
            UInt64(payloadSize) <= loop.limits.frameSizeMax
        else { return 0 }
        write(header, input + FrameHeader.byteCount, loop)
        return FrameHeader.byteCount + payloadSize
    }

    @inline(__always)
    private mutating func read(_ header: FrameHeader, _ loop: LoopContext) {
        expectsBulk = false
        loop.counters.count(.read)
        var reply = FrameReplies(
            output: loop.output, operation: Operation.read.rawValue, cookie: header.cookie)
        let registry = loop.registry
        do throws(SmallocError) {
            try registry.read(
                try registry.resolve(header.handle, holdings, missing: .noData), header.offset,
                header.size, .bytes, &holdings, &reply)
        } catch {
            refuse(&reply, error, loop)
        }
    }

    @inline(__always)
    private mutating func write(
        _ header: FrameHeader, _ data: UnsafeRawPointer, _ loop: LoopContext
    ) {
        expectsBulk = false
        loop.counters.count(.write)
        var reply = FrameReplies(
            output: loop.output, operation: Operation.write.rawValue, cookie: header.cookie)
        let registry = loop.registry
        do throws(SmallocError) {
            try registry.store(
                UnsafeRawBufferPointer(start: data, count: Int(header.size)),
                in: try registry.resolve(header.handle, holdings, missing: .noData),
                header.offset, .bytes)
            reply.done(size: header.size)
        } catch {
            refuse(&reply, error, loop)
        }
    }

    @inline(never)
    func refuse(
        _ reply: inout FrameReplies, _ error: SmallocError, _ loop: LoopContext
    ) {
        reply.error(error)
        loop.counters.add(.errors)
    }
}
