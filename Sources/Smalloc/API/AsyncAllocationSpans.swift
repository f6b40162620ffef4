// From and into memory that a task lends, for async code: spans, buffers and arrays that are there
// already.

public import SmallocWire

extension AsyncAllocation {
    // MARK: Reading

    /// Reads as many elements as an array has into it.
    ///
    /// What a task lends may be gone when it is cancelled, while the connection still receives: so
    /// the elements come by way of memory of the library's own, a part at a time, and the caller's
    /// is touched in this call only. A new array, by `read(_:from:count:)`, is received into
    /// without that copy.
    ///
    /// - Parameters:
    ///   - array: Overwritten in place. After an error its contents are unspecified.
    ///   - start: First element, from 0 to length.
    /// - Throws: As `read(_:from:count:)`.
    ///
    /// Wire: `read`.
    public func read<Element: Smalloc.Element>(
        into array: inout [Element], from start: Int = 0
    ) async throws(SmallocError) {
        var span = array.mutableSpan
        try await read(into: &span, from: start)
    }

    /// Reads as many elements as a span has into it.
    ///
    /// See `read(into:from:)` for arrays.
    ///
    /// - Throws: As `read(_:from:count:)`.
    public func read<Element: Smalloc.Element>(
        into span: inout MutableSpan<Element>, from start: Int = 0
    ) async throws(SmallocError) {
        try check()
        try type.check(Element.self)
        for part in try await parts(start, span.count, writes: false) {
            let elements = try await read(
                Element.self, from: start + part.lowerBound, count: part.count)
            span.withUnsafeMutableBufferPointer { memory in
                _ = UnsafeMutableBufferPointer(rebasing: memory[part]).update(from: elements)
            }
        }
    }

    /// Reads as many elements as a typed buffer has into it.
    ///
    /// See `read(into:from:)` for arrays. Nothing uses the buffer when the call has ended,
    /// whichever way it did.
    ///
    /// - Throws: As `read(_:from:count:)`.
    public func read<Element: Smalloc.Element>(
        into buffer: UnsafeMutableBufferPointer<Element>, from start: Int = 0
    ) async throws(SmallocError) {
        var span = buffer.mutableSpan
        try await read(into: &span, from: start)
    }

    /// Reads elements into a raw span, whatever their type, in the machine's byte order.
    ///
    /// See `read(into:from:)` for arrays.
    ///
    /// - Throws: As `read(_:from:count:)`; `.invalidArgument` for a part of an element.
    public func read(
        into span: inout MutableRawSpan, from start: Int = 0
    ) async throws(SmallocError) {
        try check()
        let type = type
        let count = try type.count(bytes: span.byteCount)
        for part in try await parts(start, count, writes: false) {
            let bytes = try await readBytes(from: start + part.lowerBound, count: part.count)
            span.withUnsafeMutableBytes { memory in
                let target = memory[part.lowerBound << type.shift..<part.upperBound << type.shift]
                UnsafeMutableRawBufferPointer(rebasing: target).copyBytes(from: bytes)
            }
        }
    }

    /// Reads elements into raw memory, whatever their type.
    ///
    /// See the one for raw spans. Nothing uses the memory when the call has ended, whichever way it
    /// did.
    ///
    /// - Throws: As `read(_:from:count:)`; `.invalidArgument` for a part of an element.
    public func read(
        into bytes: UnsafeMutableRawBufferPointer, from start: Int = 0
    ) async throws(SmallocError) {
        var span = bytes.mutableBytes
        try await read(into: &span, from: start)
    }

    // MARK: Writing

    /// Writes a span's elements.
    ///
    /// What a task lends may be gone when it is cancelled, while the connection still sends: so a
    /// part at a time is copied, and the caller's memory is looked at in this call only. An array
    /// is sent from where it is.
    ///
    /// - Parameters:
    ///   - span: Elements of the allocation's element type.
    ///   - start: First element written, from 0 to length.
    /// - Throws: As `write(_:at:)` for arrays.
    ///
    /// Wire: `write`.
    public func write<Element: Smalloc.Element>(
        _ span: Span<Element>, at start: Int = 0
    ) async throws(SmallocError) {
        try check()
        try type.check(Element.self)
        for part in try await parts(start, span.count, writes: true) {
            let elements = span.withUnsafeBufferPointer { Array($0[part]) }
            try await write(elements, at: start + part.lowerBound)
        }
    }

    /// Writes a typed buffer's elements.
    ///
    /// See the one for spans. Nothing uses the buffer when the call has ended, whichever way it
    /// did.
    ///
    /// - Throws: As `write(_:at:)` for arrays.
    public func write<Element: Smalloc.Element>(
        _ buffer: UnsafeBufferPointer<Element>, at start: Int = 0
    ) async throws(SmallocError) {
        try await write(buffer.span, at: start)
    }

    /// Writes a raw span as elements of whatever type, in the machine's byte order.
    ///
    /// See the one for spans.
    ///
    /// - Throws: As `write(_:at:)` for arrays; `.invalidArgument` for a part of an element.
    public func write(_ bytes: RawSpan, at start: Int = 0) async throws(SmallocError) {
        try check()
        let type = type
        let count = try type.count(bytes: bytes.byteCount)
        for part in try await parts(start, count, writes: true) {
            let copy = bytes.withUnsafeBytes { memory in
                Array(memory[part.lowerBound << type.shift..<part.upperBound << type.shift])
            }
            try await write(bytes: copy, at: start + part.lowerBound)
        }
    }

    /// Writes raw memory as elements of whatever type, in the machine's byte order.
    ///
    /// See the one for spans. Nothing uses the memory when the call has ended, whichever way it
    /// did.
    ///
    /// - Throws: As `write(_:at:)` for arrays; `.invalidArgument` for a part of an element.
    public func write(
        _ bytes: UnsafeRawBufferPointer, at start: Int = 0
    ) async throws(SmallocError) {
        try await write(bytes.bytes, at: start)
    }

    /// Writes a collection's elements: an `ArraySlice`, a `ContiguousArray`, a `Data`.
    ///
    /// All of them are copied first. For large ones with memory of their own see `write(_:at:)` for
    /// spans, which copies a part at a time.
    ///
    /// - Throws: As `write(_:at:)` for arrays.
    public func write<Elements: Collection>(
        _ elements: Elements, at start: Int = 0
    ) async throws(SmallocError) where Elements.Element: Smalloc.Element {
        try await write(Array(elements), at: start)
    }

    // MARK: Parts

    /// The parts, in elements, in which lent memory is moved: one, if that is enough.
    ///
    /// The range is checked as a whole before anything moves.
    private func parts(
        _ start: Int, _ count: Int, writes: Bool
    ) async throws(SmallocError) -> [Range<Int>] {
        let chunking = Chunking(link.options, link.limits)
        let most = max(1, (chunking.chunk * chunking.inFlight) >> type.shift)
        guard count > most else { return [0..<count] }
        let (offset, size) = try await checked(start, count)
        if writes {
            // The end is checked before the first byte moves.
            try await call(.read(remote.handle, offset: offset + UInt64(size), size: 0))
        }
        return stride(from: 0, to: count, by: most).map { $0..<min($0 + most, count) }
    }
}
