// What the daemon tells about its allocations: stat, list, stats.

public import SmallocWire

extension Smalloc {
    /// What the daemon knows of one allocation.
    ///
    /// Wire: `stat`.
    public struct Stat: Hashable, Sendable {
        /// nil if it is anonymous.
        public let name: String?
        /// What its elements are.
        public let type: ElementType
        /// Bytes.
        public let size: Int
        /// When it was allocated: milliseconds since 1970, UTC, by the daemon's clock.
        public let createdMilliseconds: Int64
        /// Handles open on it now, on all connections.
        public let handles: Int
        /// Where its memory is.
        public let storage: Storage
        /// The bits of the reply.
        private let flags: UInt64
        /// What clients have mapped of it now, or hold a descriptor of; the daemon asks the kernel.
        ///
        /// `.none` also from a daemon that does not tell.
        public let maps: Maps
        /// The user that made it, by the number that the daemon's machine has for them.
        ///
        /// Nil if it was made over TCP, and from a daemon that does not tell.
        public let owner: UInt32?
        /// Elements of each dimension, the last of which lies closest together; empty: a scalar.
        ///
        /// Nil if it was made without a shape, or has been truncated since.
        public let shape: [Int]?
        /// The bytes that were given with `alloc`; empty if none were.
        public let metadata: [UInt8]
        /// When it ends by itself; nil if it does not.
        public let lease: Smalloc.Lease?
        /// How long until it does, to the millisecond, if nobody uses it; all of its time while it
        /// is in use.
        ///
        /// Nil without a lease, or with that of a connection.
        public let leaseLeft: Duration?

        /// Elements.
        public var length: Int { size >> type.shift }

        /// Whether it was made to be mapped: see `Smalloc.alloc(_:_:shareable:)`.
        public var isShareable: Bool { has(.shareable) }
        /// Whether it was made with a shape or metadata.
        public var isDescribed: Bool { has(.described) }
        /// Whether nobody can change its elements any more: see `Allocation.freeze()`.
        public var isFrozen: Bool { has(.frozen) }
        /// Whether it is in memory that clients can map, so that the next map need not move it.
        public var isShared: Bool { has(.shared) }

        private func has(_ flag: StatusFlags) -> Bool {
            StatusFlags(rawValue: flags).contains(flag)
        }

        /// What clients have mapped of an allocation.
        ///
        /// Open: a newer daemon may know more kinds.
        public struct Maps: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
            /// The number on the wire.
            public let rawValue: UInt64
            /// Any number, also unknown ones.
            public init(rawValue: UInt64) { self.rawValue = rawValue }
            /// Nothing.
            public static var none: Maps { Maps(rawValue: 0) }
            /// For reading only.
            public static var readOnly: Maps { Maps(rawValue: 1) }
            /// By at least one for reading and writing.
            public static var writable: Maps { Maps(rawValue: 2) }
            /// The words of text mode: `none`, `read`, `write`, or `maps` and the number.
            public var description: String {
                UInt8(exactly: rawValue).flatMap(MapKind.init)?.name ?? "maps\(rawValue)"
            }
        }

        /// Where an allocation's memory is.
        ///
        /// Open: a newer daemon may know more kinds.
        public struct Storage: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
            /// The number on the wire.
            public let rawValue: UInt64
            /// Any number, also unknown ones.
            public init(rawValue: UInt64) { self.rawValue = rawValue }
            /// On the daemon's heap.
            public static var heap: Storage { Storage(rawValue: 0) }
            /// In a mapping of its own.
            public static var mapping: Storage { Storage(rawValue: 1) }
            /// `heap`, `mapping`, or `storage` and the number.
            public var description: String {
                switch self {
                case .heap: "heap"
                case .mapping: "mapping"
                default: "storage\(rawValue)"
                }
            }
        }

        init(_ header: FrameHeader, _ payload: [UInt8]) throws(SmallocError) {
            guard let type = ElementType(rawValue: header.type),
                let size = Int(exactly: header.size)
            else { throw .unexpectedReply("the answer to stat is no allocation") }
            var reader = PayloadReader(payload)
            let name = try reader.text(Int(header.nameSize))
            self.name = name.isEmpty ? nil : name
            self.type = type
            self.size = size
            createdMilliseconds = Int64(clamping: try reader.integer(UInt64.self))
            handles = Int(clamping: try reader.integer(UInt64.self))
            storage = Storage(rawValue: try reader.integer(UInt64.self))
            // What a daemon without the feature `types` does not tell.
            guard !reader.isAtEnd else {
                flags = 0
                maps = .none
                owner = nil
                shape = nil
                metadata = []
                lease = nil
                leaseLeft = nil
                return
            }
            flags = try reader.integer(UInt64.self)
            maps = Maps(rawValue: try reader.integer(UInt64.self))
            lease = Smalloc.Lease(milliseconds: try reader.integer(UInt64.self))
            let left = try reader.integer(UInt64.self)
            leaseLeft = left == .max ? nil : .milliseconds(Int64(clamping: left))
            owner = UInt32(exactly: try reader.integer(UInt64.self))
            let rank = try reader.integer(UInt64.self)
            var dimensions: [Int] = []
            for _ in 0..<Shape.rankMax {
                dimensions.append(Int(clamping: try reader.integer(UInt64.self)))
            }
            shape = rank <= UInt64(Shape.rankMax) ? Array(dimensions.prefix(Int(rank))) : nil
            metadata = try reader.bytes(Int(clamping: try reader.integer(UInt64.self)))
        }
    }
}

