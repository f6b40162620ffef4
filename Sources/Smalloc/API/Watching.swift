// What becomes of names, as it happens: blocking.

internal import SmallocWire

extension Smalloc {
    /// What has become of a name.
    ///
    /// Wire: an event of `watch`.
    public enum Event: Hashable, Sendable {
        /// An allocation was made under the name, or an anonymous one was given it.
        case allocated(String)
        /// The allocation was disposed of.
        case disposed(String)
        /// The allocation has another name now, which was free.
        case renamed(String, to: String)
        /// The allocation has another name now, and took the place of the one that had it; of one
        /// that was anonymous both names are the new one.
        case replaced(String, to: String)
        /// The allocation is shorter than it was.
        case truncated(String)
        /// The allocation's bytes can't be changed any more.
        case frozen(String)
        /// So many events, of all names, are not told: the daemon does not have them any more.
        ///
        /// Nil: it is not known how many, since the daemon was started anew. Look at `list`.
        case missed(Int?)

        /// The name, before the change; nil of `missed`.
        public var name: String? {
            switch self {
            case .allocated(let name), .disposed(let name), .truncated(let name),
                .frozen(let name), .renamed(let name, _), .replaced(let name, _):
                name
            case .missed: nil
            }
        }

        /// The name that the allocation has since; nil but of `renamed` and `replaced`.
        public var newName: String? {
            switch self {
            case .renamed(_, let newName), .replaced(_, let newName): newName
            default: nil
            }
        }

        /// - Returns: Nil of a kind that is not known here.
        fileprivate init?(_ kind: UInt8, _ name: String, _ newName: String) {
            switch EventKind(rawValue: kind) {
            case .allocated: self = .allocated(name)
            case .disposed: self = .disposed(name)
            case .renamed: self = .renamed(name, to: newName)
            case .replaced: self = .replaced(name, to: newName)
            case .truncated: self = .truncated(name)
            case .frozen: self = .frozen(name)
            case nil: return nil
            }
        }
    }

    /// Events as they happen, of the names that begin with a prefix; without an end.
    ///
    /// The daemon keeps the last 16,384 events for all clients, and nothing for one that watches: a
    /// program that is slow to ask is told how many it has missed.
    ///
    /// **The connection serves this call alone while it waits for an event**, as it does with each:
    /// calls of other threads on it wait. So a program that does more has a connection for this, or
    /// uses the async face.
    public struct Watch: Sequence, IteratorProtocol {
        private let connection: Connection
        private var events: EventQueue
        private var hasFailed = false

        init(_ connection: Connection, _ prefix: String, _ cursor: UInt64?) throws(SmallocError) {
            self.connection = connection
            events = EventQueue(prefix: try listingPrefix(prefix), cursor: cursor ?? 0)
            if cursor == nil { try events.begin(try Watch.ask(events.request(), connection)) }
        }

        /// Where to go on by `watch(_:from:)`, so that nothing is lost; the last events before it
        /// may be told again.
        public var cursor: UInt64 { events.cursor }

        /// Waits for the next event, however long it takes.
        ///
        /// - Returns: The event, or what the daemon or the connection says; nil after that.
        public mutating func next() -> Result<Smalloc.Event, SmallocError>? {
            if hasFailed { return nil }
            do throws(SmallocError) {
                while true {
                    if let event = events.next() { return .success(event) }
                    try fetch(milliseconds: EventQueue.period)
                }
            } catch {
                hasFailed = true
                return .failure(error)
            }
        }

        /// Waits for the next event, for some time.
        ///
        /// - Parameter timeout: The longest time to wait, rounded up to milliseconds; `.zero` does
        ///   not wait. Comes on top of the connection's `requestTimeout`.
        /// - Returns: Nil: there was none.
        /// - Throws: `.waitLimit`; `.memoryLimit`; `.outOfMemory`; `.cancelled` if the daemon
        ///   stops; `.unknownOperation` of a daemon without this; transport errors.
        public mutating func next(timeout: Duration) throws(SmallocError) -> Smalloc.Event? {
            let deadline = Deadline.after(timeout.nanosecondsClamped)
            while true {
                if let event = events.next() { return event }
                let now = Deadline.after(0).nanoseconds
                let left = deadline.nanoseconds > now ? deadline.nanoseconds - now : 0
                let milliseconds = left / 1_000_000 + (left % 1_000_000 > 0 ? 1 : 0)
                try fetch(milliseconds: Swift.min(milliseconds, EventQueue.period))
                if left == 0 { return events.next() }
            }
        }

