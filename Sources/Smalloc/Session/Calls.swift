// The synchronous connection's calls, one function an operation, in bytes.

internal import SmallocWire

extension Connection {
    /// Sends a request and gives its reply's header; a payload is thrown away, an error thrown.
    @discardableResult
    func perform(
        _ request: borrowing Request, on remote: Remote?
    ) throws(SmallocError) -> FrameHeader {
        try call(on: remote) { channel, _ throws(SmallocError) in
            let reply = try channel.exchange(request)
            guard reply.payloadSize == 0 else {
                throw .unexpectedReply("an answer has a payload that it should not have")
            }
            return reply
        }
    }

    /// Sends a request and gives its reply's header and payload, and the session it ran in.
    func performForPayload(
        _ request: borrowing Request, on remote: Remote?
    ) throws(SmallocError) -> (header: FrameHeader, payload: [UInt8], session: UInt64) {
        try call(on: remote) { channel, context throws(SmallocError) in
            let reply = try channel.exchange(request)
            return (reply, try channel.takeArray(Int(reply.payloadSize)), context.session)
        }
    }

    /// Disposes of an allocation by its handle, which is closed with it.
    func dispose(_ remote: Remote) throws(SmallocError) {
        let request = Request.dispose(.handle(remote.handle), size: UInt64(remote.size))
        try call(on: remote) { channel, _ throws(SmallocError) in
            _ = try channel.exchange(request)
            // Before the number can stand for another allocation.
            remote.isGone = true
        }
    }

    /// Asks for a handle: alloc and open.
    func performForRemote(
        _ request: borrowing Request, name: AllocationName?
    ) throws(SmallocError) -> Remote {
        let (header, _, session) = try performForPayload(request, on: nil)
        guard let type = ElementType(rawValue: header.type), header.handle != 0,
            let size = Int(exactly: header.size)
        else { throw .unexpectedReply("the answer to \(name?.text ?? "alloc") is no allocation") }
        return Remote(
            self, session: session, handle: header.handle, type: type, size: size, name: name?.text)
    }
}

extension Channel {
    /// Exchanges greetings: the first thing on every connection.
    mutating func greet(_ software: String) throws(SmallocError) -> Limits {
        let reply = try exchange(.hello(software: software))
        guard reply.payloadSize <= 65_536 else {
            throw .unexpectedReply("the greeting has \(reply.payloadSize) bytes")
        }
        return Limits(helloPayload: try takeArray(Int(reply.payloadSize)))
    }

    /// Sends one request, with data behind it, and receives the header of its reply.
    ///
    /// - Throws: The reply's error, too.
    mutating func exchange(
        _ request: borrowing Request,
        data: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) throws(SmallocError) -> FrameHeader {
        begin(request.header)
        if !request.body.isEmpty { request.body.withUnsafeBytes { append($0) } }
        end(following: data.count)
        try send(payload: data)
        return try checked(
            try receive(cookie, operation: request.header.operation, extra: request.extraTime))
    }

    /// Throws an error reply as an error.
    mutating func checked(_ reply: FrameHeader) throws(SmallocError) -> FrameHeader {
        guard reply.status == 0 else {
            throw SmallocError(reply: reply, message: try message(reply))
        }
        return reply
    }
}

extension View {
    func get(_ index: Int) throws(SmallocError) -> Double {
        let (offset, size) = try resolve(index, 1)
        let type = self.type
        let request = Request.read(remote.handle, offset: offset, size: size)
        return try remote.connection.call(on: remote) {
            channel, _ throws(SmallocError) in
            let reply = try channel.exchange(request)
            guard UInt64(reply.payloadSize) == size else {
                throw .unexpectedReply("the answer to read has \(reply.payloadSize) bytes")
            }
            var element: UInt64 = 0
            try channel.take(Int(size), into: &element)
            return type.load(from: &element)
        }
    }

    func set(_ value: Double, at index: Int) throws(SmallocError) {
        let (offset, size) = try resolve(index, 1)
        var element: UInt64 = 0
        type.store(value, at: &element)
        let request = Request.write(remote.handle, offset: offset, size: size)
        try remote.connection.call(on: remote) { channel, _ throws(SmallocError) in
            try withUnsafeBytes(of: element) { bytes throws(SmallocError) in
                _ = try channel.exchange(
                    request, data: UnsafeRawBufferPointer(rebasing: bytes[..<Int(size)]))
            }
        }
    }
}
