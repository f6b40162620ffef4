// Operations that move data in and out: read, write, and the vectored forms.
// protocol/spec.md § Operations is the source of every check and its order.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    @inline(__always)
    func read<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ count: UInt64?, _ unit: Unit,
        _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let type = allocation.type
        let extent = try Extent(
            offset: WireSize(start, unit, type), size: count.map { WireSize($0, unit, type) },
            length: allocation.size)
        try checkFits(WireSize(bytes: UInt64(extent.size)), unit)
        guard let data = try allocation.access(extent, .read).atHand() else {
            return later(allocation)
        }
        if extent.size <= Limits.atomicSizeMax {
            reply.data(data, extent.size, type: type)
            return .answered
        }
        return try send(allocation, try Ranges(extent), &reply)
    }

    func readRanges<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ ranges: RawSpan, _ caller: inout Caller,
        _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let ranges = try Ranges(ranges, length: allocation.size)
        caller.cost += ranges.count * Caller.Cost.range
        try checkFits(ranges.total, .bytes)
        guard let data = try allocation.access(ranges.whole, .read).atHand() else {
            return later(allocation)
        }
        // What is read first is made, too, in memory that clients map.
        guard allocation.record?.kind != .memfd || caller.touch(data, ranges, .read) else {
            return .later(Pending(.turn))
        }
        if ranges.total.bytes > UInt64(Limits.atomicSizeMax) {
            return try send(allocation, ranges, &reply)
        }
        reply.beginData(size: Int(ranges.total.bytes), type: allocation.type)
        for extent in ranges.extents { reply.appendData(data + extent.offset, extent.size) }
        reply.endData()
        return .answered
    }

    /// Leaves the data to the connection, which sends it straight from the allocation.
    ///
    /// Under the lock.
    @inline(never)
    private func send<Reply: ReplyWriter & ~Copyable>(
        _ allocation: Allocation, _ ranges: consuming Ranges, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        allocation.retain()
        let pieces = Pieces(allocation, ranges, .read, mappings)
        reply.beginData(size: pieces.size, type: allocation.type)
        return .send(pieces)
    }

    @inline(__always)
    func write<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ payload: borrowing Payload, _ unit: Unit,
        _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        switch payload {
        case .bytes(let bytes):
            guard try store(bytes.bytes, in: allocation, start, unit, &caller) else {
                return later(allocation)
            }
            reply.done(size: UInt64(bytes.byteCount))
        case .words(let words):
            guard let encoding = try encode(words, as: allocation.type, &caller) else {
                return .later(Pending(.turn))
            }
            guard try store(encoding.values, in: allocation, start, unit, &caller) else {
                caller.encoding = encoding
                return later(allocation)
            }
            reply.done(size: UInt64(encoding.values.count))
        }
        return .answered
    }

    /// The values of a line as bytes.
    ///
    /// A line of a MiB of numbers takes longer than the others should wait: it is read in parts,
    /// and `caller.encoding` keeps them until the line is served again.
    ///
    /// - Returns: Nil: there is more to read, after the others' turn.
    private func encode(
        _ words: RawSpan, as type: ElementType, _ caller: inout Caller
    ) throws(SmallocError) -> Encoding? {
        let encoding = caller.encoding ?? Encoding(type, budget)
        // Kept only where the line is served again, and not if it can't be any more.
        caller.encoding = nil
        try encoding.restart(as: type)
        while try !encoding.read(words) {
            caller.cost += Thresholds.lineSliceSize * Caller.Cost.number
            if caller.cost >= Thresholds.turnCostMax {
                caller.encoding = encoding
                return nil
            }
        }
        return encoding
    }

    /// Writes to an allocation that was found; the caller answers.
    ///
    /// - Returns: False: nothing is written, the bytes are not at hand, or others have their turn
    ///   first.
    @inline(__always)
    private func store(
        _ bytes: UnsafeRawBufferPointer, in allocation: Allocation, _ start: UInt64, _ unit: Unit,
        _ caller: inout Caller
    ) throws(SmallocError) -> Bool {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let extent = try Extent(
            offset: WireSize(start, unit, allocation.type),
            size: WireSize(bytes: UInt64(bytes.count)), length: allocation.size)
        guard let source = bytes.baseAddress else { return true }
        guard let data = try allocation.access(extent, .modify).atHand() else { return false }
        guard allocation.isInline || caller.touch(data, extent.size) else { return false }
        data.copyMemory(from: source, byteCount: extent.size)
        return true
    }

    func writeRanges<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ ranges: RawSpan, _ data: RawSpan, _ caller: inout Caller,
        _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        try Ranges.checkSum(ranges, dataSize: data.byteCount)
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let ranges = try Ranges(ranges, length: allocation.size)
        caller.cost += ranges.count * Caller.Cost.range
        guard let base = try allocation.access(ranges.whole, .modify).atHand() else {
            return later(allocation)
        }
        guard allocation.isInline || caller.touch(base, ranges, .modify) else {
            return .later(Pending(.turn))
        }
        data.withUnsafeBytes { data in
            guard var source = data.baseAddress else { return }
            for extent in ranges.extents {
                (base + extent.offset).copyMemory(from: source, byteCount: extent.size)
                source += extent.size
            }
        }
        reply.done(size: UInt64(data.byteCount))
        return .answered
    }

    /// Prepares to receive a write that is too large to wait for as a whole.
    ///
    /// - Parameters:
    ///   - ranges: Those of a vectored write, else empty.
    ///   - dataSize: Bytes that will follow.
    /// - Throws: What the operation would throw: nothing has moved by then.
    func receive(
        _ target: borrowing Reference, _ start: UInt64, _ ranges: RawSpan, _ dataSize: Int,
        _ caller: inout Caller
    ) throws(SmallocError) -> Outcome {
        if ranges.byteCount > 0 { try Ranges.checkSum(ranges, dataSize: dataSize) }
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        let ranges =
            ranges.byteCount > 0
            ? try Ranges(ranges, length: allocation.size)
            : try Ranges(
                try Extent(
                    offset: WireSize(bytes: start), size: WireSize(bytes: UInt64(dataSize)),
                    length: allocation.size))
        caller.cost += ranges.count * Caller.Cost.range
        // Only the request that memory is made for may have bytes that are not wiped; one that
        // comes meanwhile waits for them.
        let isWhole = ranges.count == 1 && start == 0 && dataSize == Int(allocation.size)
        let intent = isWhole && allocation.hasNoMemory ? Intent.overwrite : .modify
        let first = intent == .overwrite ? Extent(offset: 0, size: 1) : ranges.whole
        guard let base = try allocation.access(first, intent).atHand() else {
            return later(allocation)
        }
        guard ranges.count == 1 || allocation.isInline || caller.touch(base, ranges, intent) else {
            return .later(Pending(.turn))
        }
        if intent == .overwrite { allocation.overwritten(upTo: 0) }
        allocation.retain()
        return .receive(Pieces(allocation, ranges, intent, mappings))
    }

    // MARK: Shared checks

    /// What `Access.later` asks for: work after which the request is served once more.
    ///
    /// Under the lock.
    @inline(never)
    func later(_ allocation: Allocation) -> Outcome {
        allocation.retain()
        return .later(
            Pending(.work(Work(kind: .wipe, size: 0, allocations: (allocation, nil)))))
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
}

