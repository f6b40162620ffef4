// What becomes of names, as it happens, for async code.

public import SmallocWire

extension AsyncSmalloc {
    /// Events as they happen, of the names that begin with a prefix; without an end.
    ///
    /// The daemon keeps the last 16,384 events for all clients, and nothing for one that watches:
    /// a task that is slow to ask is told how many it has missed. Other tasks' calls on the
    /// connection go on meanwhile. Each iterator begins at the watch's cursor.
    public struct Watch: AsyncSequence, Sendable {
        /// What has become of a name.
        public typealias Element = Smalloc.Event
        /// What the daemon or the connection says.
        public typealias Failure = SmallocError

        private let smalloc: AsyncSmalloc
        private let events: EventQueue

        fileprivate init(_ smalloc: AsyncSmalloc, _ events: EventQueue) {
            self.smalloc = smalloc
            self.events = events
        }

        /// Where it begins.
        public var cursor: UInt64 { events.cursor }

        /// Begins to watch.
        public func makeAsyncIterator() -> Iterator { Iterator(smalloc, events) }

        /// Where a watch has got to.
        public struct Iterator: AsyncIteratorProtocol {
            private let smalloc: AsyncSmalloc
            private var events: EventQueue
            private var hasFailed = false

            fileprivate init(_ smalloc: AsyncSmalloc, _ events: EventQueue) {
                self.smalloc = smalloc
                self.events = events
            }

            /// Where to go on by `watch(_:from:)`, so that nothing is lost; the last events before
            /// it may be told again.
            public var cursor: UInt64 { events.cursor }

            /// Waits for the next event, however long it takes.
            ///
            /// Cancelling the task has the daemon take the request back.
            ///
            /// - Returns: The event; nil after a failure.
            /// - Throws: `.waitLimit`; `.memoryLimit`; `.outOfMemory`; `.cancelled`, also if the
            ///   daemon stops; `.unknownOperation` of a daemon without this; transport errors.
            ///   After that comes nothing more.
            public mutating func next() async throws(SmallocError) -> Smalloc.Event? {
                try await next(isolation: #isolation)
            }

            /// Waits for the next event, however long it takes.
            ///
            /// See `next()`.
            public mutating func next(
                isolation actor: isolated (any Actor)?
            ) async throws(SmallocError) -> Smalloc.Event? {
                if hasFailed { return nil }
                do throws(SmallocError) {
                    while true {
                        if Task.isCancelled { throw .cancelled }
                        if let event = events.next() { return event }
                        let request = events.request(milliseconds: EventQueue.period)
                        try events.take(try await smalloc.callWaiting(request))
                    }
                } catch {
                    hasFailed = true
                    throw error
                }
            }
        }
    }

    /// Watches names: what becomes of them from now on.
    ///
    /// ```swift
    /// for try await event in try await smalloc.watch("cam/") {
    ///     if case .allocated(let name) = event { print(name) }
    /// }
    /// ```
    ///
    /// "Now" is when this returns, not the first iteration: nothing that happens between the two is
    /// lost. A task that calls `list` after this misses no name. Cancelling the task ends the
    /// iteration with `.cancelled`.
    ///
    /// - Parameters:
    ///   - prefix: What the names begin with; `""` for all. Of two names of an event one will do.
    ///   - cursor: Where to begin instead: that of an earlier watch, also of another connection.
    ///     Nothing is asked then before the first iteration.
    /// - Throws: As `Smalloc.watch(_:from:)`; `.cancelled`.
    ///
    /// Wire: `watch`.
    public func watch(
        _ prefix: String = "", from cursor: UInt64? = nil
    ) async throws(SmallocError) -> AsyncSmalloc.Watch {
        var events = EventQueue(prefix: try listingPrefix(prefix), cursor: cursor ?? 0)
        if cursor == nil { try events.begin(try await callWaiting(events.request())) }
        return AsyncSmalloc.Watch(self, events)
    }

    fileprivate func callWaiting(_ request: Request) async throws(SmallocError) -> Reply {
        // Named, so that the link lives until the answer has come.
        let owner = try await connection.link()
        let reply = try await owner.link.callWaiting(request, nil)
        withExtendedLifetime(owner) {}
        return reply
    }
}
