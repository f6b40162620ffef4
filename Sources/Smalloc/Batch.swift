// Explicit pipelining on the synchronous face: many small requests in one go.

internal import Glibc
public import SmallocWire

/// Requests that are gathered to be sent together.
///
/// Made by `Smalloc.batch`.
///
/// They take effect in their order; one that fails doesn't stop the others. Meant for small ones:
/// data is copied into the batch, and all replies are kept until the batch is done. Bulk data is
/// better served by `Allocation.read` and `write`.
public struct Batch: ~Copyable {
    /// Stands for one request of a batch, to ask its reply for.
    public struct Ticket: Hashable, Sendable {
        let index: Int
    }

    private let connection: Connection
    fileprivate var session: Remote?
    fileprivate var output = ByteBuffer(capacity: 4096)
    fileprivate var entries: [BatchReplies.Entry] = []
    fileprivate var frames = 0
    fileprivate var extraTime: UInt64 = 0

    fileprivate init(_ connection: Connection) { self.connection = connection }

    /// Cookies of batches, which no other call of the connection uses.
    fileprivate static var firstCookie: UInt64 { 1 << 63 }

    /// Requests gathered so far.
    public var count: Int { entries.count }

    private mutating func add(
        _ allocation: Allocation, _ body: UnsafeRawBufferPointer,
        _ make: (View) throws(SmallocError) -> Request
    ) -> Ticket {
        defer { withExtendedLifetime(allocation) {} }
        var entry = BatchReplies.Entry()
        do throws(SmallocError) {
            let view = try allocation.checkedView()
            guard view.remote.connection === connection else {
                throw .invalidArgument("the allocation is on another connection")
            }
            if let session, session.session != view.remote.session {
                throw .connectionLost("the connection that this allocation belonged to is lost")
            }
            let request = try make(view)
            session = view.remote
            entry.remote = view.remote
            entry.type = view.type
            append(request, body)
            entry.isSent = true
            entry.operation = request.header.operation
        } catch {
            entry.failure = error
        }
        entries.append(entry)
        return Ticket(index: entries.count - 1)
    }

    private mutating func append(_ request: Request, _ data: UnsafeRawBufferPointer) {
        var header = request.header
        header.cookie = Batch.firstCookie + UInt64(frames)
        header.payloadSize = UInt32(request.body.count + data.count)
        output.append(header)
        if !request.body.isEmpty { request.body.withUnsafeBytes { output.append($0) } }
        output.append(data)
        frames += 1
        extraTime += request.extraTime
    }

    private static var nothing: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// Reads one element.
    ///
    /// Ask for it with `BatchReplies.number`.
    @discardableResult
    public mutating func get(_ index: Int, of allocation: Allocation) -> Ticket {
        add(allocation, Batch.nothing) { view throws(SmallocError) in
            let (offset, size) = try view.resolve(index, 1)
            return .read(view.remote.handle, offset: offset, size: size)
        }
    }

    /// Stores a number into one element.
    ///
    /// See `Allocation.set(_:at:)`.
    @discardableResult
    public mutating func set(_ value: Double, at index: Int, of allocation: Allocation) -> Ticket {
        var element: UInt64 = 0
        let type = allocation.type
        type.store(value, at: &element)
        return withUnsafeBytes(of: element) { bytes in
            add(allocation, UnsafeRawBufferPointer(rebasing: bytes[..<type.size])) {
                view throws(SmallocError) in
                let (offset, size) = try view.resolve(index, 1)
                return .write(view.remote.handle, offset: offset, size: size)
            }
        }
    }

    /// Reads elements.
    ///
    /// Ask for them with `BatchReplies.array` or `numbers`.
    @discardableResult
    public mutating func read(
        _ count: Int, from start: Int = 0, of allocation: Allocation
    ) -> Ticket {
        add(allocation, Batch.nothing) { view throws(SmallocError) in
            let (offset, size) = try view.resolve(start, count)
            return .read(view.remote.handle, offset: offset, size: size)
        }
    }

    /// Writes elements.
    ///
    /// See `Allocation.write(_:at:)`.
    @discardableResult
    public mutating func write<Element: AllocationElement>(
        _ array: [Element], at start: Int = 0, of allocation: Allocation
    ) -> Ticket {
        array.withUnsafeBytes { bytes in
            add(allocation, bytes) { view throws(SmallocError) in
                try view.type.check(Element.self)
                let (offset, size) = try view.resolve(start, array.count)
                guard size <= UInt64(UInt32.max) else { throw .frameTooLarge }
                return .write(view.remote.handle, offset: offset, size: size)
            }
        }
    }

