// Explicit pipelining on the async face: many small requests for one suspension.

public import SmallocWire

extension AsyncSmalloc {
    /// Requests that are gathered to be sent together by a task.
    ///
    /// Made by `AsyncSmalloc.batch`. As `Smalloc.Batch` is: small requests, which take effect in
    /// their order, and of which one that fails doesn't stop the others.
    public struct Batch: ~Copyable {
        /// Stands for one request of a batch, to ask its reply for.
        public typealias Ticket = Smalloc.Batch.Ticket
        /// What came of a batch, request by request.
        public typealias Replies = Smalloc.Batch.Replies

        fileprivate var builder: BatchBuilder<AsyncOwner>

        fileprivate init(_ connection: AsyncConnection) {
            builder = BatchBuilder(
                AsyncOwner.Home(connection: connection, owner: connection.present))
        }

        /// Requests gathered so far.
        public var count: Int { builder.count }

        /// Reads one element.
        ///
        /// Ask for it with `Smalloc.Batch.Replies.number`.
        @discardableResult
        public mutating func get(_ index: Int, of allocation: AsyncAllocation) -> Ticket {
            builder.read(index, 1) { () throws(SmallocError) in
                try allocation.checkedView()
            }
        }

        /// Stores a number into one element.
        ///
        /// See `AsyncAllocation.set(_:at:)`.
        @discardableResult
        public mutating func set(_ value: Double, at index: Int, of allocation: AsyncAllocation)
            -> Ticket
        {
            builder.set(value, index) { () throws(SmallocError) in
                try allocation.checkedView()
            }
        }

        /// Reads elements.
        ///
        /// Ask for them with `Smalloc.Batch.Replies.array`, `read` or `numbers`. More than the
        /// daemon's `Limits.frameSizeMax` at a time fails with `.frameTooLarge`.
        @discardableResult
        public mutating func read(
            _ count: Int, from start: Int = 0, of allocation: AsyncAllocation
        ) -> Ticket {
            builder.read(start, count) { () throws(SmallocError) in
                try allocation.checkedView()
            }
        }

        /// Writes elements.
        ///
        /// See `AsyncAllocation.write(_:at:)`. More than the daemon's `Limits.frameSizeMax` at a
        /// time fails with `.frameTooLarge`.
        @inlinable @discardableResult
        public mutating func write<Element: Smalloc.Element>(
            _ array: [Element], at start: Int = 0, of allocation: AsyncAllocation
        ) -> Ticket {
            array.withUnsafeBytes { write(BatchElements($0, Element.self), start, allocation) }
        }

        @usableFromInline
        mutating func write(
            _ elements: BatchElements, _ start: Int, _ allocation: AsyncAllocation
        ) -> Ticket {
            builder.write(elements, start) { () throws(SmallocError) in
                try allocation.checkedView()
            }
        }

        /// Stores one number into many elements.
        ///
        /// See `AsyncAllocation.fill(_:from:count:)`.
        @discardableResult
        public mutating func fill(
            _ value: Double, from start: Int = 0, count: Int? = nil, of allocation: AsyncAllocation
        ) -> Ticket {
            builder.fill(value, start, count) { () throws(SmallocError) in
                try allocation.checkedView()
            }
        }

        /// Copies elements inside the daemon.
        ///
        /// See `AsyncSmalloc.copyOnto`.
        @discardableResult
        public mutating func copyOnto(
            _ source: AsyncAllocation, _ sourceStart: Int, _ dest: AsyncAllocation,
            _ destStart: Int,
            _ copyLength: Int
        ) -> Ticket {
            builder.copy(
                source.liveView, sourceStart, dest.liveView, destStart, copyLength)
        }
    }
}

extension AsyncSmalloc {
    /// Gathers requests, sends them together, and waits for all the answers.
    ///
    /// Requests that fail are told by the replies, not thrown: see `Smalloc.Batch.Replies.check()`.
    /// So are those about allocations of other connection objects (`.invalidArgument`) and, once
    /// this one has connected anew, about those of the earlier connection (`.connectionLost`). What
    /// is asked after a large batch is answered after it.
    ///
    /// Suspending a task and resuming it costs more than all else of a small request: a task that
    /// asks sixteen of them by a batch pays that once.
    ///
    /// ```swift
    /// var sum: AsyncSmalloc.Batch.Ticket?
    /// let replies = try await smalloc.batch { batch in
    ///     batch.set(1, at: 0, of: a)
    ///     sum = batch.get(0, of: totals)
    /// }
    /// try replies.check()
    /// ```
    ///
    /// - Parameter gather: Says what to ask. Nothing is sent before it returns.
    /// - Returns: The replies, each with its own success or failure.
    /// - Throws: `.cancelled`, transport errors, and what the daemon ends the connection with:
    ///   then any part of the batch may have taken effect. `Smalloc.Options.requestTimeout` is
    ///   for all of the batch.
    public func batch(
        _ gather: (inout AsyncSmalloc.Batch) -> Void
    ) async throws(SmallocError) -> Smalloc.Batch.Replies {
        try connection.checkFork()
        var batch = AsyncSmalloc.Batch(connection)
        gather(&batch)
        let record = batch.builder.finish()
        let (remotes, extraTime) = (batch.builder.remotes, batch.builder.extraTime)
        if !remotes.isEmpty, let link = batch.builder.home.owner?.link {
            _ = try await link.answer { link.ask(record, remotes, extraTime: extraTime, $0) }
        }
        withExtendedLifetime(remotes) {}
        return Smalloc.Batch.Replies(record)
    }
}
