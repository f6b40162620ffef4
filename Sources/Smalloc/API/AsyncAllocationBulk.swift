// Many elements at a time, for async code: from and into arrays, whose memory outlives a cancelled
// task for as long as the connection works on it.

public import SmallocWire

extension AsyncAllocation {
    /// Reads elements into a new array, received straight into its storage.
    ///
    /// Large reads are split (`ConnectionOptions.chunkSize`), a few parts under way at a time, so
    /// that other tasks' small requests wait for a part and not for the whole.
    ///
    /// - Parameters:
    ///   - element: The Swift type of the elements; must have the allocation's element type.
    ///   - start: First element, from 0 to length.
    ///   - count: Elements; nil for all from `start` on.
    /// - Throws: `.noData`; `.invalidArgument` for another element type; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `read`.
    @inlinable
    public func read<Element: AllocationElement>(
        _ element: Element.Type = Element.self, from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) -> [Element] {
        guard
            let part = try smallPart(
                Element.elementType, stride: MemoryLayout<Element>.stride, start, count)
        else {
            return try await readLarge(element, from: start, count: count)
        }
        var array = part.array(of: element)
        // An array's memory stays where it is while nobody changes the array.
        let room = array.withUnsafeMutableBytes { $0.baseAddress }
        try await read(part, into: room)
        return array
    }

    /// Reads elements of any type as bytes, in the machine's byte order.
    ///
    /// - Throws: As `read(_:from:count:)`, but for another element type.
    public func readBytes(
        from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) -> [UInt8] {
        if let part = try smallPart(type, stride: type.size, start, count) {
            var bytes = [UInt8](unsafeUninitializedCapacity: part.size) { $1 = part.size }
            try await read(part, into: bytes.withUnsafeMutableBytes { $0.baseAddress })
            return bytes
        }
        let (offset, size) = try await bounded(start, count ?? window.countFrom(start))
        return try await read(UInt8.self, count: size, offset: offset, size: size)
    }

