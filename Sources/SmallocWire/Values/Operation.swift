// The operations by number. What each asks for is in Request.swift; protocol/values.json is the
// source.

/// What a request asks.
///
/// The raw value is the number on the wire.
@frozen
public enum Operation: UInt8, CaseIterable, Sendable {
    case hello = 1
    case ping = 2
    case alloc = 3
    case open = 4
    case close = 5
    case stat = 6
    case list = 7
    case read = 8
    case write = 9
    case fill = 10
    case copy = 11
    case dispose = 12
    case truncate = 13
    case rename = 14
    case stats = 15
    case quit = 16
    case cancel = 17
    case map = 18
    case unmap = 19
    case atomic = 20
    case wait = 21
    case notify = 22
    case freeze = 23
    case clients = 26
    case slowlog = 27

    /// The operation of a number from the wire, nil if there is none.
    ///
    /// `init(rawValue:)` is a search through the cases, for every request.
    @inlinable @inline(__always)
    public init?(wire number: UInt8) {
        let index = number &- 1
        guard index >= 23 else {
            // Up to here the cases are numbered without a gap, and laid out in that order.
            self = unsafeBitCast(index, to: Operation.self)
            return
        }
        switch number {
        case 26: self = .clients
        case 27: self = .slowlog
        default: return nil
        }
    }

    /// The verb in text mode, and the name in protocol/values.json.
    public var name: String { "\(self)" }
}

/// Flags of `read` and `write`.
///
/// A bit means something for its operation alone: each operation that has flags has a type for
/// them, and `Operation.flags` says which bits of a header it knows.
@frozen
public struct TransferFlags: OptionSet, Sendable {
    /// The bits on the wire.
    public let rawValue: UInt8

    /// Takes any bits, also unknown ones.
    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Moves many ranges in one frame.
    @inlinable
    public static var vectored: TransferFlags { TransferFlags(rawValue: 1) }
}

/// Flags of `alloc`.
@frozen
public struct AllocFlags: OptionSet, Sendable {
    /// The bits on the wire.
    public let rawValue: UInt8

    /// Takes any bits, also unknown ones.
    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Makes the allocation, and opens no handle to it.
    @inlinable
    public static var noHandle: AllocFlags { AllocFlags(rawValue: 2) }
    /// Makes it of memory that clients can map: the first `map` finds it ready.
    @inlinable
    public static var shareable: AllocFlags { AllocFlags(rawValue: 4) }

    /// It ends by itself: with the connection, or when it was not in use for a time.
    @inlinable
    public static var leased: AllocFlags { AllocFlags(rawValue: 16) }
    /// Says more of it, behind the name: a shape, metadata, the time of its lease.
    @inlinable
    public static var described: AllocFlags { AllocFlags(rawValue: 32) }
}

/// Flags of `map`.
@frozen
public struct MapFlags: OptionSet, Sendable {
    /// The bits on the wire.
    public let rawValue: UInt8

    /// Takes any bits, also unknown ones.
    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Maps it for reading and writing.
    @inlinable
    public static var writable: MapFlags { MapFlags(rawValue: 1) }
    /// Has its pages made before the reply, so that no access waits for one.
    @inlinable
    public static var populate: MapFlags { MapFlags(rawValue: 2) }
}

/// Flags of `open`.
@frozen
public struct OpenFlags: OptionSet, Sendable {
    /// The bits on the wire.
    public let rawValue: UInt8

    /// Takes any bits, also unknown ones.
    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Waits until there is an allocation of the name.
    @inlinable
    public static var await: OpenFlags { OpenFlags(rawValue: 1) }
    /// Waits until there is one that is frozen.
    @inlinable
    public static var awaitFrozen: OpenFlags { OpenFlags(rawValue: 2) }
}

/// Flags of `rename`.
@frozen
public struct RenameFlags: OptionSet, Sendable {
    /// The bits on the wire.
    public let rawValue: UInt8

    /// Takes any bits, also unknown ones.
    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Takes the place of the allocation that has the new name, which is disposed of.
    @inlinable
    public static var replace: RenameFlags { RenameFlags(rawValue: 1) }
}

extension Operation {
    /// The flag bits that this operation knows; any other is `unsupportedFlags`.
    @inlinable @inline(__always)
    public var flags: UInt8 {
        switch self {
        case .read, .write: TransferFlags.vectored.rawValue
        case .alloc:
            AllocFlags.noHandle.rawValue | AllocFlags.shareable.rawValue
                | AllocFlags.leased.rawValue | AllocFlags.described.rawValue
        case .map: MapFlags.writable.rawValue | MapFlags.populate.rawValue
        case .rename: RenameFlags.replace.rawValue
        case .open: OpenFlags.await.rawValue | OpenFlags.awaitFrozen.rawValue
        default: 0
        }
    }
}
