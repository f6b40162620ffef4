// Explicit pipelining on the synchronous face: many small requests in one go.

public import SmallocWire

extension Smalloc {
    /// Requests that are gathered to be sent together.
    ///
    /// Made by `Smalloc.batch`.
    ///
    /// They take effect in their order; one that fails doesn't stop the others. Meant for small
    /// ones: data is copied into the batch, and all replies are kept until the batch is done. Bulk
    /// data is better served by `Allocation.read` and `write`.
    public struct Batch: ~Copyable {
        fileprivate var builder: BatchBuilder<BlockingOwner>

        fileprivate init(_ connection: Connection) { builder = BatchBuilder(connection.owner) }

        /// Requests gathered so far.
        public var count: Int { builder.count }

        /// Reads one element.
        ///
        /// Ask for it with `Smalloc.Batch.Replies.number`.
        @discardableResult
        public mutating func get(_ index: Int, of allocation: Allocation) -> Ticket {
            builder.read(index, 1) { () throws(SmallocError) in try allocation.checkedView() }
        }

        /// Stores a number into one element.
        ///
        /// See `Allocation.set(_:at:)`.
        @discardableResult
        public mutating func set(_ value: Double, at index: Int, of allocation: Allocation)
            -> Ticket
        {
            builder.set(value, index) { () throws(SmallocError) in try allocation.checkedView() }
        }

        /// Reads elements.
        ///
        /// Ask for them with `Smalloc.Batch.Replies.array`, `read` or `numbers`. More than the
        /// daemon's `Limits.frameSizeMax` at a time fails with `.frameTooLarge`.
        @discardableResult
        public mutating func read(
            _ count: Int, from start: Int = 0, of allocation: Allocation
        ) -> Ticket {
            builder.read(start, count) { () throws(SmallocError) in try allocation.checkedView() }
        }

        /// Writes elements.
        ///
        /// See `Allocation.write(_:at:)`. More than the daemon's `Limits.frameSizeMax` at a time
        /// fails with `.frameTooLarge`.
        @inlinable @discardableResult
        public mutating func write<Element: Smalloc.Element>(
            _ array: [Element], at start: Int = 0, of allocation: Allocation
        ) -> Ticket {
            array.withUnsafeBytes { write(BatchElements($0, Element.self), start, allocation) }
        }

        @usableFromInline
        mutating func write(
            _ elements: BatchElements, _ start: Int, _ allocation: Allocation
        ) -> Ticket {
            builder.write(elements, start) { () throws(SmallocError) in try allocation.checkedView()
            }
        }

        /// Stores one number into many elements.
        ///
        /// See `Allocation.fill(_:from:count:)`.
        @discardableResult
        public mutating func fill(
            _ value: Double, from start: Int = 0, count: Int? = nil, of allocation: Allocation
        ) -> Ticket {
            builder.fill(value, start, count) { () throws(SmallocError) in
                try allocation.checkedView()
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
            let views = (source.currentView, dest.currentView)
            if views.0 != nil, views.1 != nil {
                do throws(SmallocError) { try source.throwIfFailed() } catch {
                    return builder.fail(error)
                }
            }
            return builder.copy(views.0, sourceStart, views.1, destStart, copyLength)
        }
    }
}

extension Smalloc {
    /// Gathers requests, sends them together, and waits for all the answers: one system call each
    /// way for hundreds of them.
    ///
    /// ```swift
    /// var sum: Smalloc.Batch.Ticket?
    /// let replies = try smalloc.batch { batch in
    ///     batch.set(1, at: 0, of: a)
    ///     batch.set(2, at: 1, of: a)
    ///     sum = batch.get(0, of: totals)
    /// }
    /// try replies.check()
    /// ```
    ///
    /// Requests that fail are told by the replies, not thrown: see `Smalloc.Batch.Replies.check()`.
    /// So are those about allocations of other connection objects (`.invalidArgument`) and, once
    /// this one has connected anew, about those of the earlier connection (`.connectionLost`).
    ///
    /// - Parameter gather: Says what to ask. Nothing is sent before it returns.
    /// - Returns: The replies, each with its own success or failure.
    /// - Throws: Transport errors, and what the daemon ends the connection with: then any part of
    ///   the batch may have taken effect. `Smalloc.Options.requestTimeout` is for each answer.
    public func batch(_ gather: (inout Smalloc.Batch) -> Void) throws(SmallocError)
        -> Smalloc.Batch.Replies
    {
        var batch = Smalloc.Batch(connection)
        gather(&batch)
        let record = batch.builder.finish()
        let remotes = batch.builder.remotes
        guard let first = remotes.first else { return Smalloc.Batch.Replies(record) }
        let extraTime = batch.builder.extraTime
        try connection.call(on: first, evenIfGone: true) { channel throws(SmallocError) in
            record.withdrawGone(remotes)
            if record.unanswered > 0 { try channel.exchange(record, extraTime: extraTime) }
        }
        withExtendedLifetime(remotes) {}
        return Smalloc.Batch.Replies(record)
    }
}
