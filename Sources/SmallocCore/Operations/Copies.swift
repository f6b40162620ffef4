// Operations that move data inside the daemon: fill and copy.
// protocol/spec.md § Operations is the source of every check and its order.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Registry {
    func fill<Reply: ReplyWriter & ~Copyable>(
        _ target: borrowing Reference, _ start: UInt64, _ count: UInt64,
        _ payload: borrowing Payload, _ unit: Unit, _ caller: inout Caller,
        _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        let allocation = try resolve(target, caller, missing: .noData)
        defer { letGo(allocation, target) }
        var pattern = Output(capacity: Limits.fillPatternSizeMax)
        switch payload {
        case .bytes(let bytes): pattern.append(bytes)
        case .words(let words):
            // A longer pattern is refused below, however long the rest of the line is.
            var done = 0
            while try !TextValues.encode(
                words, as: allocation.type, from: &done, sizeMax: 1024, to: &pattern)
            {
                if pattern.count > Limits.fillPatternSizeMax { break }
            }
        }
        if pattern.isLost { throw .outOfMemory }
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
        guard let dest = try allocation.access(extent, .modify).atHand() else {
            return later(allocation)
        }
        if extent.size < Thresholds.workSizeMin {
            guard allocation.isInline || caller.touch(dest, extent.size) else {
                return .later(Pending(.turn))
            }
            Pattern(pattern.bytes).fill(dest, extent.size)
            caller.cost += extent.size
            reply.done(size: UInt64(extent.size))
            return .answered
        }
        allocation.retain()
        return .later(
            Pending(
                .work(
                    Work(
                        kind: .fill(dest: extent, pattern: Pattern(pattern.bytes)),
                        size: extent.size, allocations: (allocation, nil)))))
    }

    func copy<Reply: ReplyWriter & ~Copyable>(
        _ source: borrowing Reference, _ sourceStart: UInt64, _ dest: borrowing Reference,
        _ destStart: UInt64, _ count: UInt64, _ unit: Unit, _ caller: inout Caller,
        _ reply: inout Reply
    ) throws(SmallocError) -> Outcome {
        // A name that is none is told of before anything that is missing.
        if dest.handle == 0, !Name.isValid(dest.name) { throw .invalidName }
        let from = try resolve(source, caller, missing: .noSourceData)
        defer { letGo(from, source) }
        let onto: Allocation
        do throws(SmallocError) {
            onto = try resolve(dest, caller, missing: .noDestData)
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
        let sourceExtent = Extent(offset: Int(sourceOffset.bytes), size: bytes)
        let destExtent = Extent(offset: Int(destOffset.bytes), size: bytes)
        guard let start = try from.access(sourceExtent, .read).atHand() else {
            return later(from)
        }
        guard let target = try onto.access(destExtent, .modify).atHand() else {
            return later(onto)
        }
        if bytes < Thresholds.workSizeMin {
            guard onto.isInline || caller.touch(target, bytes) else {
                return .later(Pending(.turn))
            }
            reply.done(size: UInt64(bytes))
            memmove(target, start, bytes)
            caller.cost += bytes
            return .answered
        }
        from.retain()
        onto.retain()
        return .later(
            Pending(
                .work(
                    Work(
                        kind: .copy(dest: destExtent, source: sourceExtent), size: bytes,
                        allocations: (from, onto)))))
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

    /// Both locks if they are free.
    static func tryLockPair(_ left: Allocation, _ right: Allocation) -> Bool {
        guard left.lock.tryLock() else { return false }
        if left == right || right.lock.tryLock() { return true }
        left.lock.unlock()
        return false
    }

    static func unlockPair(_ left: Allocation, _ right: Allocation) {
        left.lock.unlock()
        if left != right { right.lock.unlock() }
    }
}
