// The short way of what is asked by name and is plain and whole: alloc and dispose of small memory,
// and reads and writes, each its own name's first and only request. As SessionByHandle.swift is for
// handles: the same operations, fewer checks of the frame, and the general way for all others.

internal import SmallocWire

extension Session {
    /// Answers the frame at the start of `input` if it is a whole, plain request by name.
    ///
    /// - Parameter arrived: Bytes at `input`, at least a header, which has a name.
    /// - Returns: Bytes consumed; 0 for any other frame, and for one that the
    ///   batch has to leave before; -1 if this one has to be served again.
    @inline(__always)
    mutating func serveByName(
        _ input: UnsafeRawPointer, arrived: Int, _ loop: LoopContext
    ) -> Int {
        guard isGreeted else { return 0 }
        let first = UInt64(littleEndian: input.loadUnaligned(as: UInt64.self))
        let nameSize = Int(truncatingIfNeeded: first &>> 48 & 0xFF)
        let header = FrameHeader(from: input)
        let payloadSize = Int(header.payloadSize)
        guard header.handle == 0, payloadSize >= nameSize,
            payloadSize <= min(Limits.atomicSizeMax, arrived - FrameHeader.byteCount),
            UInt64(payloadSize) <= loop.limits.frameSizeMax
        else { return 0 }
        let plain = first & ~(0xFF << 48)
        let rest = payloadSize &- nameSize
        switch plain {
        case FrameHeader.plain(.read):
            guard rest == 0, header.size <= UInt64(Limits.atomicSizeMax) else { return 0 }
        case FrameHeader.plain(.write):
            guard header.size == UInt64(rest) else { return 0 }
        case FrameHeader.plain(.dispose):
            guard rest == 0, header.offset == 0, header.size == 0 else { return 0 }
        default:
            // The type may be any, and a handle may be wanted or not.
            guard
                plain & ~(UInt64(RequestFlags.noHandle.rawValue) << 24 | 0xFF << 56)
                    == FrameHeader.plain(.alloc), rest == 0, header.offset == 0
            else { return 0 }
        }
        let payload = input + FrameHeader.byteCount
        if loop.ahead.pointee.isOn {
            holdings.known.hash = loop.ahead.pointee.move(
                to: UnsafeRawBufferPointer(start: payload, count: nameSize), loop.registry)
            holdings.known.start = payload
        }
        let isServed = serve(input, header, nameSize, loop)
        // Other bytes may stand there tomorrow.
        holdings.known.start = nil
        return isServed ? FrameHeader.byteCount &+ payloadSize : -1
    }

    /// False: the request has to be served again.
    @inline(__always)
    private mutating func serve(
        _ input: UnsafeRawPointer, _ header: FrameHeader, _ nameSize: Int, _ loop: LoopContext
    ) -> Bool {
        expectsBulk = false
        let registry = loop.registry
        let payload = input + FrameHeader.byteCount
        let name = RawSpan(_unsafeStart: payload, byteCount: nameSize)
        var reply = FrameReplies(
            output: loop.output, operation: header.operation, cookie: header.cookie)
        do throws(SmallocError) {
            switch header.operation {
            case Operation.read.rawValue:
                loop.counters.count(.read)
                try registry.read(
                    Reference(handle: 0, name: name), header.offset, header.size, .bytes, &holdings,
                    &reply)
            case Operation.write.rawValue:
                loop.counters.count(.write)
                let data = RawSpan(
                    _unsafeStart: payload + nameSize, byteCount: Int(header.size))
                try registry.write(
                    Reference(handle: 0, name: name), header.offset, .bytes(data), .bytes,
                    &holdings, &reply)
            case Operation.dispose.rawValue:
                loop.counters.count(.dispose)
                try registry.dispose(Reference(handle: 0, name: name), &holdings, &reply)
            default:
                loop.counters.count(.alloc)
                try registry.alloc(
                    name, header.type, RawSpan(), header.size, .bytes,
                    RequestFlags(rawValue: header.flags), &holdings, &reply)
            }
        } catch {
            refuse(&reply, error, loop)
        }
        if case .nothing = holdings.deferred { return true }
        // Read once more, so that the header need not be in memory until here.
        return settle(FrameHeader(from: input), loop)
    }
}