/// The ranges of a request, checked against an allocation's size.
struct Ranges: ~Copyable {
    private let memory: UnsafeMutablePointer<Extent>
    let count: Int
    /// Bytes of all of them; may be more than fits.
    let total: WireSize

    var extents: UnsafeBufferPointer<Extent> { UnsafeBufferPointer(start: memory, count: count) }

    /// One range.
    ///
    /// - Throws: `.outOfMemory`.
    init(_ extent: Extent) throws(SmallocError) {
        memory = try Ranges.allocate(1)
        memory.initialize(to: extent)
        count = 1
        total = WireSize(bytes: UInt64(extent.size))
    }

    /// Those of a vectored request: pairs of offset and size.
    ///
    /// - Throws: `.outOfMemory`, `.outOfRange` for the first that is.
    init(_ ranges: RawSpan, length: UInt64) throws(SmallocError) {
        let count = ranges.byteCount / 16
        let memory = try Ranges.allocate(count)
        var total = WireSize(bytes: 0)
        do throws(SmallocError) {
            for index in 0..<count {
                let extent = try Extent(
                    offset: WireSize(bytes: ranges.littleEndian64(at: index * 16)),
                    size: WireSize(bytes: ranges.littleEndian64(at: index * 16 + 8)),
                    length: length)
                (memory + index).initialize(to: extent)
                total = total + WireSize(bytes: UInt64(extent.size))
            }
        } catch {
            free(memory)
            throw error
        }
        self.memory = memory
        self.count = count
        self.total = total
    }

    deinit { free(memory) }

    private static func allocate(
        _ count: Int
    ) throws(SmallocError) -> UnsafeMutablePointer<Extent> {
        guard let memory = smalloc_allocate(max(count, 1) * MemoryLayout<Extent>.stride) else {
            throw .outOfMemory
        }
        return memory.bindMemory(to: Extent.self, capacity: max(count, 1))
    }

    /// From the start of the allocation to the end of the range that reaches furthest, and is not
    /// empty.
    var whole: Extent {
        Extent(offset: 0, size: extents.reduce(0) { $1.size == 0 ? $0 : max($0, $1.end) })
    }

    /// Part of the shape of a vectored write, and so checked before its target is looked for.
    static func checkSum(_ ranges: RawSpan, dataSize: Int) throws(SmallocError) {
        let sum = (0..<ranges.byteCount / 16).reduce(WireSize(bytes: 0)) {
            $0 + WireSize(bytes: ranges.littleEndian64(at: $1 * 16 + 8))
        }
        guard sum.bytes == UInt64(dataSize) else {
            throw .malformed("the ranges do not add up to the data")
        }
    }
}
