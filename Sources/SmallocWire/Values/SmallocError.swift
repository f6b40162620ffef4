// The one error type on both sides of the wire.

/// An error of an operation: a status to switch on, Node's class, and a sentence for people.
///
/// Texts that Node has are Node's, letter for letter; never match on the others. Source:
/// protocol/spec.md § Errors.
public struct SmallocError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What to switch on.
    public let status: Status
    /// Node's class.
    public let errorClass: ErrorClass
    /// For people.
    public let message: String
    /// Which allocation and which numbers it was about, as far as a client's library knows them:
    /// `a: start 77, length 3`.
    ///
    /// Never travels, and is not compared: two errors that differ in it are equal.
    public var detail: String? { about?.text }
    // One word, so that an error still goes in registers.
    private var about: Detail?

    private final class Detail: Sendable {
        let text: String
        init(_ text: String) { self.text = text }
    }

    /// An error with a class of its own, where it differs from the status' usual one.
    public init(_ status: Status, _ errorClass: ErrorClass, _ message: String) {
        self.status = status
        self.errorClass = errorClass
        self.message = message
    }

    /// As Node prints it, and what it was about: `RangeError: start > length (a: start 77, length
    /// 3)`.
    public var description: String {
        let text = "\(errorClass.name): \(message)"
        return detail.map { "\(text) (\($0))" } ?? text
    }

    /// The same error, saying what it was about.
    public func detailed(_ detail: String) -> SmallocError {
        var error = self
        error.about = Detail(detail)
        return error
    }

    /// Whether status, class and message are the same.
    public static func == (left: SmallocError, right: SmallocError) -> Bool {
        left.status == right.status && left.errorClass == right.errorClass
            && left.message == right.message
    }

    /// Hashes what `==` compares.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(status)
        hasher.combine(errorClass)
        hasher.combine(message)
    }
}

extension SmallocError {
    /// Nothing is allocated there.
    public static var noData: SmallocError {
        SmallocError(.noData, .error, "object has no external array data")
    }
    /// Nothing to truncate: Node makes it a TypeError.
    public static var noDataToTruncate: SmallocError {
        SmallocError(.noData, .typeError, "object has no external array data")
    }
    /// Nothing to dispose of.
    public static var noDataToDispose: SmallocError {
        SmallocError(.noData, .error, "obj has no external array data")
    }
    /// The source of a copy holds nothing.
    public static var noSourceData: SmallocError {
        SmallocError(.noData, .error, "source has no external array data")
    }
    /// The dest of a copy holds nothing.
    public static var noDestData: SmallocError {
        SmallocError(.noData, .error, "dest has no external array data")
    }
    /// The name, or the receiver, holds an allocation already.
    public static var alreadyExists: SmallocError {
        SmallocError(.alreadyExists, .typeError, "object already has external array data")
    }
    /// An alloc over kMaxLength.
    public static var overMaxLength: SmallocError {
        SmallocError(.tooLarge, .rangeError, "n > kMaxLength")
    }
    /// A truncate over kMaxLength.
    public static var truncateOverMaxLength: SmallocError {
        SmallocError(.tooLarge, .rangeError, "truncate length is bigger than kMaxLength")
    }
    /// A truncate that would grow.
    public static var truncateOverLength: SmallocError {
        SmallocError(.outOfRange, .rangeError, "truncate length is bigger than current one")
    }
    /// A type that is none of them.
    public static func unknownType(_ type: String) -> SmallocError {
        SmallocError(.unknownType, .typeError, "unknown external array type: \(type)")
    }
    /// A name that breaks the grammar.
    public static var invalidName: SmallocError {
        SmallocError(
            .invalidName, .typeError,
            "a name is 1 to 255 bytes of printable ASCII without spaces")
    }
    /// A start, count or length outside the allocation, in the words of the check that failed.
    public static func outOfRange(_ message: String) -> SmallocError {
        SmallocError(.outOfRange, .rangeError, message)
    }
    /// An argument that can't be used, and why.
    public static func invalidArgument(_ message: String) -> SmallocError {
        SmallocError(.invalidArgument, .typeError, message)
    }
    /// A frame whose fields contradict each other, and how.
    public static func malformed(_ message: String) -> SmallocError {
        SmallocError(.malformedRequest, .error, message)
    }
    /// A last line without its end.
    public static var incompleteLine: SmallocError {
        SmallocError(
            .incompleteLine, .error, "the last line has no end, and was not carried out")
    }
    /// A payload, of the request or of its reply, over the frame size limit.
    public static var frameTooLarge: SmallocError {
        SmallocError(.frameTooLarge, .rangeError, "more data than the frame size limit allows")
    }
    /// The machine refused.
    public static var outOfMemory: SmallocError {
        SmallocError(.outOfMemory, .error, "the machine has no memory for it")
    }
    /// The daemon's own limit of memory.
    public static var memoryLimit: SmallocError {
        SmallocError(.memoryLimit, .error, "it would take the daemon over its memory limit")
    }
    /// The limit of allocations.
    public static var allocationLimit: SmallocError {
        SmallocError(.allocationLimit, .error, "the daemon holds as many allocations as it may")
    }
    /// The limit of memory that clients map.
    public static var shareLimit: SmallocError {
        SmallocError(.shareLimit, .error, "the daemon shares as many allocations as it may")
    }
    /// A change of an allocation that is frozen.
    public static var frozen: SmallocError {
        SmallocError(.frozen, .error, "the allocation is frozen")
    }
    /// A change of an allocation that is being frozen, or a freeze of one that is being changed.
    public static var busy: SmallocError {
        SmallocError(.busy, .error, "another process or request is at work on the allocation")
    }
    /// A lease of another process is in the way.
    public static var leased: SmallocError {
        SmallocError(.busy, .error, "another process has a lease on its memory")
    }
    /// A map over a socket that carries no descriptors.
    public static var mapNeedsUnixSocket: SmallocError {
        SmallocError(.unknownOperation, .error, "map needs a Unix socket")
    }
    /// A map where the system could refuse a page of memory that is mapped.
    public static var mapIsOff: SmallocError {
        SmallocError(.unknownOperation, .error, "this daemon maps no memory")
    }
    /// The connection's limit of handles.
    public static var handleLimit: SmallocError {
        SmallocError(.handleLimit, .error, "the connection holds as many handles as it may")
    }
    /// A request that waited, and was taken back.
    public static var cancelled: SmallocError {
        SmallocError(.cancelled, .error, "the request was cancelled")
    }
    /// The connection's limit of requests that wait.
    public static var waitLimit: SmallocError {
        SmallocError(.waitLimit, .error, "the connection waits for as much as it may")
    }
}
