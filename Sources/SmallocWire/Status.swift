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
    public let rawValue: UInt16

    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    @inlinable public static var ok: Status { Status(rawValue: 0) }
    public static var noData: Status { Status(rawValue: 0x8001) }
    public static var alreadyExists: Status { Status(rawValue: 0x8002) }
    public static var outOfRange: Status { Status(rawValue: 0x8003) }
    public static var tooLarge: Status { Status(rawValue: 0x8004) }
    public static var unknownType: Status { Status(rawValue: 0x8005) }
    public static var invalidName: Status { Status(rawValue: 0x8006) }
    public static var invalidArgument: Status { Status(rawValue: 0x8007) }
    public static var unknownOperation: Status { Status(rawValue: 0x8008) }
    public static var unsupportedFlags: Status { Status(rawValue: 0x8009) }
    public static var unsupportedVersion: Status { Status(rawValue: 0x800A) }
    public static var malformedRequest: Status { Status(rawValue: 0x800B) }
    public static var frameTooLarge: Status { Status(rawValue: 0x800C) }
    public static var lineTooLong: Status { Status(rawValue: 0x800D) }
    public static var outOfMemory: Status { Status(rawValue: 0x800E) }
    public static var memoryLimit: Status { Status(rawValue: 0x800F) }
    public static var allocationLimit: Status { Status(rawValue: 0x8010) }
    public static var handleLimit: Status { Status(rawValue: 0x8011) }
    public static var malformedFrame: Status { Status(rawValue: 0xC001) }
    public static var helloRequired: Status { Status(rawValue: 0xC002) }
    public static var connectionLimit: Status { Status(rawValue: 0xC003) }
    public static var idleTimeout: Status { Status(rawValue: 0xC004) }
    public static var requestTimeout: Status { Status(rawValue: 0xC005) }
    public static var shuttingDown: Status { Status(rawValue: 0xC006) }
    public static var notSmalloc: Status { Status(rawValue: 0xC007) }

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
        (.malformedFrame, "malformedFrame", .error),
        (.helloRequired, "helloRequired", .error),
        (.connectionLimit, "connectionLimit", .error),
        (.idleTimeout, "idleTimeout", .error),
        (.requestTimeout, "requestTimeout", .error),
        (.shuttingDown, "shuttingDown", .error),
        (.notSmalloc, "notSmalloc", .error),
    ]

    /// The symbol in text mode and in protocol/values.json; `status0x8123` for one unknown here.
    public var name: String {
        Status.table.first { $0.status == self }?.name
            ?? "status0x" + String(rawValue, radix: 16)
    }
}