        private mutating func fetch(milliseconds: UInt64) throws(SmallocError) {
            try events.take(
                try Watch.ask(events.request(milliseconds: milliseconds), connection))
        }

        private static func ask(
            _ request: Request, _ connection: Connection
        ) throws(SmallocError) -> Reply {
            try connection.call(on: nil) { channel throws(SmallocError) in
                try channel.exchangeWait(request)
            }
        }
    }

    /// Watches names: what becomes of them from now on.
    ///
    /// ```swift
    /// for event in try smalloc.watch("cam/") {
    ///     if case .allocated(let name) = try event.get() { print(name) }
    /// }
    /// ```
    ///
    /// "Now" is when this returns, not the first `next()`: nothing that happens between the two is
    /// lost. A program that calls `list` after this misses no name.
    ///
    /// - Parameters:
    ///   - prefix: What the names begin with; `""` for all. Of two names of an event one will do.
    ///   - cursor: Where to begin instead: that of an earlier watch, also of another connection.
    ///     Nothing is asked then before the first `next()`.
    /// - Throws: `.invalidName` for a prefix that no name can have; `.memoryLimit`, `.outOfMemory`
    ///   if the daemon has no memory for events; `.unknownOperation` of a daemon without this;
    ///   transport errors.
    ///
    /// Wire: `watch`.
    public func watch(
        _ prefix: String = "", from cursor: UInt64? = nil
    ) throws(SmallocError) -> Smalloc.Watch {
        try Smalloc.Watch(connection, prefix, cursor)
    }
}

/// The events of one watch that have come and were not handed out, and where it goes on.
struct EventQueue: Sendable {
    let prefix: [UInt8]
    private var page: ArraySlice<Smalloc.Event> = []
    /// Of what is in the page, and of what comes behind it.
    private var pageCursor: UInt64
    private var nextCursor: UInt64

    /// Milliseconds after which a watch without events is asked for anew, so that a daemon that has
    /// vanished is found out.
    static var period: UInt64 { 60_000 }

    /// - Parameter cursor: 0 is now; then `begin` comes next.
    init(prefix: [UInt8], cursor: UInt64) {
        self.prefix = prefix
        pageCursor = cursor
        nextCursor = cursor
    }

    var cursor: UInt64 { page.isEmpty ? nextCursor : pageCursor }

    func request(milliseconds: UInt64 = 0) -> Request {
        .watch(prefix: prefix, cursor: nextCursor, milliseconds: milliseconds)
    }

    mutating func next() -> Smalloc.Event? { page.popFirst() }

    /// The cursor of now has come.
    mutating func begin(_ reply: Reply) throws(SmallocError) {
        guard reply.header.offset != 0 else {
            throw .unexpectedReply("the answer to watch tells no cursor")
        }
        nextCursor = reply.header.offset
    }

    /// More events have come.
    mutating func take(_ reply: Reply) throws(SmallocError) {
        var events: [Smalloc.Event] = []
        if reply.header.size > 0 {
            events.append(
                .missed(reply.header.size == .max ? nil : Int(clamping: reply.header.size)))
        }
        var reader = PayloadReader(reply.payload)
        while !reader.isAtEnd {
            let kind = try reader.integer(UInt8.self)
            let (size, newSize) = (
                try reader.integer(UInt8.self), try reader.integer(UInt8.self)
            )
            let (name, newName) = (try reader.text(Int(size)), try reader.text(Int(newSize)))
            if let event = Smalloc.Event(kind, name, newName) { events.append(event) }
        }
        let before = nextCursor
        try begin(reply)
        pageCursor = before
        page = events[...]
    }
}
