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

    /// Takes what `stat` tells.
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
    mutating func hello(_ limits: Limits)
    mutating func pong()
    mutating func bye()
    mutating func error(_ error: SmallocError)
    mutating func stat(_ status: AllocationStatus, name: UnsafeRawBufferPointer)

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

    /// Keys and values.
    mutating func beginStats()
    mutating func statistic(_ key: StaticString, _ value: UInt64)
    mutating func endStats()
}
