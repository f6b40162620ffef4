// Frames to requests: the shape of each operation's header and payload. protocol/spec.md §
// Operations.

/// Reads requests from binary frames.
public enum FrameCodec {
    /// Most bytes of payload of any request that carries no bulk data: name, ranges and arguments.
    @inlinable
    public static var smallPayloadMax: Int { Limits.nameSizeMax + Limits.rangesMax * 16 + 512 }

    /// Bytes of payload that have to be there before a frame can be read: all of it, or the name
    /// and the ranges of a write of more than the atomic size.
    ///
    /// Magic, version, status, operation and flags were checked. What is wrong otherwise is for
    /// `decode` to find.
    @inlinable
    public static func neededSize(_ header: FrameHeader, _ operation: Operation) -> Int {
        let payloadSize = Int(header.payloadSize)
        guard operation == .write, payloadSize > Limits.atomicSizeMax else { return payloadSize }
        let isVectored = header.flags & TransferFlags.vectored.rawValue != 0
        let ranges = isVectored ? Int(min(header.size, UInt64(Limits.rangesMax))) * 16 : 0
        // At most 255 and 16 KiB, so both are within the payload.
        let prefix = Int(header.nameSize) + ranges
        return payloadSize - prefix > Limits.atomicSizeMax ? prefix : payloadSize
    }

    /// Reads a frame whose magic, version, status, operation and flags were checked.
    ///
    /// - Parameters:
    ///   - header: The frame's first 40 bytes.
    ///   - operation: That of the header.
    ///   - payload: The first `neededSize` bytes after the header.
    /// - Throws: `.malformedRequest`, `.invalidArgument` for a number of ranges.
    @inlinable
    @_lifetime(copy payload)
    public static func decode(
        _ header: FrameHeader, _ operation: Operation, payload: RawSpan
    ) throws(SmallocError) -> Request {
        let nameSize = Int(header.nameSize)
        guard nameSize <= payload.byteCount else {
            throw .malformed("the name is longer than the payload")
        }
        let name = payload.extracting(first: nameSize)
        let rest = payload.extracting(droppingFirst: nameSize)
        // The two that matter for speed come first.
        if operation == .read || operation == .write {
            return try data(header, operation, name: name, rest: rest)
        }
        return try other(header, operation, name: name, rest: rest)
    }

    @inlinable
    @_lifetime(copy name, copy rest)
    static func data(
        _ header: FrameHeader, _ operation: Operation, name: RawSpan, rest: RawSpan
    ) throws(SmallocError) -> Request {
        let target = Reference(handle: header.handle, name: name)
        guard (header.handle != 0) != (header.nameSize != 0), header.type == 0 else {
            throw FrameCodec.shape
        }
        if header.flags & TransferFlags.vectored.rawValue != 0 {
            return try vectored(header, operation, target, rest)
        }
        if operation == .read {
            guard rest.byteCount == 0 else { throw FrameCodec.shape }
            return .read(target, start: header.offset, count: header.size, .bytes)
        }
        let dataSize = Int(header.payloadSize) - name.byteCount
        guard header.size == UInt64(dataSize) else { throw FrameCodec.shape }
        if rest.byteCount < dataSize {
            return .receive(target, start: header.offset, ranges: RawSpan(), dataSize: dataSize)
        }
        return .write(target, start: header.offset, .bytes(rest), .bytes)
    }

    @usableFromInline
    @_lifetime(copy target, copy rest)
    static func vectored(
        _ header: FrameHeader, _ operation: Operation, _ target: borrowing Reference,
        _ rest: RawSpan
    ) throws(SmallocError) -> Request {
        guard header.offset == 0 else { throw shape }
        guard header.size >= 1, header.size <= UInt64(Limits.rangesMax) else {
            throw .invalidArgument("a vectored request has 1 to \(Limits.rangesMax) ranges")
        }
        let rangesSize = Int(header.size) * 16  // At most 16 KiB, see above.
        guard rangesSize <= rest.byteCount else { throw shape }
        let ranges = rest.extracting(first: rangesSize)
        let data = rest.extracting(droppingFirst: rangesSize)
        let again = Reference(handle: target.handle, name: target.name)
        if operation == .read {
            guard data.byteCount == 0 else { throw shape }
            return .readRanges(again, ranges: ranges)
        }
        let dataSize = Int(header.payloadSize) - Int(header.nameSize) - rangesSize
        if data.byteCount < dataSize {
            return .receive(again, start: 0, ranges: ranges, dataSize: dataSize)
        }
        return .writeRanges(again, ranges: ranges, data: data)
    }

