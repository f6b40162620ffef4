// The one error type on both sides of the wire.

/// An error of an operation: a status to switch on, Node's class, and a sentence for people.
///
/// Texts that Node has are Node's, letter for letter; never match on the others.
/// Source: protocol/spec.md § Errors.
public struct SmallocError: Error, Hashable, Sendable, CustomStringConvertible {
    public let status: Status
    public let errorClass: ErrorClass
    public let message: String

    /// An error with a class of its own, where it differs from the status' usual one.
    public init(_ status: Status, _ errorClass: ErrorClass, _ message: String) {
        self.status = status
        self.errorClass = errorClass
        self.message = message
    }

    /// As Node prints it: `RangeError: n > kMaxLength`.
    public var description: String { "\(errorClass.name): \(message)" }
}

extension SmallocError {
    public static var noData: SmallocError {
        SmallocError(.noData, .error, "object has no external array data")
    }
    public static var noDataToTruncate: SmallocError {
        SmallocError(.noData, .typeError, "object has no external array data")
    }
    public static var noDataToDispose: SmallocError {
        SmallocError(.noData, .error, "obj has no external array data")
    }
    public static var noSourceData: SmallocError {
        SmallocError(.noData, .error, "source has no external array data")
    }
    public static var noDestData: SmallocError {
        SmallocError(.noData, .error, "dest has no external array data")
    }
    public static var alreadyExists: SmallocError {
        SmallocError(.alreadyExists, .typeError, "object already has external array data")
    }
    public static var overMaxLength: SmallocError {
        SmallocError(.tooLarge, .rangeError, "n > kMaxLength")
    }
    public static var truncateOverMaxLength: SmallocError {
        SmallocError(.tooLarge, .rangeError, "truncate length is bigger than kMaxLength")
    }
    public static var truncateOverLength: SmallocError {
        SmallocError(.outOfRange, .rangeError, "truncate length is bigger than current one")
    }
    public static func unknownType(_ type: String) -> SmallocError {
        SmallocError(.unknownType, .typeError, "unknown external array type: \(type)")
    }
    public static var invalidName: SmallocError {
        SmallocError(
            .invalidName, .typeError,
            "a name is 1 to 255 bytes of printable ASCII without spaces")
    }
    public static func outOfRange(_ message: String) -> SmallocError {
        SmallocError(.outOfRange, .rangeError, message)
    }
    public static func invalidArgument(_ message: String) -> SmallocError {
        SmallocError(.invalidArgument, .typeError, message)
    }
    public static func malformed(_ message: String) -> SmallocError {
        SmallocError(.malformedRequest, .error, message)
    }
    public static var frameTooLarge: SmallocError {
        SmallocError(.frameTooLarge, .rangeError, "more data than the frame size limit allows")
    }
    public static var outOfMemory: SmallocError {
        SmallocError(.outOfMemory, .error, "the machine has no memory for it")
    }
    public static var memoryLimit: SmallocError {
        SmallocError(.memoryLimit, .error, "it would take the daemon over its memory limit")
    }
    public static var allocationLimit: SmallocError {
        SmallocError(.allocationLimit, .error, "the daemon holds as many allocations as it may")
    }
    public static var handleLimit: SmallocError {
        SmallocError(.handleLimit, .error, "the connection holds as many handles as it may")
    }
}