extension Smalloc {
    /// One line of a listing.
    public struct Entry: Hashable, Sendable {
        /// Its name; anonymous allocations are not listed.
        public let name: String
        /// What its elements are.
        public let type: ElementType
        /// Bytes.
        public let size: Int
        /// Elements.
        public var length: Int { size >> type.shift }
    }
}

extension Smalloc {
    /// A listing in pages, so that any number of allocations is listed in constant memory.
    ///
    /// No order is promised. A name that exists during the whole listing is told exactly once; one
    /// that is allocated or disposed of meanwhile may or may not be. A page may be empty without
    /// being the last. After a failure comes no further page.
    public struct Pages: Sequence, IteratorProtocol {
        private let connection: Connection
        private let prefix: [UInt8]
        private let limit: UInt64
        private var cursor: UInt64? = 0

        init(_ connection: Connection, _ prefix: String, _ limit: Int) throws(SmallocError) {
            self.connection = connection
            self.prefix = try listingPrefix(prefix)
            self.limit = UInt64(clamping: limit)
        }

        /// Asks the daemon for the next page; nil after the last.
        public mutating func next() -> Result<[Smalloc.Entry], SmallocError>? {
            guard let from = cursor else { return nil }
            cursor = nil
            do throws(SmallocError) {
                let reply = try connection.perform(
                    .list(prefix: prefix, cursor: from, limit: limit), on: nil)
                let page = try listingPage(reply.header, reply.payload)
                cursor = page.cursor
                return .success(page.entries)
            } catch {
                return .failure(error)
            }
        }
    }
}

/// A prefix that fits the header's one byte; none but printable ASCII can match.
func listingPrefix(_ text: String) throws(SmallocError) -> [UInt8] {
    text.isEmpty ? [] : try AllocationName(text).bytes
}

/// One page's entries, and the cursor of the next.
func listingPage(
    _ header: FrameHeader, _ payload: [UInt8]
) throws(SmallocError) -> (entries: [Smalloc.Entry], cursor: UInt64?) {
    var reader = PayloadReader(payload)
    var entries: [Smalloc.Entry] = []
    while !reader.isAtEnd {
        let size = try reader.integer(UInt64.self)
        let type = try reader.integer(UInt8.self)
        let nameSize = try reader.integer(UInt8.self)
        let name = try reader.text(Int(nameSize))
        // A type from a newer daemon can't be told in this client's words, and is not hidden
        // either.
        guard let type = ElementType(rawValue: type) else {
            throw .unexpectedReply("\(name) has the unknown element type \(type)")
        }
        entries.append(Smalloc.Entry(name: name, type: type, size: Int(clamping: size)))
    }
    return (entries, header.offset == 0 ? nil : header.offset)
}

extension Smalloc {
    /// The daemon's counters and limits, in its order.
    ///
    /// Wire: `stats`.
    public struct Stats: Sendable {
        /// Keys and values as the daemon tells them.
        public let lines: [(key: String, value: String)]

        /// The value of a key; nil if the daemon doesn't tell it.
        public subscript(key: String) -> String? { lines.first { $0.key == key }?.value }

        /// The value of a key as a number; nil if there is none.
        public func number(_ key: String) -> UInt64? { self[key].flatMap { UInt64($0) } }

        init(_ payload: [UInt8]) {
            lines = payload.split(separator: UInt8(ascii: "\n")).map { line in
                let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 1)
                return (
                    String(decoding: parts.first ?? [], as: UTF8.self),
                    String(decoding: parts.count > 1 ? parts[1] : [], as: UTF8.self)
                )
            }
        }
    }
}
