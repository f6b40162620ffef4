// How an allocation's bytes are moved by the blocking face: few by copying, many where they are.

internal import SmallocWire

typealias BlockingView = View<BlockingOwner>

extension View where Owner == BlockingOwner {
    var connection: Connection { remote.owner.connection }

    /// Asks about it.
    ///
    /// - Parameters:
    ///   - start: The element that it begins with, if it is about a range.
    ///   - count: Elements that it is about.
    @discardableResult
    func perform(
        _ request: borrowing Request, _ start: Int? = nil, _ count: Int? = nil
    ) throws(SmallocError) -> Reply {
        do throws(SmallocError) { return try connection.perform(request, on: remote) } catch {
            throw explained(error, start: start, count: count)
        }
    }

    func copy(
        _ start: Int, _ count: Int, onto dest: BlockingView, _ destStart: Int
    ) throws(SmallocError) {
        let request = try copyRequest(start, count, onto: dest, destStart)
        do throws(SmallocError) { try connection.perform(request, on: remote) } catch {
            throw explained(error, copying: count, from: start, onto: dest, destStart)
        }
    }

    func get(_ index: Int) throws(SmallocError) -> Double {
        try type.checkDouble()
        return try explaining(index) { () throws(SmallocError) in
            let (offset, size) = try window.resolve(index, 1)
            let header = FrameHeader.access(.read, remote.handle, offset: offset, size: size)
            let answer = try connection.call(on: remote) { channel throws(SmallocError) in
                let none = UnsafeRawBufferPointer(start: nil, count: 0)
                return try channel.answer(
                    to: channel.session.start(header, none, size: Int(size)))
            }
            var element = answer.number
            return type.load(from: &element)
        }
    }

    func set(_ value: Double, at index: Int) throws(SmallocError) {
        try type.checkDouble()
        var element: UInt64 = 0
        type.store(value, at: &element)
        try explaining(index) { () throws(SmallocError) in
            let (offset, size) = try window.resolve(index, 1)
            let header = FrameHeader.access(.write, remote.handle, offset: offset, size: size)
            _ = try connection.call(on: remote) { channel throws(SmallocError) in
                let cookie = withUnsafeBytes(of: element) { bytes in
                    channel.session.start(
                        header, UnsafeRawBufferPointer(rebasing: bytes[..<Int(size)]), size: 0)
                }
                return try channel.answer(to: cookie)
            }
        }
    }

    /// Bytes of a range, which is put to the daemon if it can't be right.
    func checked(_ start: Int, _ count: Int) throws(SmallocError) -> (offset: UInt64, size: Int) {
        try explaining(start, count) { () throws(SmallocError) in
            let (offset, size, isKnown) = try resolve(start, count)
            if isKnown { return (offset, Int(size)) }
            try connection.perform(.read(remote.handle, offset: offset, size: size), on: remote)
            throw .outOfRange("start + count > length")
        }
    }

    /// Reads whole elements into memory of `count` elements.
    ///
    /// The daemon checks each chunk.
    ///
    /// - Throws: After a failure the memory holds an unspecified part of the bytes; small transfers
    ///   (one chunk) leave it as it was unless the connection broke.
    func read(_ start: Int, into target: UnsafeMutableRawBufferPointer) throws(SmallocError) {
        let count = try type.count(bytes: target.count)
        let (offset, size) = try checked(start, count)
        if let memory = mapped(offset, size, writes: false), let place = target.baseAddress {
            place.copyMemory(from: memory.base + Int(offset), byteCount: size)
            // What was truncated meanwhile has been read as zeros.
            if memory.holds(offset, size, writes: false) { return }
        }
        try explaining(start, count) { () throws(SmallocError) in
            guard size <= Channel.copiedSizeMax else {
                return try move(.read, offset, CallerMemory(target), size)
            }
            let header = FrameHeader.access(
                .read, remote.handle, offset: offset, size: UInt64(size))
            let room = BorrowedPointer(target.baseAddress)
            try connection.call(on: remote) { channel throws(SmallocError) in
                let none = UnsafeRawBufferPointer(start: nil, count: 0)
                _ = try channel.answer(
                    to: channel.session.start(header, none, size: size, room: room.address))
            }
        }
    }

