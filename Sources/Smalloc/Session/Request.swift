// Every request a client makes, as a header and what follows it. Elements become bytes here.

internal import SmallocWire

/// A request apart from bulk data: what both faces send.
struct Request: Sendable {
    var header: FrameHeader
    /// Name, pattern, ranges or second name, in the order of the payload.
    var body: [UInt8] = []
    /// Nanoseconds to wait for the answer beyond the usual: a second for each GiB that the daemon
    /// has to move by itself.
    var extraTime: UInt64 = 0

    private init(_ header: FrameHeader) { self.header = header }

    private init(_ operation: Operation) {
        header = FrameHeader(magic: FrameHeader.requestMagic, operation: operation.rawValue)
    }

    private mutating func setName(_ name: AllocationName) {
        header.nameSize = UInt8(name.bytes.count)
        body = name.bytes
    }

    /// Which allocation: by the handle, or by name.
    enum Target: Sendable {
        case handle(UInt32)
        case name(AllocationName)
    }

    private init(_ operation: Operation, _ target: Target) {
        self.init(operation)
        switch target {
        case .handle(let handle): header.handle = handle
        case .name(let name): setName(name)
        }
    }

    static func hello(software: String) -> Request {
        var request = Request(.hello)
        request.body = Array(software.utf8.prefix(Limits.softwareSizeMax))
        return request
    }

    static var ping: Request { Request(.ping) }
    static var stats: Request { Request(.stats) }
    static var quit: Request { Request(.quit) }

    static func clients(cursor: UInt64) -> Request {
        var request = Request(.clients)
        request.header.offset = cursor
        return request
    }

    static func slowlog(count: UInt64) -> Request {
        var request = Request(.slowlog)
        request.header.size = count
        return request
    }

    static func alloc(
        size: UInt64, type: UInt8, name: AllocationName?, opening: Bool = true,
        shareable: Bool = false, described by: AllocationDescription = .empty,
        lease: Smalloc.Lease? = nil
    ) -> Request {
        var request = Request(.alloc)
        if let name { request.setName(name) }
        request.header.type = type
        request.header.size = size
        var flags: AllocFlags = opening ? [] : .noHandle
        if shareable { flags.insert(.shareable) }
        if lease != nil { flags.insert(.leased) }
        // A daemon that knows of none is not asked for none.
        if !by.isEmpty || lease != nil {
            flags.insert(.described)
            request.append(by.shape.map { UInt64($0.count) } ?? Shape.noRank)
            for dimension in by.shape ?? [] { request.append(UInt64(exactly: dimension) ?? .max) }
            request.append(lease?.milliseconds ?? 0)
            request.append(UInt16(by.metadata.count))
            request.body += by.metadata
        }
        request.header.flags = flags.rawValue
        request.extraTime = extraTime(size)
        return request
    }

    /// Descriptors come with the reply; see `descriptorsAt`.
    static func map(_ handle: UInt32, writable: Bool, populate: Bool, size: Int) -> Request {
        var request = Request(.map, .handle(handle))
        if writable { request.header.flags |= MapFlags.writable.rawValue }
        if populate { request.header.flags |= MapFlags.populate.rawValue }
        // It may have to be copied first.
        request.extraTime = extraTime(UInt64(size))
        return request
    }

    /// Where the reply to `map` tells how many descriptors come with it.
    static var descriptorsAt: Int { 8 }

    static func freeze(_ target: Target) -> Request { Request(.freeze, target) }
    static func open(_ name: AllocationName) -> Request { Request(.open, .name(name)) }
    static func close(_ handle: UInt32) -> Request { Request(.close, .handle(handle)) }
    static func stat(_ target: Target) -> Request { Request(.stat, target) }

    static func dispose(_ target: Target, size: UInt64) -> Request {
        var request = Request(.dispose, target)
        request.extraTime = extraTime(size)
        return request
    }

    static func list(prefix: [UInt8], cursor: UInt64, limit: UInt64) -> Request {
        var request = Request(.list)
        request.header.nameSize = UInt8(prefix.count)
        request.body = prefix
        request.header.offset = cursor
        request.header.size = limit
        return request
    }

    static func read(_ handle: UInt32, offset: UInt64, size: UInt64) -> Request {
        access(.read, handle, offset: offset, size: size)
    }

    /// A read, or a write whose data is sent behind it.
    static func access(
        _ operation: Operation, _ handle: UInt32, offset: UInt64, size: UInt64
    ) -> Request {
        Request(.access(operation, handle, offset: offset, size: size))
    }

