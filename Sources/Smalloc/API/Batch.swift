// Explicit pipelining on the synchronous face: many small requests in one go.

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
    public typealias Ticket = BatchTicket

    private let connection: Connection
    /// The session that it will be sent in.
    private let session: UInt64
    fileprivate var gathering = BatchGathering<Remote>()

    fileprivate init(_ connection: Connection) {
        self.connection = connection
        session = connection.session
    }

    /// Requests gathered so far.
    public var count: Int { gathering.count }

    private func check(_ view: View) throws(SmallocError) {
        guard view.remote.connection === connection else {
            throw .invalidArgument("the allocation is on another connection")
        }
        guard view.remote.session == session else {
            throw .connectionLost("the connection that this allocation belonged to is lost")
        }
    }

    /// Adds what `body` makes of an allocation, or the reason why it can't be made.
    @inline(__always)
    private mutating func add(
        _ allocation: Allocation,
        _ body: (inout BatchGathering<Remote>, Remote, Window) throws(SmallocError) -> Ticket
    ) -> Ticket {
        do throws(SmallocError) {
            let view = try allocation.checkedView()
            try check(view)
            return try body(&gathering, view.remote, view.window)
        } catch {
            return gathering.fail(error)
        }
    }

    /// Reads one element.
    ///
    /// Ask for it with `BatchReplies.number`.
    @discardableResult
    public mutating func get(_ index: Int, of allocation: Allocation) -> Ticket {
        add(allocation) { gathering, remote, window throws(SmallocError) in
            try gathering.read(remote, window, index, 1)
        }
    }

    /// Stores a number into one element.
    ///
    /// See `Allocation.set(_:at:)`.
    @discardableResult
    public mutating func set(_ value: Double, at index: Int, of allocation: Allocation) -> Ticket {
        add(allocation) { gathering, remote, window throws(SmallocError) in
            try gathering.set(remote, window, value, index)
        }
    }

    /// Reads elements.
    ///
    /// Ask for them with `BatchReplies.array`, `read` or `numbers`. More than the daemon's
    /// `Limits.frameSizeMax` at a time fails with `.frameTooLarge`.
    @discardableResult
    public mutating func read(
        _ count: Int, from start: Int = 0, of allocation: Allocation
    ) -> Ticket {
        add(allocation) { gathering, remote, window throws(SmallocError) in
            try gathering.read(remote, window, start, count)
        }
    }

    /// Writes elements.
    ///
    /// See `Allocation.write(_:at:)`. More than the daemon's `Limits.frameSizeMax` at a time
    /// fails with `.frameTooLarge`.
    @inlinable @discardableResult
    public mutating func write<Element: AllocationElement>(
        _ array: [Element], at start: Int = 0, of allocation: Allocation
    ) -> Ticket {
        array.withUnsafeBytes {
            write(
                BatchElements(
                    $0, array.count, Element.self, Element.elementType,
                    stride: MemoryLayout<Element>.stride),
                start, allocation)
        }
    }

    @usableFromInline
    mutating func write(
        _ elements: BatchElements, _ start: Int, _ allocation: Allocation
    ) -> Ticket {
        add(allocation) { gathering, remote, window throws(SmallocError) in
            try gathering.write(remote, window, elements, start)
        }
    }

    /// Stores one number into many elements.
    ///
    /// See `Allocation.fill(_:from:count:)`.
    @discardableResult
    public mutating func fill(
        _ value: Double, from start: Int = 0, count: Int? = nil, of allocation: Allocation
    ) -> Ticket {
        add(allocation) { gathering, remote, window throws(SmallocError) in
            try gathering.fill(remote, window, value, start, count)
        }
    }

    /// Copies elements inside the daemon.
    ///
    /// See `SMAllocation.copyOnto`.
    @discardableResult
    public mutating func copyOnto(
        _ source: Allocation, _ sourceStart: Int, _ dest: Allocation, _ destStart: Int,
        _ copyLength: Int
    ) -> Ticket {
        guard let view = dest.currentView, source.currentView != nil else {
            return gathering.fail(source.currentView == nil ? .noSourceData : .noDestData)
        }
        do throws(SmallocError) { try check(view) } catch { return gathering.fail(error) }
        return add(source) { gathering, remote, window throws(SmallocError) in
            try gathering.copy(
                remote, window, sourceStart, onto: view.remote, view.window, destStart,
                copyLength)
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
    /// Requests that fail are told by the replies, not thrown: see `BatchReplies.check()`. So are
    /// those about allocations of other connection objects (`.invalidArgument`) and, once this one
    /// has connected anew, about those of the earlier connection (`.connectionLost`).
    ///
    /// - Parameter gather: Says what to ask. Nothing is sent before it returns.
    /// - Returns: The replies, each with its own success or failure.
    /// - Throws: Transport errors, and what the daemon ends the connection with: then any part of
    ///   the batch may have taken effect. `ConnectionOptions.requestTimeout` is for each answer.
    public func batch(_ gather: (inout Batch) -> Void) throws(SmallocError) -> BatchReplies {
        var batch = Batch(connection)
        gather(&batch)
        let record = batch.gathering.finish()
        let remotes = batch.gathering.remotes
        guard let first = remotes.first else { return BatchReplies(record) }
        let extraTime = batch.gathering.extraTime
        try connection.call(on: first, evenIfGone: true) { channel, context throws(SmallocError) in
            record.withdrawGone(remotes)
            try channel.exchange(record, extraTime, context.limits)
        }
        withExtendedLifetime(remotes) {}
        return BatchReplies(record)
    }
}

extension Channel {
    /// Sends frames and receives their replies, both as far as they go, so that neither side waits
    /// for the other to read.
    fileprivate mutating func exchange(
        _ record: BatchRecord, _ extraTime: UInt64, _ limits: Limits
    ) throws(SmallocError) {
        let most = Int(clamping: max(1, limits.requestsInFlightMax))
        let all = record.unanswered
        var sent = 0
        var asked = 0
        var allowed = 0  // End of the last frame that may be under way.
        var place = 0
        var isFull = false
        markUnsent()
        while record.unanswered > 0 {
            // Many at a time, or the last of them.
            let room = most - (asked - (all - record.unanswered))
            if asked < all, room >= min(max(1, most / 2), all - asked) {
                let more = min(room, all - asked)
                allowed = record.dispatch(more, from: allowed)
                asked += more
            }
            var receives = true
            if sent < allowed, !isFull || !holdsHeader {
                let rest = UnsafeRawBufferPointer(rebasing: record.frames.bytes[sent..<allowed])
                sent += try sendSome(rest)
                isFull = sent < allowed
                if isFull { receives = try waitForEither(extraTime) }
            }
            guard receives else { continue }
            while record.at(place).pointee.state != .asked { place += 1 }
            let cookie = BatchRecord.cookieMark | UInt64(place)
            let reply = try receive(
                cookie, operation: record.at(place).pointee.operation, extra: extraTime)
            try take(reply, record, place)
        }
    }

    private mutating func take(
        _ reply: FrameHeader, _ record: BatchRecord, _ place: Int
    ) throws(SmallocError) {
        let size = Int(reply.payloadSize)
        if reply.status != 0 {
            let error = SmallocError(reply: reply, message: try message(reply))
            if error.status.closes { throw error }
            record.answered(place, error)
        } else if size != record.at(place).pointee.size {
            throw .unexpectedReply("the answer to a request of a batch has \(size) bytes")
        } else {
            try take(size, into: record.room(place))
            record.answered(place)
        }
    }
}
