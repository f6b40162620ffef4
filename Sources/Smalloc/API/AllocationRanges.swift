// Many ranges of one allocation in one request.

public import SmallocWire

extension Allocation {
    /// Reads many ranges, one after another, into a new array.
    ///
    /// Up to 1024 ranges, and up to the daemon's frame size limit, go in one request, so that each
    /// request's ranges are checked before any is read; more take several.
    ///
    /// - Parameters:
    ///   - element: The Swift type of the elements; must have the allocation's element type.
    ///   - ranges: Elements. May overlap and come in any order.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.invalidArgument` for another
    ///   element type; `.outOfRange`; transport errors.
    ///
    /// Wire: `read`, flag `vectored`.
    public func read<Element: Smalloc.Element>(
        _ element: Element.Type = Element.self, ranges: [Range<Int>]
    ) throws(SmallocError) -> [Element] {
        let view = try checkedView()
        try view.type.check(element)
        let total = try view.size(of: ranges) >> view.type.shift
        var failure: SmallocError?
        let array = [Element](unsafeUninitializedCapacity: total) { memory, initialized in
            let target = UnsafeMutableRawBufferPointer(memory)
            do throws(SmallocError) {
                try view.move(.read, ranges, CallerMemory(target))
                settle(target, as: element)
                initialized = total
            } catch { failure = error }
        }
        if let failure { throw failure }
        return array
    }

    /// Writes an array's elements to many ranges, one after another.
    ///
    /// Up to 1024 ranges, and up to the daemon's frame size limit, go in one request, so that each
    /// request's ranges are checked before the first byte moves; more take several.
    ///
    /// - Parameters:
    ///   - array: As many elements as the ranges have together.
    ///   - ranges: Elements. Where they overlap the later one wins.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.invalidArgument` for another
    ///   element type or number of elements; `.outOfRange`; transport errors.
    ///
    /// Wire: `write`, flag `vectored`.
    public func write<Element: Smalloc.Element>(
        _ array: [Element], to ranges: [Range<Int>]
    ) throws(SmallocError) {
        let view = try checkedView()
        try view.type.check(Element.self)
        let total = try view.size(of: ranges) >> view.type.shift
        guard total == array.count else {
            throw .invalidArgument("\(array.count) elements for ranges of \(total)")
        }
        try array.span.withUnsafeBytes { bytes throws(SmallocError) in
            try view.move(.write, ranges, CallerMemory(bytes))
        }
    }
}
