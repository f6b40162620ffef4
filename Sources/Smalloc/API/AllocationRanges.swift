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
    public func read<Element: AllocationElement>(
        _ element: Element.Type = Element.self, ranges: [Range<Int>]
    ) throws(SmallocError) -> [Element] {
        let view = try checkedView()
        try view.type.check(element)
        var total = 0
        for range in ranges {
            total += try view.bounded(range.lowerBound, range.count).size >> view.type.shift
        }
        var failure: SmallocError?
        let array = [Element](unsafeUninitializedCapacity: total) { memory, initialized in
            let target = UnsafeMutableRawBufferPointer(memory)
            do throws(SmallocError) {
                try view.read(ranges, into: target)
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
    public func write<Element: AllocationElement>(
        _ array: [Element], to ranges: [Range<Int>]
    ) throws(SmallocError) {
        let view = try checkedView()
        try view.type.check(Element.self)
        var total = 0
        for range in ranges {
            total += try view.bounded(range.lowerBound, range.count).size >> view.type.shift
        }
        guard total == array.count else {
            throw .invalidArgument("\(array.count) elements for ranges of \(total)")
        }
        try array.span.withUnsafeBytes { bytes throws(SmallocError) in
            try view.write(ranges, from: bytes)
        }
    }
}

extension View {
    func read(
        _ ranges: [Range<Int>], into target: UnsafeMutableRawBufferPointer
    ) throws(SmallocError) {
        let memory = Memory(target)
        let connection = remote.connection
        var done = 0
        for group in try window.groups(ranges, frameSizeMax: connection.limits.frameSizeMax) {
            let size = group.reduce(0) { $0 + Int($1.size) }
            let request = Request.vectored(.read, remote.handle, group)
            let part = memory.slice(done, size)
            try connection.call(on: remote) { channel, _ throws(SmallocError) in
                let reply = try channel.exchange(request)
                guard Int(reply.payloadSize) == size else {
                    throw .unexpectedReply("the answer to read has \(reply.payloadSize) bytes")
                }
                try channel.take(size, into: part.target.baseAddress!)
            }
            done += size
        }
    }

    func write(
        _ ranges: [Range<Int>], from source: UnsafeRawBufferPointer
    ) throws(SmallocError) {
        let memory = Memory(source)
        let connection = remote.connection
        var done = 0
        for group in try window.groups(ranges, frameSizeMax: connection.limits.frameSizeMax) {
            let size = group.reduce(0) { $0 + Int($1.size) }
            let request = Request.vectored(.write, remote.handle, group)
            let part = memory.slice(done, size)
            try connection.call(on: remote) { channel, _ throws(SmallocError) in
                _ = try channel.exchange(request, data: part.source)
            }
            done += size
        }
    }
}