    /// Stores one number into many elements.
    ///
    /// See `Allocation.fill(_:from:count:)`.
    @discardableResult
    public mutating func fill(
        _ value: Double, from start: Int = 0, count: Int? = nil, of allocation: Allocation
    ) -> Ticket {
        add(allocation, Batch.nothing) { view throws(SmallocError) in
            let window = view.window
            let (offset, size) = try view.resolve(start, count ?? window.countFrom(start))
            return .fill(
                view.remote.handle, offset: offset, size: size, pattern: window.pattern(value))
        }
    }

    /// Copies elements inside the daemon.
    ///
    /// See `Smalloc.copyOnto`.
    @discardableResult
    public mutating func copyOnto(
        _ source: Allocation, _ sourceStart: Int, _ dest: Allocation, _ destStart: Int,
        _ copyLength: Int
    ) -> Ticket {
        guard let onto = dest.currentView, source.currentView != nil else {
            entries.append(
                BatchReplies.Entry(
                    failure: source.currentView == nil ? .noSourceData : .noDestData))
            return Ticket(index: entries.count - 1)
        }
        return add(source, Batch.nothing) { view throws(SmallocError) in
            guard view.remote.connection === onto.remote.connection,
                view.remote.session == onto.remote.session
            else { throw .invalidArgument("source and dest are on different connections") }
            let part = try view.window.copy(sourceStart, copyLength, onto: onto.window, destStart)
            return .copy(
                .handle(view.remote.handle), offset: part.offset,
                to: .handle(onto.remote.handle), offset: part.destOffset, size: part.size)
        }
    }
}

extension Smalloc {
    /// Gathers requests, sends them together, and waits for all the answers: one system call each
    /// way for hundreds of them.
    ///
    /// ```swift
    /// var sum: Batch.Ticket?
    /// let replies = try smalloc.batch { batch in
    ///     batch.set(1, at: 0, of: a)
    ///     batch.set(2, at: 1, of: a)
    ///     sum = batch.get(0, of: totals)
    /// }
    /// try replies.check()
    /// ```
    ///
    /// - Parameter gather: Says what to ask. Nothing is sent before it returns.
    /// - Returns: The replies, each with its own success or failure.
    /// - Throws: Transport errors only: then any part of the batch may have taken effect.
    public func batch(_ gather: (inout Batch) -> Void) throws(SmallocError) -> BatchReplies {
        var batch = Batch(connection)
        gather(&batch)
        var replies = BatchReplies(entries: batch.entries)
        guard batch.frames > 0 else { return replies }
        let memory = Memory(batch.output.bytes)
        let (frames, extraTime) = (batch.frames, batch.extraTime)
        let entries = batch.entries
        replies = try connection.call(on: batch.session) { channel, context throws(SmallocError) in
            try channel.exchange(memory.source, frames, extraTime, entries, context.limits)
        }
        withExtendedLifetime(batch) {}
        return replies
    }
}

extension Channel {
    /// Sends frames and receives their replies, both as far as they go, so that neither side waits
    /// for the other to read.
    fileprivate mutating func exchange(
        _ bytes: UnsafeRawBufferPointer, _ frames: Int, _ extraTime: UInt64,
        _ entries: [BatchReplies.Entry], _ limits: Limits
    ) throws(SmallocError) -> BatchReplies {
        var replies = BatchReplies(entries: entries)
        let most = Int(clamping: max(1, limits.requestsInFlightMax))
        var sent = 0
        var asked = 0
        var allowed = 0  // End of the last frame that may be under way.
        var received = 0
        var entry = 0
        markUnsent()
        while received < frames {
            while asked < frames, asked - received < most {
                let header = FrameHeader(from: bytes.baseAddress! + allowed)
                allowed += FrameHeader.byteCount + Int(header.payloadSize)
                asked += 1
            }
            var receives = true
            if sent < allowed {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[sent..<allowed])
                sent += try sendSome(rest)
                if sent < allowed { receives = try waitForEither(extraTime) }
            }
            guard receives else { continue }
            while !replies.entries[entry].isSent { entry += 1 }
            let reply = try receive(
                Batch.firstCookie + UInt64(received), operation: entries[entry].operation,
                extra: extraTime)
            try take(reply, &replies, entry)
            entry += 1
            received += 1
        }
        return replies
    }

    private mutating func take(
        _ reply: FrameHeader, _ replies: inout BatchReplies, _ entry: Int
    ) throws(SmallocError) {
        if reply.status != 0 {
            let error = SmallocError(reply: reply, message: try message(reply))
            if error.status.closes { throw error }
            replies.entries[entry].failure = error
            return
        }
        let size = Int(reply.payloadSize)
        guard size > 0 else { return }
        replies.entries[entry].offset = replies.payload.count
        replies.entries[entry].size = size
        replies.payload += try takeArray(size)
    }
}
