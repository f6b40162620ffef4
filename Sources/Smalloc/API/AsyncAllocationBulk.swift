// Many elements at a time, for async code: from and into arrays, whose memory outlives a cancelled
// task for as long as the connection works on it.

public import SmallocWire

extension AsyncAllocation {
    /// Reads elements into a new array, received straight into its storage.
    ///
    /// Large reads are split (`Smalloc.Options.chunkSize`), a few parts under way at a time, so
    /// that other tasks' small requests wait for a part and not for the whole; or they go by a
    /// mapping (`Smalloc.Options.mapsLargeTransfers`), off the caller's actor, and other tasks have
    /// their turn after each MiB.
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
    public func read<Element: Smalloc.Element>(
        _ element: Element.Type = Element.self, from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) -> [Element] {
        guard
            let part = try smallPart(
                Element.elementType, stride: MemoryLayout<Element>.stride, start, count)
        else {
            return try await readLarge(element, from: start, count: count)
        }
        // Not into an array, whose memory can't be pointed at while the task waits.
        guard let room = try await read(part) else { return [] }
        defer { giveBack(room) }
        settle(UnsafeMutableRawBufferPointer(start: room, count: part.size), as: element)
        return Array(
            UnsafeBufferPointer(
                start: room.assumingMemoryBound(to: Element.self), count: part.count))
    }

    /// Reads elements of any type as bytes, in the machine's byte order.
    ///
    /// - Throws: As `read(_:from:count:)`, but for another element type.
    public func readBytes(
        from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) -> [UInt8] {
        try check()
        let (offset, size) = try await checked(start, count ?? window.countFrom(start))
        return try await read(UInt8.self, count: size, offset: offset, size: size)
    }

