// What the daemon tells of its clients, and of requests that took long.

internal import SmallocWire

extension Smalloc {
    /// A connection of the daemon's, this program's own or another one's.
    ///
    /// Wire: `clients`.
    public struct Client: Sendable, Equatable {
        /// A number that no other connection of this run of the daemon has.
        public let id: UInt64
        /// The user that connected, by the system's number; nil over TCP.
        public let user: UInt32?
        /// The process that connected; nil over TCP, or where the daemon can't see it.
        public let process: UInt32?
        /// What it calls itself, made harmless: `smalloc-cli/0.1.0`; `-` for nothing.
        public let program: String
        /// How it speaks: `text`, `binary`, or `none` before its first byte.
        public let mode: String
        /// `unix` or `tcp`.
        public let transport: String
        /// Seconds since it connected.
        public let age: Double
        /// Handles that are open.
        public let handles: Int
        /// Bytes of its input and output that wait in the daemon.
        public let waitingSize: Int
        /// Maps that it was given, without those that it said to have unmapped.
        public let maps: Int
        /// Whether it is not read from: its replies wait to leave, or a request is at work.
        public let isPaused: Bool
        /// Bytes received from it.
        public let readSize: Int
        /// Bytes sent to it.
        public let writtenSize: Int
        /// Requests received from it.
        public let requests: Int

        init(_ status: ClientStatus) {
            id = status.id
            user = status.owner
            process = status.process
            program = ClientStatus.shown(status.software)
            mode = status.mode.name
            transport = status.isTCP ? "tcp" : "unix"
            age = Double(status.age) / 1000
            handles = Int(clamping: status.handles)
            waitingSize = Int(clamping: status.waitingSize)
            maps = Int(clamping: status.maps)
            isPaused = status.isPaused
            readSize = Int(clamping: status.readSize)
            writtenSize = Int(clamping: status.writtenSize)
            requests = Int(clamping: status.requests)
        }
    }

    /// The requests that took long, the youngest first.
    ///
    /// Wire: `slowlog`.
    public struct SlowLog: Sendable, Equatable {
        /// One of them.
        public struct Entry: Sendable, Equatable {
            /// Grows with each entry.
            public let id: UInt64
            /// When it was answered, in seconds since 1970.
            public let time: Double
            /// What was asked: `fill`.
            public let operation: String
            /// The allocation's; empty if it is not known, or not for this user to know.
            public let name: String
            /// Bytes that it was about; of requests that shared a turn, how many they were.
            public let size: Int
            /// Seconds.
            public let duration: Double
            /// What it waited for: `nothing` (its turn), `work`, `memory` or `client`.
            public let waited: String

            init(_ request: SlowRequest) {
                id = request.id
                time = Double(request.time) / 1000
                operation = request.operationName
                name = String(decoding: request.name, as: UTF8.self)
                size = Int(clamping: request.size)
                duration = Double(request.duration) / 1e6
                waited = request.cause.name
            }
        }

        /// Seconds from which on the daemon notes a request.
        public let threshold: Double
        /// The entries.
        public let entries: [Entry]

        init(_ reply: Reply) throws(SmallocError) {
            threshold = Double(reply.header.offset) / 1e6
            entries = try parsedEntries(reply.payload) { bytes in
                SlowRequest.read(bytes).map { (Entry($0.request), $0.size) }
            }
        }
    }
}

/// The entries of a payload, one behind the other.
private func parsedEntries<Entry>(
    _ payload: [UInt8], _ read: (UnsafeRawBufferPointer) -> (Entry, size: Int)?
) throws(SmallocError) -> [Entry] {
    var entries: [Entry] = []
    var at = 0
    while at < payload.count {
        let found = payload.withUnsafeBytes { read(UnsafeRawBufferPointer(rebasing: $0[at...])) }
        guard let found else { throw .unexpectedReply("an entry is cut") }
        entries.append(found.0)
        at += found.size
    }
    return entries
}

/// One page of connections, and the cursor of the next; nil: it is the last.
private func clientsPage(
    _ reply: Reply
) throws(SmallocError) -> (clients: [Smalloc.Client], cursor: UInt64?) {
    let clients = try parsedEntries(reply.payload) { bytes in
        ClientStatus.read(bytes).map { (Smalloc.Client($0.client), $0.size) }
    }
    return (clients, reply.header.offset == 0 ? nil : reply.header.offset)
}

extension Smalloc {
    /// Tells who is connected: all connections to the daemon's own user and to root, those of its
    /// own user to any other client, and over TCP this connection alone.
    ///
    /// Connections that come or go meanwhile may be told or not. Cost: a round trip for each 256.
    ///
    /// - Throws: Transport errors; `.unknownOperation` from an older daemon.
    ///
    /// Wire: `clients`.
    public func clients() throws(SmallocError) -> [Smalloc.Client] {
        var clients: [Smalloc.Client] = []
        var cursor: UInt64? = 0
        while let from = cursor {
            let page = try clientsPage(
                try connection.perform(.clients(cursor: from), on: nil))
            clients += page.clients
            cursor = page.cursor
        }
        return clients
    }

    /// Tells which requests took long, of all clients.
    ///
    /// Names of allocations are told to the user that they belong to, to the daemon's own, and to
    /// root.
    ///
    /// - Parameter count: Entries at most, the youngest.
    /// - Throws: Transport errors; `.unknownOperation` from an older daemon.
    ///
    /// Wire: `slowlog`.
    public func slowlog(_ count: Int = .max) throws(SmallocError) -> Smalloc.SlowLog {
        try Smalloc.SlowLog(
            try connection.perform(.slowlog(count: UInt64(clamping: count)), on: nil))
    }
}

extension AsyncSmalloc {
    /// See `Smalloc.clients()`.
    ///
    /// - Throws: `.cancelled`; transport errors; `.unknownOperation` from an older daemon.
    ///
    /// Wire: `clients`.
    public func clients() async throws(SmallocError) -> [Smalloc.Client] {
        var clients: [Smalloc.Client] = []
        var cursor: UInt64? = 0
        while let from = cursor {
            let page = try clientsPage(try await call(.clients(cursor: from)))
            clients += page.clients
            cursor = page.cursor
        }
        return clients
    }

    /// See `Smalloc.slowlog()`.
    ///
    /// - Throws: `.cancelled`; transport errors; `.unknownOperation` from an older daemon.
    ///
    /// Wire: `slowlog`.
    public func slowlog(_ count: Int = .max) async throws(SmallocError) -> Smalloc.SlowLog {
        try Smalloc.SlowLog(try await call(.slowlog(count: UInt64(clamping: count))))
    }
}
