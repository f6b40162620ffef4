// The one table of statuses: number, name, class, and whether the daemon closes after it.

/// The class of an error, as Node has them.
@frozen
public enum ErrorClass: UInt8, CaseIterable, Sendable {
    case error = 0
    case typeError = 1
    case rangeError = 2

    /// Node's spelling: `Error`, `TypeError`, `RangeError`.
    public var name: String {
        switch self {
        case .error: "Error"
        case .typeError: "TypeError"
        case .rangeError: "RangeError"
        }
    }
}

/// The number in every binary reply: 0 is success, bit 15 failure, bit 14 "and then I close".
///
/// Open on purpose: a status from a newer daemon still decodes. Numbers 0xF000 to 0xFFFF are found
/// by clients only and never travel. Source: protocol/values.json.
@frozen
public struct Status: RawRepresentable, Hashable, Sendable {
    /// The number on the wire.
    public let rawValue: UInt16

    /// Takes any number, also one that has no name here.
    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Done.
    @inlinable public static var ok: Status { Status(rawValue: 0) }
    /// Nothing is allocated under this name or handle.
    public static var noData: Status { Status(rawValue: 0x8001) }
    /// The name holds an allocation already.
    public static var alreadyExists: Status { Status(rawValue: 0x8002) }
    /// A start, count or length lies outside the allocation.
    public static var outOfRange: Status { Status(rawValue: 0x8003) }
    /// The length is over kMaxLength.
    public static var tooLarge: Status { Status(rawValue: 0x8004) }
    /// The element type is none of 1 to 16.
    public static var unknownType: Status { Status(rawValue: 0x8005) }
    /// The name is not 1 to 255 bytes of printable ASCII without spaces.
    public static var invalidName: Status { Status(rawValue: 0x8006) }
    /// An argument is missing, malformed, or not a whole number of elements.
    public static var invalidArgument: Status { Status(rawValue: 0x8007) }
    /// The daemon does not know this operation.
    public static var unknownOperation: Status { Status(rawValue: 0x8008) }
    /// A flag is unknown or has no meaning for this operation.
    public static var unsupportedFlags: Status { Status(rawValue: 0x8009) }
    /// The daemon does not speak this protocol version.
    public static var unsupportedVersion: Status { Status(rawValue: 0x800A) }
    /// The frame is whole but its fields contradict each other.
    public static var malformedRequest: Status { Status(rawValue: 0x800B) }
    /// The payload of the request, or of its reply, is over the frame size limit.
    public static var frameTooLarge: Status { Status(rawValue: 0x800C) }
    /// The line is over the line size limit.
    public static var lineTooLong: Status { Status(rawValue: 0x800D) }
    /// The machine has no memory for it.
    public static var outOfMemory: Status { Status(rawValue: 0x800E) }
    /// It would take the daemon over its memory limit.
    public static var memoryLimit: Status { Status(rawValue: 0x800F) }
    /// The daemon holds as many allocations as it may.
    public static var allocationLimit: Status { Status(rawValue: 0x8010) }
    /// The connection holds as many handles as it may.
    public static var handleLimit: Status { Status(rawValue: 0x8011) }
    /// Another process is in the way for now.
    public static var busy: Status { Status(rawValue: 0x8012) }
    /// The allocation can't be changed any more.
    public static var frozen: Status { Status(rawValue: 0x8013) }
    /// The request was taken back before it was done.
    public static var cancelled: Status { Status(rawValue: 0x8014) }
    /// The connection waits for as much as it may.
    public static var waitLimit: Status { Status(rawValue: 0x8015) }
    /// The daemon shares as many allocations as it may, or has no descriptor for one more.
    public static var shareLimit: Status { Status(rawValue: 0x8016) }
    /// The bytes are no frame; the stream can't be followed any more.
    public static var malformedFrame: Status { Status(rawValue: 0xC001) }
    /// The first frame of a binary connection must be hello.
    public static var helloRequired: Status { Status(rawValue: 0xC002) }
    /// The daemon serves as many connections as it may.
    public static var connectionLimit: Status { Status(rawValue: 0xC003) }
    /// The connection was idle for longer than it may.
    public static var idleTimeout: Status { Status(rawValue: 0xC004) }
    /// A request did not arrive whole in time.
    public static var requestTimeout: Status { Status(rawValue: 0xC005) }
    /// The daemon is stopping.
    public static var shuttingDown: Status { Status(rawValue: 0xC006) }
    /// The first line belongs to another protocol.
    public static var notSmalloc: Status { Status(rawValue: 0xC007) }
    /// The input ended within a line; nothing of it was carried out.
    public static var incompleteLine: Status { Status(rawValue: 0xC008) }

    /// The daemon closes the connection after the reply that carries this.
    public var closes: Bool { rawValue & 0xC000 == 0xC000 }

    /// Every status that travels, with its name and usual class.
    public static let table: [(status: Status, name: String, errorClass: ErrorClass)] = [
        (.ok, "ok", .error),
        (.noData, "noData", .error),
        (.alreadyExists, "alreadyExists", .typeError),
        (.outOfRange, "outOfRange", .rangeError),
        (.tooLarge, "tooLarge", .rangeError),
        (.unknownType, "unknownType", .typeError),
        (.invalidName, "invalidName", .typeError),
        (.invalidArgument, "invalidArgument", .typeError),
        (.unknownOperation, "unknownOperation", .error),
        (.unsupportedFlags, "unsupportedFlags", .error),
        (.unsupportedVersion, "unsupportedVersion", .error),
        (.malformedRequest, "malformedRequest", .error),
        (.frameTooLarge, "frameTooLarge", .rangeError),
        (.lineTooLong, "lineTooLong", .rangeError),
        (.outOfMemory, "outOfMemory", .error),
        (.memoryLimit, "memoryLimit", .error),
        (.allocationLimit, "allocationLimit", .error),
        (.handleLimit, "handleLimit", .error),
        (.busy, "busy", .error),
        (.frozen, "frozen", .error),
        (.cancelled, "cancelled", .error),
        (.waitLimit, "waitLimit", .error),
        (.shareLimit, "shareLimit", .error),
        (.malformedFrame, "malformedFrame", .error),
        (.helloRequired, "helloRequired", .error),
        (.connectionLimit, "connectionLimit", .error),
        (.idleTimeout, "idleTimeout", .error),
        (.requestTimeout, "requestTimeout", .error),
        (.shuttingDown, "shuttingDown", .error),
        (.notSmalloc, "notSmalloc", .error),
        (.incompleteLine, "incompleteLine", .error),
    ]

    /// The symbol in text mode and in protocol/values.json; `status0x8123` for one unknown here.
    public var name: String {
        Status.table.first { $0.status == self }?.name
            ?? "status0x" + String(rawValue, radix: 16)
    }
}
