// Operations that move data: read, write, fill, copy, and the vectored forms.
// protocol/spec.md § Operations is the source of every check and its order.

internal import Glibc
internal import SmallocWire

extension Registry {
    @inline(__always)
    func read<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ count: UInt64?, _ unit: Unit,
        _ holdings: inout Holdings, _ reply: inout Reply
    ) throws(SmallocError) {
        let allocation = try resolve(target, holdings, missing: .noData)
        defer { letGo(allocation, target) }
        try read(allocation, start, count, unit, &holdings, &reply)
    }

    /// Reads from an allocation that was found.
    @inline(__always)
    func read<Reply: ReplyWriter & ~Copyable>(
        _ allocation: Allocation, _ start: UInt64, _ count: UInt64?, _ unit: Unit,
        _ holdings: inout Holdings, _ reply: inout Reply
    ) throws(SmallocError) {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let type = allocation.type
        let extent = try Extent(
            offset: WireSize(start, unit, type), size: count.map { WireSize($0, unit, type) },
            length: allocation.size)
        try checkFits(WireSize(bytes: UInt64(extent.size)), unit)
        if extent.size <= Limits.atomicSizeMax {
            reply.data(allocation.data + extent.offset, extent.size, type: type)
            return
        }
        try withUnsafeBytes(of: extent) { (bytes) throws(SmallocError) in
            try send(allocation, bytes.bindMemory(to: Extent.self), &holdings, &reply)
        }
    }

    /// The bytes of a range, after the checks of `read`.
    ///
    /// Under the lock.
    @inline(__always)
    func readable(
        _ allocation: Allocation, _ offset: UInt64, _ size: UInt64
    ) throws(SmallocError) -> UnsafeRawBufferPointer {
        try checkAlive(allocation, .noData)
        let extent = try Extent(
            offset: WireSize(bytes: offset), size: WireSize(bytes: size), length: allocation.size)
        try checkFits(WireSize(bytes: UInt64(extent.size)), .bytes)
        return UnsafeRawBufferPointer(start: allocation.data + extent.offset, count: extent.size)
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
        if total.bytes > UInt64(Limits.atomicSizeMax) {
            try extents.withUnsafeBufferPointer { (extents) throws(SmallocError) in
                try send(allocation, extents, &holdings, &reply)
            }
            return
        }
        reply.beginData(size: Int(total.bytes), type: allocation.type)
        for extent in extents { reply.appendData(allocation.data + extent.offset, extent.size) }
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
            try bytes.withUnsafeBytes { (bytes) throws(SmallocError) in
                try store(bytes, in: allocation, start, unit)
            }
            reply.done(size: UInt64(bytes.byteCount))
        case .words(let words):
            var encoded = Output(capacity: 256)
            try TextValues.encode(words, as: allocation.type, to: &encoded)
            try store(encoded.bytes, in: allocation, start, unit)
            reply.done(size: UInt64(encoded.count))
        }
    }

    /// Writes to an allocation that was found; the caller answers.
    @inline(__always)
    func store(
        _ bytes: UnsafeRawBufferPointer, in allocation: Allocation, _ start: UInt64, _ unit: Unit
    ) throws(SmallocError) {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let extent = try Extent(
            offset: WireSize(start, unit, allocation.type),
            size: WireSize(bytes: UInt64(bytes.count)), length: allocation.size)
        guard let source = bytes.baseAddress else { return }
        allocation.willWrite(upTo: extent.offset + extent.size)
        (allocation.data + extent.offset).copyMemory(from: source, byteCount: extent.size)
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
        let extents = try writable(allocation, ranges)
        data.withUnsafeBytes { data in
            guard var source = data.baseAddress else { return }
            for extent in extents {
                (allocation.data + extent.offset).copyMemory(from: source, byteCount: extent.size)
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

    /// Checks the ranges of a vectored write and notes them as written.
    ///
    /// Under the lock.
    private func writable(
        _ allocation: Allocation, _ ranges: RawSpan
    ) throws(SmallocError) -> [Extent] {
        let extents = try Registry.extents(ranges, length: allocation.size)
        allocation.willWrite(upTo: extents.reduce(0) { max($0, $1.offset + $1.size) })
        return extents
    }

    /// Prepares to receive a write that is too large to wait for as a whole.
    ///
    /// - Parameters:
    ///   - ranges: Those of a vectored write, else empty.
    ///   - dataSize: Bytes that will follow.
    /// - Throws: What the operation would throw: nothing has moved by then.
    func receive(
        _ target: borrowing Reference, _ header: FrameHeader, ranges: RawSpan, dataSize: Int,
        _ holdings: borrowing Holdings
    ) throws(SmallocError) -> Transfer {
        if ranges.byteCount > 0 { try Registry.checkSum(ranges, dataSize: dataSize) }
        let allocation = try resolve(target, holdings, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        var extents: [Extent]
        if ranges.byteCount > 0 {
            extents = try writable(allocation, ranges)
        } else {
            extents = [
                try Extent(
                    offset: WireSize(bytes: header.offset),
                    size: WireSize(bytes: UInt64(dataSize)), length: allocation.size)
            ]
            allocation.willWrite(upTo: extents[0].offset + extents[0].size)
        }
        allocation.retain()
        guard let transfer = extents.withUnsafeBufferPointer({ Transfer(allocation, $0, header) })
        else {
            _ = allocation.release()
            throw .outOfMemory
        }
        return transfer
    }

    func fill<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ count: UInt64,
        _ payload: borrowing Payload, _ unit: Unit, _ holdings: inout Holdings,
        _ reply: inout Reply
    ) throws(SmallocError) {
        let allocation = try resolve(target, holdings, missing: .noData)
        defer { letGo(allocation, target) }
        var pattern = Output(capacity: Limits.fillPatternSizeMax)
        switch payload {
        case .bytes(let bytes): pattern.append(bytes)
        case .words(let words):
            try TextValues.encode(words, as: allocation.type, to: &pattern)
        }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        guard pattern.count >= 1, pattern.count <= Limits.fillPatternSizeMax else {
            throw .invalidArgument("a fill pattern has 1 to \(Limits.fillPatternSizeMax) bytes")
        }
        let extent = try Extent(
            offset: WireSize(start, unit, allocation.type),
            size: WireSize(count, unit, allocation.type), length: allocation.size)
        guard extent.size % pattern.count == 0 else {
            throw .invalidArgument("the size is not a multiple of the pattern's")
        }
        allocation.willWrite(upTo: extent.offset + extent.size)
        let dest = allocation.data + extent.offset
        if extent.size < Registry.workSizeMin {
            Work.fill(dest, extent.size, pattern.bytes)
            holdings.cost += extent.size
            reply.done(size: UInt64(extent.size))
            return
        }
        let kept = UnsafeMutableRawBufferPointer.allocate(byteCount: pattern.count, alignment: 8)
        kept.copyMemory(from: pattern.bytes)
        allocation.retain()
        holdings.deferred = .work(
            Work(
                kind: .fill(dest: dest, pattern: kept), size: extent.size,
                allocations: (allocation, nil)))
    }

    func copy<Reply: ReplyWriter & ~Copyable>(
        _ source: borrowing Reference, _ sourceStart: UInt64, _ dest: borrowing Reference,
        _ destStart: UInt64, _ count: UInt64, _ unit: Unit, _ holdings: inout Holdings,
        _ reply: inout Reply
    ) throws(SmallocError) {
        // A name that is none is told of before anything that is missing.
        if dest.handle == 0, !Name.isValid(dest.name) { throw .invalidName }
        let from = try resolve(source, holdings, missing: .noSourceData)
        defer { letGo(from, source) }
        let onto: Allocation
        do throws(SmallocError) {
            onto = try resolve(dest, holdings, missing: .noDestData)
        } catch {
            // A source that is gone, its handle still open, is told of before the dest.
            from.lock.lock()
            defer { from.lock.unlock() }
            try checkAlive(from, .noSourceData)
            throw error
        }
        defer { letGo(onto, dest) }
        Registry.lockPair(from, onto)
        defer { Registry.unlockPair(from, onto) }
        try checkAlive(from, .noSourceData)
        try checkAlive(onto, .noDestData)
        // Node's checks, in Node's order, in bytes.
        let size = WireSize(count, unit, from.type)
        let sourceOffset = WireSize(sourceStart, unit, from.type)
        let destOffset = WireSize(destStart, unit, onto.type)
        let sourceLength = WireSize(bytes: from.size)
        let destLength = WireSize(bytes: onto.size)
        if size > sourceLength { throw .outOfRange("copy_length > source_length") }
        if size > destLength { throw .outOfRange("copy_length > dest_length") }
        if sourceOffset > sourceLength { throw .outOfRange("source_start > source_length") }
        if destOffset > destLength { throw .outOfRange("dest_start > dest_length") }
        if sourceOffset + size > sourceLength {
            throw .outOfRange("source_start + copy_length > source_length")
        }
        if destOffset + size > destLength {
            throw .outOfRange("dest_start + copy_length > dest_length")
        }
        let bytes = Int(size.bytes)
        let start = from.data + Int(sourceOffset.bytes)
        let target = onto.data + Int(destOffset.bytes)
        onto.willWrite(upTo: Int(destOffset.bytes) + bytes)
        if bytes < Registry.workSizeMin {
            memmove(target, start, bytes)
            holdings.cost += bytes
            reply.done(size: UInt64(bytes))
            return
        }
        from.retain()
        onto.retain()
        holdings.deferred = .work(
            Work(kind: .copy(dest: target, source: start), size: bytes, allocations: (from, onto)))
    }

    // MARK: Shared checks

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

    /// Both locks, the lower address first, so that two copies in opposite directions never wait
    /// for each other.
    private static func lockPair(_ left: Allocation, _ right: Allocation) {
        if left == right {
            left.lock.lock()
        } else if left.block < right.block {
            left.lock.lock()
            right.lock.lock()
        } else {
            right.lock.lock()
            left.lock.lock()
        }
    }

    private static func unlockPair(_ left: Allocation, _ right: Allocation) {
        left.lock.unlock()
        if left != right { right.lock.unlock() }
    }
}
