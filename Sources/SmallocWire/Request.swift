// Everything that can be asked, in either mode. A request borrows the bytes that it was read from.

/// What the numbers of a request count: bytes in binary mode, elements in text mode.
@frozen
public enum Unit: Sendable {
    case bytes
    case elements
}

/// The allocation that a request means: a handle of this connection, or a name.
@frozen
public struct Reference: ~Escapable {
    /// 0 means by name.
    public let handle: UInt32
    /// As it came: not yet checked against the grammar of names.
    public let name: RawSpan

    /// Refers by handle if it is not 0, else by name.
    @inlinable
    @_lifetime(copy name)
    public init(handle: UInt32, name: RawSpan) {
        self.handle = handle
        self.name = name
    }
}

/// Data that a request brings.
@frozen
public enum Payload: ~Escapable {
    /// The bytes themselves.
    case bytes(RawSpan)
    /// Words of text: numbers in the element type, `hex:`, `base64:`, `text:`; of a description
    /// `shape=` and `meta=`.
    case words(RawSpan)
}

/// A request of either mode, borrowed: one case an operation.
///
/// Numbers are as the peer sent them, saturated to `UInt64`; nothing is checked but the shape.
/// Source: protocol/spec.md § Operations.
@frozen
public enum Request: ~Escapable {
    case hello
    case ping
    /// `typeWord` is the type as written in text mode, empty in binary mode. The description is
    /// there with the flag `described`, and empty without.
    case alloc(
        name: RawSpan, type: UInt8, typeWord: RawSpan, length: UInt64, Unit, AllocFlags,
        description: Payload)
    case open(name: RawSpan)
    /// An open that waits until there is what it asks for. Without a handle it only tells.
    case await(name: RawSpan, OpenFlags, milliseconds: UInt64, opensHandle: Bool)
    case close(handle: UInt32)
    case stat(Reference)
    /// A `count` of 0 leaves the size of the page to the daemon. Sorted if there are few names.
    case list(prefix: RawSpan, cursor: UInt64, count: UInt64, sorted: Bool)
    /// A `count` of nil is "to the end".
    case read(Reference, start: UInt64, count: UInt64?, Unit)
    /// `ranges` holds pairs of offset and size, 8 bytes each.
    case readRanges(Reference, ranges: RawSpan)
    case write(Reference, start: UInt64, Payload, Unit)
    case writeRanges(Reference, ranges: RawSpan, data: RawSpan)
    /// A write whose `dataSize` bytes follow, to be received where they belong. `ranges` is empty
    /// unless it is vectored.
    case receive(Reference, start: UInt64, ranges: RawSpan, dataSize: Int)
    case fill(Reference, start: UInt64, count: UInt64, Payload, Unit)
    case copy(
        source: Reference, sourceStart: UInt64, dest: Reference, destStart: UInt64, count: UInt64,
        Unit)
    case dispose(Reference)
    case truncate(Reference, length: UInt64, Unit)
    case rename(Reference, newName: RawSpan, RenameFlags)
    case map(Reference, MapFlags)
    case unmap(Reference)
    case freeze(Reference)
    /// The values are operand and expected, 8 bytes each; in text as many words as the action
    /// takes, the expected one first.
    case atomic(Reference, start: UInt64, AtomicAction, Payload, Unit)
    /// The value is 4 bytes, or a word.
    case wait(Reference, start: UInt64, Payload, milliseconds: UInt64, Unit)
    case notify(Reference, start: UInt64, count: UInt64, Unit)
    /// A prefix of no byte is that of all names. Waits for no time unless `milliseconds` says so.
    case watch(prefix: RawSpan, cursor: UInt64, milliseconds: UInt64)
    /// Binary mode only.
    case cancel(cookie: UInt64)
    case stats
    /// A `count` of 0 leaves the size of the page to the daemon.
    case clients(cursor: UInt64, count: UInt64)
    /// The youngest `count` entries.
    case slowlog(count: UInt64)
    /// Text mode only.
    case help(verb: RawSpan)
    case quit
}

extension Request {
    /// The operation asked for; nil for `help`, which has no number.
    @inlinable @inline(__always)
    public var operation: Operation? {
        switch self {
        case .hello: .hello
        case .ping: .ping
        case .alloc: .alloc
        case .open, .await: .open
        case .close: .close
        case .stat: .stat
        case .list: .list
        case .read, .readRanges: .read
        case .write, .writeRanges, .receive: .write
        case .fill: .fill
        case .copy: .copy
        case .dispose: .dispose
        case .truncate: .truncate
        case .rename: .rename
        case .map: .map
        case .unmap: .unmap
        case .freeze: .freeze
        case .atomic: .atomic
        case .wait: .wait
        case .notify: .notify
        case .watch: .watch
        case .cancel: .cancel
        case .stats: .stats
        case .clients: .clients
        case .slowlog: .slowlog
        case .quit: .quit
        case .help: nil
        }
    }
}