    /// A read or write of many ranges.
    ///
    /// At most `Limits.rangesMax`.
    static func vectored(
        _ operation: Operation, _ handle: UInt32, _ ranges: [(offset: UInt64, size: UInt64)]
    ) -> Request {
        var request = Request(operation, .handle(handle))
        request.header.flags = TransferFlags.vectored.rawValue
        request.header.size = UInt64(ranges.count)
        request.body.reserveCapacity(ranges.count * 16)
        for range in ranges {
            request.append(range.offset)
            request.append(range.size)
        }
        return request
    }

    static func fill(
        _ handle: UInt32, offset: UInt64, size: UInt64, pattern: [UInt8]
    ) -> Request {
        var request = Request(.fill, .handle(handle))
        request.header.offset = offset
        request.header.size = size
        request.body = pattern
        request.extraTime = extraTime(size)
        return request
    }

    static func copy(
        _ source: Target, offset: UInt64, to dest: Target, offset destOffset: UInt64, size: UInt64
    ) -> Request {
        var request = Request(.copy, source)
        request.header.offset = offset
        request.header.size = size
        request.append(destOffset)
        switch dest {
        case .handle(let handle):
            request.append(handle)
            request.append(UInt32(0))
        case .name(let name):
            request.append(UInt32(0))
            request.append(UInt32(name.bytes.count))  // One byte of size, three of zeros.
            request.body += name.bytes
        }
        request.extraTime = extraTime(size)
        return request
    }

    static func truncate(_ target: Target, size: UInt64) -> Request {
        var request = Request(.truncate, target)
        request.header.size = size
        return request
    }

    static func rename(
        _ target: Target, to name: AllocationName, replacing: Bool
    ) -> Request {
        var request = Request(.rename, target)
        if replacing { request.header.flags = RenameFlags.replace.rawValue }
        request.body += name.bytes
        return request
    }

    /// A wait, which may be answered as late as it says.
    ///
    /// - Parameter milliseconds: `UInt64.max` is for ever.
    static func wait(
        _ handle: UInt32, offset: UInt64, value: UInt32, milliseconds: UInt64
    ) -> Request {
        var request = Request(.access(.wait, handle, offset: offset, size: milliseconds))
        request.append(value)
        request.setWaiting(milliseconds)
        return request
    }

    /// An open that waits until there is an allocation of the name, or one that is frozen.
    ///
    /// - Parameter timeout: nil is for ever.
    static func open(
        _ name: AllocationName, frozen: Bool, timeout: Duration?
    ) -> Request {
        var request = Request(.open, .name(name))
        request.header.flags = (frozen ? OpenFlags.awaitFrozen : .await).rawValue
        request.header.size = milliseconds(timeout)
        request.setWaiting(request.header.size)
        return request
    }

    /// A time to wait as the wire has it: rounded up, and nil is for ever.
    static func milliseconds(_ timeout: Duration?) -> UInt64 {
        guard let nanoseconds = timeout?.nanosecondsClamped, nanoseconds != .max else {
            return .max
        }
        return nanoseconds / 1_000_000 + (nanoseconds % 1_000_000 > 0 ? 1 : 0)
    }

    /// The answer may come as late as this.
    private mutating func setWaiting(_ milliseconds: UInt64) {
        let (time, isOver) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
        extraTime = isOver ? .max : time
    }

    static func notify(_ handle: UInt32, offset: UInt64, count: UInt64) -> Request {
        Request(.access(.notify, handle, offset: offset, size: count))
    }

    static func cancel(_ cookie: UInt64) -> Request {
        var request = Request(.cancel)
        request.append(cookie)
        return request
    }

    private mutating func append<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { body.append(contentsOf: $0) }
    }

    /// Sizes that no daemon can hold cost it no time.
    private static func extraTime(_ size: UInt64) -> UInt64 {
        size >> 30 < 1 << 20 ? (size >> 30) * 1_000_000_000 : 0
    }
}

extension FrameHeader {
    /// All of a read, or what precedes the data of a write.
    @inline(__always)
    static func access(
        _ operation: Operation, _ handle: UInt32, offset: UInt64, size: UInt64
    ) -> FrameHeader {
        FrameHeader(
            magic: FrameHeader.requestMagic, operation: operation.rawValue, handle: handle,
            offset: offset, size: size)
    }
}

extension ElementType {
    /// Bytes of `count` elements.
    ///
    /// Negative and overflowing counts give a number that no allocation reaches and that is whole
    /// elements of every type, so that the daemon answers to them what it answers to an over-large
    /// one.
    @inline(__always)
    func bytes(_ count: Int) -> UInt64 {
        let count = UInt64(exactly: count) ?? .max
        return count > .max >> UInt64(shift) ? overlarge : min(count << UInt64(shift), overlarge)
    }
}

/// A size in bytes over every limit, and a multiple of every element size and fill pattern.
let overlarge = UInt64.max - 63
