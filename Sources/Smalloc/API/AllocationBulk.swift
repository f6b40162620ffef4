// Many elements at a time: typed reads and writes from and into the caller's memory.

public import SmallocWire

extension Allocation {
    // MARK: Reading

    /// Reads elements into a new array, received straight into its storage.
    ///
    /// - Parameters:
    ///   - element: The Swift type of the elements; must have the allocation's element type.
    ///   - start: First element, from 0 to length.
    ///   - count: Elements; nil for all from `start` on.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.invalidArgument` for another
    ///   element type; `.outOfRange`; transport errors.
    /// - Complexity: O(count); one round trip for each `Smalloc.Options.chunkSize`, overlapping.
    ///
    /// Wire: `read`.
    public func read<Element: Smalloc.Element>(
        _ element: Element.Type = Element.self, from start: Int = 0, count: Int? = nil
    ) throws(SmallocError) -> [Element] {
        let view = try checkedView()
        try view.type.check(element)
        let count = count ?? view.window.countFrom(start)
        _ = try view.checked(start, count)
        var failure: SmallocError?
        let array = [Element](unsafeUninitializedCapacity: count) { memory, initialized in
            let target = UnsafeMutableRawBufferPointer(
                start: memory.baseAddress, count: count * MemoryLayout<Element>.stride)
            adviseHuge(target)
            do throws(SmallocError) {
                try view.read(start, into: target)
                settle(target, as: element)
                initialized = count
            } catch { failure = error }
        }
        if let failure { throw failure }
        return array
    }

    /// Reads as many elements as an array has into it.
    ///
    /// - Parameters:
    ///   - array: Overwritten in place. After an error its contents are unspecified.
    ///   - start: First element, from 0 to length.
    /// - Throws: As `read(_:from:count:)`.
    public func read<Element: Smalloc.Element>(
        into array: inout [Element], from start: Int = 0
    ) throws(SmallocError) {
        try array.withUnsafeMutableBufferPointer { memory throws(SmallocError) in
            try read(into: memory, from: start)
        }
    }

    /// Reads as many elements as a typed buffer has into it.
    ///
    /// See `read(into:from:)` for arrays.
    ///
    /// - Throws: As `read(_:from:count:)`.
    public func read<Element: Smalloc.Element>(
        into buffer: UnsafeMutableBufferPointer<Element>, from start: Int = 0
    ) throws(SmallocError) {
        let view = try checkedView()
        try view.type.check(Element.self)
        try view.read(start, into: UnsafeMutableRawBufferPointer(buffer))
        settle(UnsafeMutableRawBufferPointer(buffer), as: Element.self)
    }

    /// Reads elements into raw memory, whatever their type, in the machine's byte order.
    ///
    /// - Parameters:
    ///   - bytes: A whole number of elements, with no alignment.
    ///   - start: First element, from 0 to length.
    /// - Throws: As `read(_:from:count:)`; `.invalidArgument` for a part of an element.
    public func read(
        into bytes: UnsafeMutableRawBufferPointer, from start: Int = 0
    ) throws(SmallocError) {
        try checkedView().read(start, into: bytes)
    }

    /// Reads as many elements as a span has into it.
    ///
    /// - Throws: As `read(_:from:count:)`.
    public func read<Element: Smalloc.Element>(
        into span: inout MutableSpan<Element>, from start: Int = 0
    ) throws(SmallocError) {
        try span.withUnsafeMutableBufferPointer { memory throws(SmallocError) in
            try read(into: memory, from: start)
        }
    }

    /// Reads elements into a raw span, whatever their type.
    ///
    /// See the one for raw buffers.
    ///
    /// - Throws: As `read(_:from:count:)`; `.invalidArgument` for a part of an element.
    public func read(
        into span: inout MutableRawSpan, from start: Int = 0
    ) throws(SmallocError) {
        try span.withUnsafeMutableBytes { memory throws(SmallocError) in
            try read(into: memory, from: start)
        }
    }