    /// Writes whole elements.
    ///
    /// Of a transfer that takes more than one chunk the end is checked before the first byte moves.
    func write(_ start: Int, from source: UnsafeRawBufferPointer) throws(SmallocError) {
        let count = try type.count(bytes: source.count)
        let (offset, size) = try checked(start, count)
        if let memory = mapped(offset, size, writes: true), let bytes = source.baseAddress {
            return (memory.base + Int(offset)).copyMemory(from: bytes, byteCount: size)
        }
        try explaining(start, count) { () throws(SmallocError) in
            guard size <= Channel.copiedSizeMax else {
                return try move(.write, offset, CallerMemory(source), size)
            }
            let header = FrameHeader.access(
                .write, remote.handle, offset: offset, size: UInt64(size))
            let source = BorrowedPointer(UnsafeMutableRawPointer(mutating: source.baseAddress))
            try connection.call(on: remote) { channel throws(SmallocError) in
                let bytes = UnsafeRawBufferPointer(start: source.address, count: size)
                _ = try channel.answer(to: channel.session.start(header, bytes, size: 0))
            }
        }
    }

    /// The mapping by which a large transfer goes; nil: it goes by the socket, which also tells
    /// what is wrong with it.
    private func mapped(_ offset: UInt64, _ size: Int, writes: Bool) -> MappedMemory? {
        guard connection.mapsLargeTransfers else { return nil }
        let memory: MappedMemory
        switch remote.way(ofTransfer: size, writes: writes) {
        case .bySocket: return nil
        case .byMapping(let known): memory = known
        case .byNewMapping:
            let made = try? connection.map(
                remote, writable: writes, populate: false, isInherited: false)
            remote.mapped(made, writes: writes)
            guard let made else { return nil }
            memory = made
        }
        // Its daemon may have ended, and it may have been disposed of, truncated or frozen.
        guard connection.isHeard(on: remote), memory.holds(offset, size, writes: writes) else {
            return nil
        }
        return memory
    }

    /// Moves many bytes; other threads have the connection now and then.
    private func move(
        _ operation: Operation, _ offset: UInt64, _ memory: CallerMemory, _ size: Int
    ) throws(SmallocError) {
        var done = 0
        repeat {
            let start = done
            done += try connection.call(on: remote) { channel throws(SmallocError) in
                let chunking = Chunking(connection.options, channel.session.limits)
                if operation == .write, start == 0, size > chunking.chunk {
                    let end = offset + UInt64(size)
                    _ = try channel.exchange(.read(remote.handle, offset: end, size: 0))
                }
                let part = min(size - start, chunking.sizePerCall)
                try channel.transfer(
                    operation, remote.handle, offset: offset, memory, from: start, size: part,
                    chunking)
                return part
            }
        } while done < size
    }

    /// Moves the bytes of many ranges, one after another in memory.
    func move(
        _ operation: Operation, _ ranges: [Range<Int>], _ memory: CallerMemory
    ) throws(SmallocError) {
        var done = 0
        for group in try window.groups(ranges, frameSizeMax: connection.limits.frameSizeMax) {
            let size = group.reduce(0) { $0 + Int($1.size) }
            let request = Request.vectored(operation, remote.handle, group)
            let place = done
            try connection.call(on: remote) { channel throws(SmallocError) in
                let cookie =
                    operation == .read
                    ? channel.start(request, size: size, sink: (memory, place))
                    : channel.start(
                        request, data: OutgoingData(source: memory, offset: place, size: size),
                        size: 0)
                _ = try channel.answer(to: cookie)
            }
            done += size
        }
    }

    /// Bytes of all of them together; each is checked as `checked` does it.
    func size(of ranges: [Range<Int>]) throws(SmallocError) -> Int {
        var total = 0
        for range in ranges { total += try checked(range.lowerBound, range.count).size }
        return total
    }
}

/// The caller's memory, borrowed for the duration of a call that blocks the caller.
struct BorrowedPointer: @unchecked Sendable {
    let address: UnsafeMutableRawPointer?
    init(_ address: UnsafeMutableRawPointer?) { self.address = address }
}
