// Everything that can be answered, in either mode. No operation can tell which mode asked.

/// What `stat` tells of an allocation.
public struct AllocationStatus: Sendable {
    /// What its elements are.
    public var type: ElementType
    /// Bytes.
    public var size: UInt64
    /// Milliseconds since 1970, to the second.
    public var created: UInt64
    /// Handles and transfers on all connections.
    public var handles: UInt64
    /// Where its memory is.
    public var storage: StorageKind
    /// How it was made, and what became of it.
    public var flags: StatusFlags = []
    /// What clients have mapped of it.
    public var maps = MapKind.none
    /// The user that it belongs to, by the number that the daemon's machine has for them; nil: it
    /// was made over TCP.
    public var owner: UInt32?
    /// Nil: it has none, or not any more.
    public var shape: Shape?
    /// Milliseconds of its lease, 0: that of its connection; and those that are left.
    ///
    /// 2^64-1: none.
    public var lease = (milliseconds: UInt64.max, left: UInt64.max)

    /// Takes what every `stat` tells.
    public init(
        type: ElementType, size: UInt64, created: UInt64, handles: UInt64, storage: StorageKind
    ) {
        self.type = type
        self.size = size
        self.created = created
        self.handles = handles
        self.storage = storage
    }
}

/// What `map` tells.
public struct MapStatus: Sendable, Equatable {
    /// What its elements are.
    public var type: ElementType
    /// Where its data begins in the file, a multiple of the page size.
    public var offset: UInt64
    /// Bytes.
    public var size: UInt64
    /// Its slot of the state memory; 0: it has no bytes, and none.
    public var slot: UInt32
    /// Which user of the slot it is.
    public var generation: UInt32

    /// Takes what `map` tells.
    public init(
        type: ElementType, offset: UInt64, size: UInt64, slot: UInt32, generation: UInt32
    ) {
        self.type = type
        self.offset = offset
        self.size = size
        self.slot = slot
        self.generation = generation
    }
}

/// What `stat` tells by bits: those of `AllocFlags`, and further ones.
public struct StatusFlags: OptionSet, Sendable {
    /// The bits on the wire.
    public let rawValue: UInt64

    /// Takes any bits, also unknown ones.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// It was made to be mapped.
    public static var shareable: StatusFlags { StatusFlags(rawValue: 4) }
    /// It was made with a lease.
    public static var leased: StatusFlags { StatusFlags(rawValue: 16) }
    /// Its bytes can't be changed any more.
    public static var frozen: StatusFlags { StatusFlags(rawValue: 64) }
    /// It is in memory that clients can map.
    public static var shared: StatusFlags { StatusFlags(rawValue: 128) }
    /// It has a shape or metadata, or had a shape before it was truncated.
    public static var described: StatusFlags { StatusFlags(rawValue: 32) }

    /// The words in text mode, separated by commas; `none` without any.
    public var text: String {
        let names = StatusFlags.names.filter { contains($0.flag) }.map(\.name)
        return names.isEmpty ? "none" : names.joined(separator: ",")
    }

    private static let names: [(flag: StatusFlags, name: String)] = [
        (.shareable, "shareable"), (.leased, "leased"), (.described, "described"),
        (.frozen, "frozen"), (.shared, "shared"),
    ]
}

/// What clients have mapped of an allocation.
///
/// The raw value is the number in a `stat` reply.
public enum MapKind: UInt8, CaseIterable, Sendable {
    case none = 0
    case read = 1
    case write = 2

    /// The word in text mode.
    public var name: String { "\(self)" }
}

/// Where an allocation's bytes are.
///
/// The raw value is the number in a `stat` reply.
public enum StorageKind: UInt8, CaseIterable, Sendable {
    case heap = 0
    case mapping = 1

    /// The word in text mode.
    public var name: String { "\(self)" }
}

/// The answer to one request.
///
/// An operation calls exactly one of the methods, or one of the groups `begin…` to `end…`.
public protocol ReplyWriter: ~Copyable {
    /// Done, nothing to tell.
    mutating func ok()
    /// Done, with so many bytes.
    mutating func done(size: UInt64)
    /// An allocation was made or opened; the handle is 0 if none was wanted.
    mutating func opened(handle: UInt32, type: ElementType, size: UInt64)
    /// Descriptors come with the reply, in the order: the allocation's, if it has bytes, and the
    /// state memory's, if the connection has not got it yet.
    mutating func mapped(_ status: MapStatus, _ descriptors: (Int32, Int32))
    /// - Parameters:
    ///   - features: Those of `Limits.features` that the connection can have.
    ///   - sharesMax: Allocations that clients may have mapped, as far as the connection can.
    mutating func hello(_ limits: Limits, features: UInt64, sharesMax: UInt64)
    mutating func pong()
    mutating func bye()
    mutating func error(_ error: SmallocError)
    mutating func stat(
        _ status: AllocationStatus, name: UnsafeRawBufferPointer, metadata: UnsafeRawBufferPointer)

    /// Done, with all of the data.
    mutating func data(_ bytes: UnsafeRawPointer, _ size: Int, type: ElementType)

    /// An atomic operation is done: what its cell held before, sign-extended if it is signed.
    mutating func old(_ value: UInt64, type: ElementType)

    /// A wait is over.
    mutating func waited(_ result: WaitResult)
    /// Done, to so many.
    mutating func count(_ count: UInt64)

    /// `size` bytes of data come next, in pieces of whole elements.
    mutating func beginData(size: Int, type: ElementType)
    mutating func appendData(_ bytes: UnsafeRawPointer, _ size: Int)
    mutating func endData()

    /// A page of a listing.
    mutating func beginList()
    mutating func listEntry(name: UnsafeRawBufferPointer, type: ElementType, size: UInt64)
    mutating func endList(nextCursor: UInt64)

    /// One of a page of connections, between `beginList` and `endList`.
    mutating func client(_ client: ClientStatus)
    /// One slow request, between `beginList` and `endSlowLog`.
    mutating func slowRequest(_ request: SlowRequest)
    /// - Parameter threshold: Microseconds from which on a request is slow.
    mutating func endSlowLog(threshold: UInt64)

    /// Keys and values.
    mutating func beginStats()
    mutating func statistic(_ key: String, _ value: UInt64)
    mutating func endStats()
}
