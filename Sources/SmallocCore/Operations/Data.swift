// Operations that move data in and out: read, write, and the vectored forms.
// protocol/spec.md § Operations is the source of every check and its order.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    @inline(__always)
    func read<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ count: UInt64?, _ unit: Unit,
        _ holdings: inout Holdings, _ reply: inout Reply
    ) throws(SmallocError) {
        let allocation = try resolve(target, holdings, missing: .noData)
        defer { letGo(allocation, target) }
        if try !read(allocation, start, count, unit, &holdings, &reply) {
            later(allocation, &holdings)
        }
    }

    /// Reads from an allocation that was found.
    ///
    /// - Returns: False: nothing is answered, the allocation has to be settled first.
    @inline(__always)
    func read<Reply: ReplyWriter & ~Copyable>(
        _ allocation: Allocation, _ start: UInt64, _ count: UInt64?, _ unit: Unit,
        _ holdings: inout Holdings, _ reply: inout Reply
    ) throws(SmallocError) -> Bool {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let type = allocation.type
        let extent = try Extent(
            offset: WireSize(start, unit, type), size: count.map { WireSize($0, unit, type) },
            length: allocation.size)
        try checkFits(WireSize(bytes: UInt64(extent.size)), unit)
        guard case .here(let data) = allocation.access(extent, .read) else { return false }
        if extent.size <= Limits.atomicSizeMax {
            reply.data(data, extent.size, type: type)
            return true
        }
        try withUnsafeBytes(of: extent) { (bytes) throws(SmallocError) in
            try send(allocation, bytes.bindMemory(to: Extent.self), &holdings, &reply)
        }
        return true
    }

    func readRanges<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ ranges: RawSpan, _ holdings: inout Holdings,
        _ reply: inout Reply
    ) throws(SmallocError) {
        let allocation = try resolve(target, holdings, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let extents = try Registry.extents(ranges, length: allocation.size)
        // At most 1024 ranges of at most 2^63 bytes: the sum may not fit, hence the checked type.
        let total = extents.reduce(WireSize(bytes: 0)) { $0 + WireSize(bytes: UInt64($1.size)) }
        try checkFits(total, .bytes)
        guard case .here(let data) = allocation.access(extents.whole, .read) else {
            return later(allocation, &holdings)
        }
        if total.bytes > UInt64(Limits.atomicSizeMax) {
            try extents.withUnsafeBufferPointer { (extents) throws(SmallocError) in
                try send(allocation, extents, &holdings, &reply)
            }
            return
        }
        reply.beginData(size: Int(total.bytes), type: allocation.type)
        for extent in extents { reply.appendData(data + extent.offset, extent.size) }
        reply.endData()
    }

    /// Leaves the data to the connection, which sends it straight from the allocation.
    private func send<Reply: ReplyWriter & ~Copyable>(
        _ allocation: Allocation, _ extents: UnsafeBufferPointer<Extent>,
        _ holdings: inout Holdings, _ reply: inout Reply
    ) throws(SmallocError) {
        let header = FrameHeader(
            magic: FrameHeader.replyMagic, operation: Operation.read.rawValue)
        allocation.retain()
        guard let transfer = Transfer(allocation, extents, header) else {
            _ = allocation.release()
            throw .outOfMemory
        }
        reply.beginData(size: transfer.size, type: allocation.type)
        holdings.deferred = .send(transfer)
    }

    @inline(__always)
    func write<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ payload: borrowing Payload, _ unit: Unit,
        _ holdings: inout Holdings, _ reply: inout Reply
    ) throws(SmallocError) {
        let allocation = try resolve(target, holdings, missing: .noData)
        defer { letGo(allocation, target) }
        switch payload {
        case .bytes(let bytes):
            guard try store(bytes.bytes, in: allocation, start, unit) else {
                return later(allocation, &holdings)
            }
            reply.done(size: UInt64(bytes.byteCount))
        case .words(let words):
            var encoded = Output(capacity: 256)
            try TextValues.encode(words, as: allocation.type, to: &encoded)
            guard try store(encoded.bytes, in: allocation, start, unit) else {
                return later(allocation, &holdings)
            }
            reply.done(size: UInt64(encoded.count))
        }
    }

    /// Writes to an allocation that was found; the caller answers.
    ///
    /// - Returns: False: nothing is written, the allocation has to be settled first.
    @inline(__always)
    func store(
        _ bytes: UnsafeRawBufferPointer, in allocation: Allocation, _ start: UInt64, _ unit: Unit
    ) throws(SmallocError) -> Bool {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let extent = try Extent(
            offset: WireSize(start, unit, allocation.type),
            size: WireSize(bytes: UInt64(bytes.count)), length: allocation.size)
        guard let source = bytes.baseAddress else { return true }
        guard case .here(let data) = allocation.access(extent, .modify) else { return false }
        data.copyMemory(from: source, byteCount: extent.size)
        return true
    }

    func writeRanges<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ ranges: RawSpan, _ data: RawSpan,
        _ holdings: inout Holdings, _ reply: inout Reply
    ) throws(SmallocError) {
        try Registry.checkSum(ranges, dataSize: data.byteCount)
        let allocation = try resolve(target, holdings, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let extents = try Registry.extents(ranges, length: allocation.size)
        guard case .here(let base) = allocation.access(extents.whole, .modify) else {
            return later(allocation, &holdings)
        }
        data.withUnsafeBytes { data in
            guard var source = data.baseAddress else { return }
            for extent in extents {
                (base + extent.offset).copyMemory(from: source, byteCount: extent.size)
                source += extent.size
            }
        }
        reply.done(size: UInt64(data.byteCount))
    }

    /// Part of the shape of a vectored write, and so checked before its target is looked for.
    private static func checkSum(_ ranges: RawSpan, dataSize: Int) throws(SmallocError) {
        let sum = (0..<ranges.byteCount / 16).reduce(WireSize(bytes: 0)) {
            $0 + WireSize(bytes: ranges.littleEndian64(at: $1 * 16 + 8))
        }
        guard sum.bytes == UInt64(dataSize) else {
            throw .malformed("the ranges do not add up to the data")
        }
    }

    /// Prepares to receive a write that is too large to wait for as a whole.
    ///
    /// - Parameters:
    ///   - ranges: Those of a vectored write, else empty.
    ///   - dataSize: Bytes that will follow.
    /// - Returns: Nil: the allocation has to be settled first, and `holdings` say so.
    /// - Throws: What the operation would throw: nothing has moved by then.
    func receive(
        _ target: borrowing Reference, _ header: FrameHeader, ranges: RawSpan, dataSize: Int,
        _ holdings: inout Holdings
    ) throws(SmallocError) -> Transfer? {
        if ranges.byteCount > 0 { try Registry.checkSum(ranges, dataSize: dataSize) }
        let allocation = try resolve(target, holdings, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        var extents: [Extent]
        if ranges.byteCount > 0 {
            extents = try Registry.extents(ranges, length: allocation.size)
        } else {
            let extent = try Extent(
                offset: WireSize(bytes: header.offset),
                size: WireSize(bytes: UInt64(dataSize)), length: allocation.size)
            extents = [extent]
        }
        guard case .here = allocation.access(extents.whole, .modify) else {
            later(allocation, &holdings)
            return nil
        }
        allocation.retain()
        guard let transfer = extents.withUnsafeBufferPointer({ Transfer(allocation, $0, header) })
        else {
            _ = allocation.release()
            throw .outOfMemory
        }
        return transfer
    }

    // MARK: Shared checks

    /// What `Access.later` asks for: work after which the request is served once more.
    @inline(never)
    func later(_ allocation: Allocation, _ holdings: inout Holdings) {
        preconditionFailure("all storage is at hand")
    }

    /// A handle may outlive its allocation: the memory is there, the allocation is not.
    ///
    /// Under the lock.
    @inline(__always)
    func checkAlive(
        _ allocation: Allocation, _ missing: @autoclosure () -> SmallocError
    ) throws(SmallocError) {
        if allocation.flags.contains(.disposed) { throw missing() }
    }

    /// A reply in text has no frame that it would have to fit in.
    @inline(__always)
    private func checkFits(_ size: WireSize, _ unit: Unit) throws(SmallocError) {
        guard unit == .elements || size.bytes <= limits.frameSizeMax else { throw .frameTooLarge }
    }

    private static func extents(
        _ ranges: RawSpan, length: UInt64
    ) throws(SmallocError) -> [Extent] {
        var extents: [Extent] = []
        extents.reserveCapacity(ranges.byteCount / 16)
        for index in 0..<ranges.byteCount / 16 {
            extents.append(
                try Extent(
                    offset: WireSize(bytes: ranges.littleEndian64(at: index * 16)),
                    size: WireSize(bytes: ranges.littleEndian64(at: index * 16 + 8)),
                    length: length))
        }
        return extents
    }
}

extension [Extent] {
    /// From the start of the allocation to the end of the range that reaches furthest, and is not
    /// empty.
    fileprivate var whole: Extent {
        Extent(offset: 0, size: reduce(0) { $1.size == 0 ? $0 : Swift.max($0, $1.end) })
    }
}