    /// Reads elements of any type as numbers.
    ///
    /// Exact for all nine types.
    ///
    /// - Throws: As `read(_:from:count:)`, but for another element type.
    public func numbers(
        from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) -> [Double] {
        let type = type
        if type == .double { return try await read(Double.self, from: start, count: count) }
        return try await readBytes(from: start, count: count).withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return [] }
            return (0..<bytes.count >> type.shift).map { type.load(from: base + $0 << type.shift) }
        }
    }

    /// Writes an array's elements, straight from its storage.
    ///
    /// - Parameters:
    ///   - array: Elements of the allocation's element type.
    ///   - start: First element written, from 0 to length.
    /// - Throws: `.noData`; `.invalidArgument` for another element type; `.outOfRange`;
    ///   `.cancelled`, which may leave a part written; transport errors.
    ///
    /// Wire: `write`.
    @inlinable
    public func write<Element: AllocationElement>(
        _ array: [Element], at start: Int = 0
    ) async throws(SmallocError) {
        guard
            let part = try smallPart(
                Element.elementType, stride: MemoryLayout<Element>.stride, start,
                array.count)
        else {
            return try await writeLarge(array, at: start)
        }
        // As in `read`.
        try await write(part, from: array.withUnsafeBytes { $0.baseAddress })
        withExtendedLifetime(array) {}
    }

    /// Writes bytes as elements of whatever type, in the machine's byte order.
    ///
    /// - Throws: As `write(_:at:)`; `.invalidArgument` for a part of an element.
    public func write(bytes: [UInt8], at start: Int = 0) async throws(SmallocError) {
        let count = try type.count(bytes: bytes.count)
        if let part = try smallPart(type, stride: type.size, start, count) {
            try await write(part, from: bytes.withUnsafeBytes { $0.baseAddress })
            return withExtendedLifetime(bytes) {}
        }
        let (offset, size) = try await bounded(start, count)
        try await write(bytes, offset: offset, size: size)
    }

    /// Stores numbers into elements of any type, converted as by `set(_:at:)`.
    ///
    /// - Throws: As `write(_:at:)`, but for another element type.
    public func store(_ numbers: [Double], at start: Int = 0) async throws(SmallocError) {
        let type = type
        if type == .double { return try await write(numbers, at: start) }
        let size = numbers.count << type.shift
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { memory, initialized in
            if let base = UnsafeMutableRawPointer(memory.baseAddress) {
                for (index, number) in numbers.enumerated() {
                    type.store(number, at: base + index << type.shift)
                }
            }
            initialized = size
        }
        try await write(bytes: bytes, at: start)
    }

    /// Reads many ranges, one after another.
    ///
    /// See `Allocation.read(_:ranges:)`.
    ///
    /// Wire: `read`, flag `vectored`.
    public func read<Element: AllocationElement>(
        _ element: Element.Type = Element.self, ranges: [Range<Int>]
    ) async throws(SmallocError) -> [Element] {
        try type.check(element)
        let total = try await total(ranges)
        let groups = try window.groups(ranges, frameSizeMax: link.limits.frameSizeMax)
        let sink = ArraySink<Element>(count: total >> type.shift)
        var done = 0
        for group in groups {
            let size = group.reduce(0) { $0 + Int($1.size) }
            let cookie = try start(
                .vectored(.read, remote.handle, group), sink: (sink, done, size))
            try await finish(cookie)
            done += size
        }
        return sink.take()
    }

    /// Writes an array's elements to many ranges, one after another.
    ///
    /// See `Allocation.write(_:to:)`.
    ///
    /// Wire: `write`, flag `vectored`.
    public func write<Element: AllocationElement>(
        _ array: [Element], to ranges: [Range<Int>]
    ) async throws(SmallocError) {
        try type.check(Element.self)
        let total = try await total(ranges) >> type.shift
        guard total == array.count else {
            throw .invalidArgument("\(array.count) elements for ranges of \(total)")
        }
        let groups = try window.groups(ranges, frameSizeMax: link.limits.frameSizeMax)
        let source = ArraySource(array)
        var done = 0
        for group in groups {
            let size = group.reduce(0) { $0 + Int($1.size) }
            let cookie = try start(
                .vectored(.write, remote.handle, group), data: (source, done, size))
            try await finish(cookie)
            done += size
        }
    }

    // MARK: In bytes

    @usableFromInline
    func readLarge<Element: AllocationElement>(
        _ element: Element.Type, from start: Int, count: Int?
    ) async throws(SmallocError) -> [Element] {
        try type.check(element)
        let count = count ?? window.countFrom(start)
        let (offset, size) = try await bounded(start, count)
        return try await read(Element.self, count: count, offset: offset, size: size)
    }

    @usableFromInline
    func writeLarge<Element: AllocationElement>(
        _ array: [Element], at start: Int
    ) async throws(SmallocError) {
        try type.check(Element.self)
        let (offset, size) = try await bounded(start, array.count)
        try await write(array, offset: offset, size: size)
    }

    private var link: Link { remote.link }

    private func total(_ ranges: [Range<Int>]) async throws(SmallocError) -> Int {
        var total = 0
        for range in ranges { total += try await bounded(range.lowerBound, range.count).size }
        return total
    }

    /// Bytes of a range within what is known of the allocation.
    ///
    /// A range that can't be right is put to the daemon, which says what is wrong with it.
    private func bounded(
        _ start: Int, _ count: Int
    ) async throws(SmallocError) -> (offset: UInt64, size: Int) {
        let (offset, size) = try window.resolve(start, count)
        let held = UInt64(remote.size)
        if offset <= held, size <= held - offset { return (offset, Int(size)) }
        _ = try await call(.read(remote.handle, offset: offset, size: size))
        throw .outOfRange("start + count > length")
    }

    private func start(
        _ request: Request, data: (source: any Source, offset: Int, size: Int)? = nil,
        sink: (target: any Sink, offset: Int, size: Int)? = nil
    ) throws(SmallocError) -> UInt64 {
        if Task.isCancelled { throw .cancelled }
        return try request.body.span.withUnsafeBytes { body throws(SmallocError) in
            try link.start(
                Link.Ask(
                    header: request.header, body: body, extraTime: request.extraTime, data: data,
                    sink: sink, remote: remote))
        }
    }

    private func finish(_ cookie: UInt64) async throws(SmallocError) {
        if case .failure(let error) = await link.wait(cookie).more?.content { throw error }
    }

    /// Runs a transfer's chunks, a few under way at a time, and leaves none behind.
    private func transfer(
        _ size: Int, _ startChunk: (_ at: Int, _ size: Int) throws(SmallocError) -> UInt64
    ) async throws(SmallocError) {
        let chunking = Chunking(link.options, link.limits)
        var underWay: [UInt64] = []
        var asked = 0
        do throws(SmallocError) {
            repeat {
                let chunk = min(chunking.chunk, size - asked)
                underWay.append(try startChunk(asked, chunk))
                asked += chunk
                if underWay.count == chunking.inFlight || asked == size {
                    try await finish(underWay.removeFirst())
                }
            } while asked < size
            while !underWay.isEmpty { try await finish(underWay.removeFirst()) }
        } catch {
            for cookie in underWay { link.abandon(cookie) }
            throw error
        }
        withExtendedLifetime(self) {}
    }

    private func read<Element: BitwiseCopyable & Sendable>(
        _ element: Element.Type, count: Int, offset: UInt64, size: Int
    ) async throws(SmallocError) -> [Element] {
        let sink = ArraySink<Element>(count: count)
        let handle = remote.handle
        try await transfer(size) { at, chunk throws(SmallocError) in
            try start(
                .read(handle, offset: offset + UInt64(at), size: UInt64(chunk)),
                sink: (sink, at, chunk))
        }
        return sink.take()
    }

    private func write<Element: BitwiseCopyable & Sendable>(
        _ array: [Element], offset: UInt64, size: Int
    ) async throws(SmallocError) {
        let handle = remote.handle
        if size > Chunking(link.options, link.limits).chunk {
            // The end is checked before the first byte moves.
            _ = try await call(.read(handle, offset: offset + UInt64(size), size: 0))
        }
        let source = ArraySource(array)
        try await transfer(size) { at, chunk throws(SmallocError) in
            try start(
                .write(handle, offset: offset + UInt64(at), size: UInt64(chunk)),
                data: (source, at, chunk))
        }
    }
}