    /// Reads elements as numbers, of any type whose elements a `Double` can hold.
    ///
    /// Exact. Not `Int64`, `Uint64` and the complex types.
    ///
    /// - Parameters:
    ///   - start: First element, from 0 to length.
    ///   - count: Elements; nil for all from `start` on.
    /// - Throws: As `read(_:from:count:)`, but for another element type.
    public func numbers(from start: Int = 0, count: Int? = nil) throws(SmallocError) -> [Double] {
        let view = try checkedView()
        let type = view.type
        try type.checkDouble()
        if type == .double { return try read(Double.self, from: start, count: count) }
        let (_, size) = try view.checked(start, count ?? view.window.countFrom(start))
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 8)
        defer { bytes.deallocate() }
        try view.read(start, into: bytes)
        guard let base = bytes.baseAddress else { return [] }
        return (0..<size >> type.shift).map { type.load(from: base + $0 << type.shift) }
    }

    /// Reads elements of any type as bytes, in the machine's byte order.
    ///
    /// - Throws: As `read(_:from:count:)`, but for another element type.
    public func readBytes(
        from start: Int = 0, count: Int? = nil
    ) throws(SmallocError) -> [UInt8] {
        let view = try checkedView()
        let (_, size) = try view.checked(start, count ?? view.window.countFrom(start))
        var failure: SmallocError?
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { memory, initialized in
            let target = UnsafeMutableRawBufferPointer(start: memory.baseAddress, count: size)
            adviseHuge(target)
            do throws(SmallocError) {
                try view.read(start, into: target)
                initialized = size
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    // MARK: Writing

    /// Writes an array's elements, straight from its storage.
    ///
    /// One of at most 64 KiB is atomic towards other requests; larger ones are applied front to
    /// back. All checks come before the first byte moves.
    ///
    /// - Parameters:
    ///   - array: Elements of the allocation's element type.
    ///   - start: First element written, from 0 to length.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.invalidArgument` for another
    ///   element type; `.outOfRange`; transport errors.
    /// - Complexity: O(count); one round trip for each `Smalloc.Options.chunkSize`, overlapping.
    ///
    /// Wire: `write`.
    public func write<Element: Smalloc.Element>(
        _ array: [Element], at start: Int = 0
    ) throws(SmallocError) {
        try write(array.span, at: start)
    }

    /// Writes a span's elements.
    ///
    /// See the one for arrays.
    ///
    /// - Throws: As for arrays.
    public func write<Element: Smalloc.Element>(
        _ span: Span<Element>, at start: Int = 0
    ) throws(SmallocError) {
        let view = try checkedView()
        try view.type.check(Element.self)
        try span.withUnsafeBytes { bytes throws(SmallocError) in
            try view.write(start, from: bytes)
        }
    }

    /// Writes a typed buffer's elements.
    ///
    /// See the one for arrays.
    ///
    /// - Throws: As for arrays.
    public func write<Element: Smalloc.Element>(
        _ buffer: UnsafeBufferPointer<Element>, at start: Int = 0
    ) throws(SmallocError) {
        let view = try checkedView()
        try view.type.check(Element.self)
        try view.write(start, from: UnsafeRawBufferPointer(buffer))
    }

    /// Writes raw memory as elements of whatever type, in the machine's byte order.
    ///
    /// - Parameters:
    ///   - bytes: A whole number of elements, with no alignment.
    ///   - start: First element written, from 0 to length.
    /// - Throws: As for arrays; `.invalidArgument` for a part of an element.
    public func write(_ bytes: UnsafeRawBufferPointer, at start: Int = 0) throws(SmallocError) {
        try checkedView().write(start, from: bytes)
    }

    /// Writes a raw span as elements of whatever type.
    ///
    /// See the one for raw buffers.
    ///
    /// - Throws: As for arrays; `.invalidArgument` for a part of an element.
    public func write(_ bytes: RawSpan, at start: Int = 0) throws(SmallocError) {
        let view = try checkedView()
        try bytes.withUnsafeBytes { bytes throws(SmallocError) in
            try view.write(start, from: bytes)
        }
    }

    /// Writes a collection's elements: an `ArraySlice`, a `ContiguousArray`, a `Data`.
    ///
    /// See the one for arrays. What is contiguous is written from where it is, of others a copy is.
    ///
    /// - Throws: As for arrays.
    public func write<Elements: Collection>(
        _ elements: Elements, at start: Int = 0
    ) throws(SmallocError) where Elements.Element: Smalloc.Element {
        var failure: SmallocError?
        let wrote: Void? = elements.withContiguousStorageIfAvailable { buffer in
            do throws(SmallocError) { try write(buffer, at: start) } catch { failure = error }
        }
        if let failure { throw failure }
        if wrote == nil { try write(Array(elements), at: start) }
    }

    /// Writes bytes as elements of whatever type, in the machine's byte order.
    ///
    /// - Throws: As for arrays; `.invalidArgument` for a part of an element.
    public func write(
        bytes: some Collection<UInt8>, at start: Int = 0
    ) throws(SmallocError) {
        var failure: SmallocError?
        let wrote: Void? = bytes.withContiguousStorageIfAvailable { buffer in
            do throws(SmallocError) {
                try write(UnsafeRawBufferPointer(buffer), at: start)
            } catch { failure = error }
        }
        if let failure { throw failure }
        if wrote == nil { try write(bytes: Array(bytes), at: start) }
    }

    /// Stores numbers into elements of any type, converted as `set(_:at:)` converts one.
    ///
    /// - Parameters:
    ///   - numbers: Any numbers.
    ///   - start: First element stored to, from 0 to length.
    /// - Throws: As `write(_:at:)`, but for another element type.
    public func store(_ numbers: [Double], at start: Int = 0) throws(SmallocError) {
        let view = try checkedView()
        let type = view.type
        try type.checkDouble()
        if type == .double { return try write(numbers, at: start) }
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: numbers.count << type.shift, alignment: 8)
        defer { bytes.deallocate() }
        if let base = bytes.baseAddress {
            for (index, number) in numbers.enumerated() {
                type.store(number, at: base + index << type.shift)
            }
        }
        try view.write(start, from: UnsafeRawBufferPointer(bytes))
    }
}
