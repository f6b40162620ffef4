// The operation on one element that no other request sees half done.
// protocol/spec.md § Operations is the source of every check and its order.

internal import CSmalloc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    @inline(__always)
    func atomic<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ action: AtomicAction,
        _ values: borrowing Payload, _ unit: Unit, _ caller: inout Caller, _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        let type = allocation.type
        var (operand, expected): (UInt64, UInt64)
        switch values {
        case .bytes(let bytes):
            operand = bytes.littleEndian64(at: 0)
            expected = bytes.littleEndian64(at: 8)
        case .words(let words):
            try checkAtomics(type)
            (operand, expected) = try Registry.values(words, action.valueCount, type)
        }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        try checkAlive(allocation, .noData)
        try checkAtomics(type)
        let extent = try cellExtent(allocation, start, unit)
        let intent = action == .load ? Intent.read : .modify
        guard let cell = try allocation.cell(extent, intent) else { return later(allocation) }
        if action != .load, !allocation.isInline { caller.willTouch() }
        let old = smalloc_atomic(
            cell, UInt32(truncatingIfNeeded: extent.size), type.isSignedInteger,
            UInt32(action.rawValue), operand, expected)
        reply.old(old, type: type)
        return .answered
    }

    @inline(__always)
    private func checkAtomics(_ type: ElementType) throws(SmallocError) {
        guard type.hasAtomics else { throw Registry.noAtomics(type) }
    }

    @inline(never)
    private static func noAtomics(_ type: ElementType) -> SmallocError {
        .invalidArgument("\(type.name) has no atomic operations")
    }

    /// Where a cell is, checked.
    ///
    /// Under the lock.
    ///
    /// - Throws: `.outOfRange`, then `.invalidArgument` for an offset within an element.
    @inline(__always)
    func cellExtent(
        _ allocation: Allocation, _ start: UInt64, _ unit: Unit
    ) throws(SmallocError) -> Extent {
        let type = allocation.type
        let size = type.size
        let extent = try Extent(
            offset: WireSize(start, unit, type), size: WireSize(bytes: UInt64(size)),
            length: allocation.size)
        guard extent.offset & (size &- 1) == 0 else { throw Registry.unaligned }
        return extent
    }

    private static var unaligned: SmallocError {
        .invalidArgument("the offset is not a multiple of the element's size")
    }

    /// The last of the values of a line, and the one before it if there are two.
    ///
    /// - Parameter count: Values that there must be, 2 at most.
    /// - Throws: `.invalidArgument`, `.outOfMemory`.
    static func values(
        _ words: RawSpan, _ count: Int, _ type: ElementType
    ) throws(SmallocError) -> (last: UInt64, first: UInt64) {
        var output = Output(capacity: 64)
        try TextValues.encode(words, as: type, to: &output)
        guard output.count == count * type.size else {
            throw .invalidArgument("each value is one element")
        }
        var found: (last: UInt64, first: UInt64) = (0, 0)
        for index in 0..<count {
            found.first = found.last
            found.last = 0
            withUnsafeMutableBytes(of: &found.last) {
                $0.copyMemory(
                    from: UnsafeRawBufferPointer(
                        start: output.base + index * type.size, count: type.size))
            }
        }
        return found
    }
}