    @usableFromInline
    @_lifetime(copy name, copy rest)
    static func other(
        _ header: FrameHeader, _ operation: Operation, name: RawSpan, rest: RawSpan
    ) throws(SmallocError) -> Request {
        let named = header.nameSize != 0
        let handled = header.handle != 0
        let oneTarget = named != handled
        let noNumbers = header.offset == 0 && header.size == 0
        let empty = rest.byteCount == 0
        guard header.type == 0 || operation == .alloc else { throw shape }
        let target = Reference(handle: header.handle, name: name)
        switch operation {
        case .hello:
            guard !named, !handled, noNumbers, rest.byteCount <= Limits.softwareSizeMax else {
                throw shape
            }
            return .hello
        case .ping, .stats, .quit:
            guard !named, !handled, noNumbers, empty else { throw shape }
            return operation == .ping ? .ping : operation == .stats ? .stats : .quit
        case .alloc:
            let flags = AllocFlags(rawValue: header.flags)
            guard !handled, header.offset == 0 else { throw shape }
            guard empty || flags.contains(.described) else { throw shape }
            guard named || !flags.contains(.noHandle) else { throw shape }
            return .alloc(
                name: name, type: header.type, typeWord: RawSpan(), length: header.size, .bytes,
                flags, description: .bytes(rest))
        case .open:
            guard named, !handled, header.offset == 0, empty else { throw shape }
            let flags = OpenFlags(rawValue: header.flags)
            guard flags.isEmpty else {
                return .await(name: name, flags, milliseconds: header.size, opensHandle: true)
            }
            guard header.size == 0 else { throw shape }
            return .open(name: name)
        case .close:
            guard handled, !named, noNumbers, empty else { throw shape }
            return .close(handle: header.handle)
        case .stat, .dispose, .freeze:
            guard oneTarget, noNumbers, empty else { throw shape }
            return operation == .stat
                ? .stat(target) : operation == .dispose ? .dispose(target) : .freeze(target)
        case .map, .unmap:
            guard oneTarget, noNumbers, empty else { throw shape }
            return operation == .map
                ? .map(target, MapFlags(rawValue: header.flags)) : .unmap(target)
        case .list:
            guard !handled, empty else { throw shape }
            return .list(prefix: name, cursor: header.offset, count: header.size, sorted: false)
        case .fill:
            guard oneTarget else { throw shape }
            return .fill(target, start: header.offset, count: header.size, .bytes(rest), .bytes)
        case .copy:
            guard oneTarget else { throw shape }
            return try copy(header, source: target, rest)
        case .truncate:
            guard oneTarget, header.offset == 0, empty else { throw shape }
            return .truncate(target, length: header.size, .bytes)
        case .rename:
            guard oneTarget, noNumbers else { throw shape }
            return .rename(target, newName: rest, RenameFlags(rawValue: header.flags))
        case .read, .write:
            return try data(header, operation, name: name, rest: rest)
        case .atomic:
            guard oneTarget, header.size == 0 else { throw shape }
            let action = try atomicAction(rest)
            return .atomic(
                target, start: header.offset, action,
                .bytes(rest.extracting(droppingFirst: 8)), .bytes)
        case .wait:
            guard oneTarget, rest.byteCount == 4 else { throw shape }
            return .wait(
                target, start: header.offset, .bytes(rest), milliseconds: header.size, .bytes)
        case .notify:
            guard oneTarget, empty else { throw shape }
            return .notify(target, start: header.offset, count: header.size, .bytes)
        case .watch:
            guard !handled, empty else { throw shape }
            return .watch(prefix: name, cursor: header.offset, milliseconds: header.size)
        case .clients:
            guard !named, !handled, empty else { throw shape }
            return .clients(cursor: header.offset, count: header.size)
        case .slowlog:
            guard !named, !handled, header.offset == 0, empty else { throw shape }
            return .slowlog(count: header.size)
        case .cancel:
            guard !named, !handled, noNumbers, rest.byteCount == 8 else { throw shape }
            return .cancel(cookie: rest.littleEndian64(at: 0))
        }
    }

    /// Bytes of an atomic request behind its name: the action, 7 zeros, operand, expected.
    @inlinable
    public static var atomicSize: Int { 24 }

    /// The action of an atomic request, of which the fields that it does not take are 0.
    ///
    /// - Parameter rest: What is behind the name.
    /// - Throws: `.malformedRequest`, `.invalidArgument` for an action that is none.
    @inlinable @inline(__always)
    public static func atomicAction(_ rest: RawSpan) throws(SmallocError) -> AtomicAction {
        guard rest.byteCount == atomicSize else { throw shape }
        let word = rest.littleEndian64(at: 0)
        guard word < 256 else { throw shape }
        guard let action = AtomicAction(wire: UInt8(truncatingIfNeeded: word)) else {
            throw .invalidArgument("there is no atomic action of this number")
        }
        guard action == .compareExchange || rest.littleEndian64(at: 16) == 0,
            action != .load || rest.littleEndian64(at: 8) == 0
        else { throw shape }
        return action
    }

    /// The 16 bytes that say where a copy goes: offset, handle, size of the name, zeros; the name.
    @_lifetime(copy source, copy rest)
    private static func copy(
        _ header: FrameHeader, source: borrowing Reference, _ rest: RawSpan
    ) throws(SmallocError) -> Request {
        guard rest.byteCount >= 16 else { throw shape }
        let word = rest.littleEndian64(at: 8)
        let destHandle = UInt32(truncatingIfNeeded: word)
        let destNameSize = Int(word >> 32 & 0xFF)
        guard word >> 40 == 0, rest.byteCount == 16 + destNameSize else { throw shape }
        guard (destHandle != 0) != (destNameSize != 0) else { throw shape }
        let dest = Reference(handle: destHandle, name: rest.extracting(droppingFirst: 16))
        return .copy(
            source: Reference(handle: source.handle, name: source.name),
            sourceStart: header.offset, dest: dest, destStart: rest.littleEndian64(at: 0),
            count: header.size, .bytes)
    }

    /// What is said of fields that contradict each other or the operation.
    public static var shape: SmallocError {
        .malformed("the fields of the frame contradict each other or the operation")
    }
}

extension RawSpan {
    /// The little-endian number at `offset`; the caller has checked that 8 bytes are there, and the
    /// standard library checks it again.
    @inlinable
    public func littleEndian64(at offset: Int) -> UInt64 {
        UInt64(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// The little-endian number of 4 bytes at `offset`; otherwise the same.
    @inlinable
    public func littleEndian32(at offset: Int) -> UInt32 {
        UInt32(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
}