    /// Reads elements as numbers, of any type whose elements a `Double` can hold.
    ///
    /// Exact. Not `Int64`, `Uint64` and the complex types.
    ///
    /// - Throws: As `read(_:from:count:)`, but for another element type.
    public func numbers(
        from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) -> [Double] {
        try check()
        let type = type
        try type.checkDouble()
        if type == .double { return try await read(Double.self, from: start, count: count) }
        return try await readBytes(from: start, count: count).withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return [] }
            return (0..<bytes.count >> type.shift).map { type.load(from: base + $0 << type.shift) }
        }
    }

    /// Writes an array's elements, straight from its storage.
    ///
    /// Large ones are split, or go by a mapping, as `read(_:from:count:)` says. All checks come
    /// before the first byte moves.
    ///
    /// - Parameters:
    ///   - array: Elements of the allocation's element type.
    ///   - start: First element written, from 0 to length.
    /// - Throws: `.noData`; `.invalidArgument` for another element type; `.outOfRange`;
    ///   `.cancelled`, which may leave a part written; transport errors.
    ///
    /// Wire: `write`.
    @inlinable
    public func write<Element: Smalloc.Element>(
        _ array: [Element], at start: Int = 0
    ) async throws(SmallocError) {
        guard
            let part = try smallPart(
                Element.elementType, stride: MemoryLayout<Element>.stride, start,
                array.count)
        else {
            return try await writeLarge(array, at: start)
        }
        try await write(part) { array.withUnsafeBytes($0) }
    }

    /// Writes bytes as elements of whatever type, in the machine's byte order.
    ///
    /// An array is written from where it is; of others, as `Data`, a copy is.
    ///
    /// - Throws: As `write(_:at:)`; `.invalidArgument` for a part of an element.
    public func write(
        bytes: some Collection<UInt8>, at start: Int = 0
    ) async throws(SmallocError) {
        try check()
        let bytes = Array(bytes)
        let (offset, size) = try await checked(start, try type.count(bytes: bytes.count))
        try await write(bytes, offset: offset, size: size)
    }

    /// Stores numbers into elements of any type, converted as by `set(_:at:)`.
    ///
    /// - Throws: As `write(_:at:)`, but for another element type.
    public func store(_ numbers: [Double], at start: Int = 0) async throws(SmallocError) {
        try check()
        let type = type
        try type.checkDouble()
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
    public func read<Element: Smalloc.Element>(
        _ element: Element.Type = Element.self, ranges: [Range<Int>]
    ) async throws(SmallocError) -> [Element] {
        try check()
        try type.check(element)
        let sink = ArraySink<Element>(count: try await size(of: ranges) >> type.shift)
        try await move(.read, ranges) { request, at, size throws(SmallocError) in
            try link.start(request, remote, size: size, sink: (sink, at))
        }
        return sink.take()
    }

    /// Writes an array's elements to many ranges, one after another.
    ///
    /// See `Allocation.write(_:to:)`.
    ///
    /// Wire: `write`, flag `vectored`.
    public func write<Element: Smalloc.Element>(
        _ array: [Element], to ranges: [Range<Int>]
    ) async throws(SmallocError) {
        try check()
        try type.check(Element.self)
        let total = try await size(of: ranges) >> type.shift
        guard total == array.count else {
            throw .invalidArgument("\(array.count) elements for ranges of \(total)")
        }
        let source = ArraySource(array)
        try await move(.write, ranges) { request, at, size throws(SmallocError) in
            let data = OutgoingData(source: source, offset: at, size: size)
            return try link.start(request, remote, data: data, size: 0)
        }
    }

    // MARK: In bytes

    var link: Link { remote.owner.link }

    @usableFromInline
    func readLarge<Element: Smalloc.Element>(
        _ element: Element.Type, from start: Int, count: Int?
    ) async throws(SmallocError) -> [Element] {
        try type.check(element)
        let count = count ?? window.countFrom(start)
        let (offset, size) = try await checked(start, count)
        return try await read(Element.self, count: count, offset: offset, size: size)
    }

    @usableFromInline
    func writeLarge<Element: Smalloc.Element>(
        _ array: [Element], at start: Int
    ) async throws(SmallocError) {
        try type.check(Element.self)
        let (offset, size) = try await checked(start, array.count)
        try await write(array, offset: offset, size: size)
    }

    /// Bytes of a range, which is put to the daemon if it can't be right.
    func checked(
        _ start: Int, _ count: Int
    ) async throws(SmallocError) -> (offset: UInt64, size: Int) {
        let (offset, size, isKnown) = try view.explaining(start, count) {
            () throws(SmallocError) in try view.resolve(start, count)
        }
        if isKnown { return (offset, Int(size)) }
        try await call(.read(remote.handle, offset: offset, size: size), start, count)
        throw view.explained(
            .outOfRange("start + count > length"), start: start, count: count)
    }

    /// Bytes of all of them together; each is checked as `checked` does it.
    private func size(of ranges: [Range<Int>]) async throws(SmallocError) -> Int {
        var total = 0
        for range in ranges { total += try await checked(range.lowerBound, range.count).size }
        return total
    }

    /// Moves the bytes of many ranges, one after another in memory.
    private func move(
        _ operation: Operation, _ ranges: [Range<Int>],
        _ start: (Request, _ at: Int, _ size: Int) throws(SmallocError) -> UInt64
    ) async throws(SmallocError) {
        var done = 0
        for group in try window.groups(ranges, frameSizeMax: link.limits.frameSizeMax) {
            let size = group.reduce(0) { $0 + Int($1.size) }
            let cookie = try start(.vectored(operation, remote.handle, group), done, size)
            let answer = await link.wait(cookie)
            try view.explaining { () throws(SmallocError) in try answer.check() }
            done += size
        }
        withExtendedLifetime(self) {}
    }

    /// Runs a transfer's chunks, a few in flight at a time, and leaves none behind.
    private func transfer(
        _ operation: Operation, _ offset: UInt64, _ size: Int,
        _ start: (Request, _ at: Int, _ size: Int) throws(SmallocError) -> UInt64
    ) async throws(SmallocError) {
        var transfer = Transfer(size, Chunking(link.options, link.limits))
        do throws(SmallocError) {
            while let step = transfer.next() {
                switch step {
                case .ask(let at, let size):
                    let request = Request.access(
                        operation, remote.handle, offset: offset + UInt64(at), size: UInt64(size))
                    transfer.asked(try start(request, at, size))
                case .wait(let cookie):
                    try await link.wait(cookie).check()
                }
            }
        } catch {
            for cookie in transfer.inFlight { link.abandon(cookie) }
            throw view.explained(error)
        }
        withExtendedLifetime(self) {}
    }

    private func read<Element: BitwiseCopyable & Sendable>(
        _ element: Element.Type, count: Int, offset: UInt64, size: Int
    ) async throws(SmallocError) -> [Element] {
        let sink = ArraySink<Element>(count: count)
        let isRead = try await moveByMapping(offset, size, writes: false) { mapped, at in
            _ = sink.withMemory(at, mapped.count) { (memory: UnsafeMutableRawBufferPointer) in
                memory.copyMemory(from: UnsafeRawBufferPointer(mapped))
                return mapped.count
            }
        }
        if isRead { return sink.take() }
        try await transfer(.read, offset, size) { request, at, size throws(SmallocError) in
            try link.start(request, remote, size: size, sink: (sink, at))
        }
        return sink.take()
    }

    private func write<Element: BitwiseCopyable & Sendable>(
        _ array: [Element], offset: UInt64, size: Int
    ) async throws(SmallocError) {
        let source = ArraySource(array)
        let isWritten = try await moveByMapping(offset, size, writes: true) { mapped, at in
            _ = source.withMemory(at, mapped.count) { memory in
                mapped.copyMemory(from: memory)
                return mapped.count
            }
        }
        if isWritten { return }
        if size > Chunking(link.options, link.limits).chunk {
            // The end is checked before the first byte moves.
            try await call(.read(remote.handle, offset: offset + UInt64(size), size: 0))
        }
        try await transfer(.write, offset, size) { request, at, size throws(SmallocError) in
            let data = OutgoingData(source: source, offset: at, size: size)
            return try link.start(request, remote, data: data, size: 0)
        }
    }
}
