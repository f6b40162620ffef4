// Conditions that only a client can find. Their numbers lie in 0xF000...0xFFFF and never travel.

internal import Glibc
public import SmallocWire

extension Status {
    /// No connection could be made: no daemon there, no permission, or a wrong connection string.
    public static var cannotConnect: Status { Status(rawValue: 0xF001) }
    /// The connection broke.
    ///
    /// A request under way may or may not have taken effect.
    public static var connectionLost: Status { Status(rawValue: 0xF002) }
    /// The answer did not come in time.
    ///
    /// The request may or may not have taken effect, or still will.
    public static var timedOut: Status { Status(rawValue: 0xF003) }
    /// The peer answered something that is no valid reply; the connection is given up.
    public static var unexpectedReply: Status { Status(rawValue: 0xF004) }
    /// `close()` was called on this side.
    public static var closed: Status { Status(rawValue: 0xF005) }
    /// The connection belongs to the process that this one is a fork of.
    ///
    /// Nothing was sent, and nothing of the parent's is closed. The way on is a connection of the
    /// fork's own.
    public static var forked: Status { Status(rawValue: 0xF006) }

    /// The symbol of this status, for those that travel and for those that don't.
    public var symbol: String {
        switch self {
        case .cannotConnect: "cannotConnect"
        case .connectionLost: "connectionLost"
        case .timedOut: "timedOut"
        case .unexpectedReply: "unexpectedReply"
        case .closed: "closed"
        case .forked: "forked"
        default: name
        }
    }
}

extension Status: CustomStringConvertible {
    /// The symbol.
    public var description: String { symbol }
}

extension SmallocError {
    /// Whether no answer came, or the daemon's last word on the connection: the request may or may
    /// not have taken effect.
    ///
    /// True for all that a client finds by itself, for the statuses after which the daemon closes
    /// (`Status.closes`), as `.shuttingDown`, and for `.cancelled`: the task was cancelled while it
    /// waited, or the daemon has cancelled the request, as it does when it stops.
    public var isTransport: Bool {
        status.rawValue >= 0xF000 || status.closes || status == .cancelled
    }

    /// As `description`.
    ///
    /// Where the error is known as `any Error`, Foundation gives the same by `errorDescription`.
    public var localizedDescription: String { description }

    /// Has `catch SmallocError.noData` catch every error of that status, whatever its message.
    public static func ~= (pattern: SmallocError, error: SmallocError) -> Bool {
        pattern.status == error.status
    }

    /// The same where any error may be thrown.
    public static func ~= (pattern: SmallocError, error: any Error) -> Bool {
        (error as? SmallocError)?.status == pattern.status
    }

    /// What later calls get on a connection that this has ended.
    var afterwards: SmallocError {
        switch status {
        case .connectionLost, .cannotConnect, .closed, .forked: self
        case .timedOut:
            .connectionLost("the connection was given up: an earlier call had no answer in time")
        default: .connectionLost("the connection to the daemon is lost: \(message)")
        }
    }

    static func cannotConnect(_ message: String) -> SmallocError {
        SmallocError(.cannotConnect, .error, message)
    }
    static func connectionLost(_ message: String) -> SmallocError {
        SmallocError(.connectionLost, .error, message)
    }
    static func timedOut(_ message: String) -> SmallocError {
        SmallocError(.timedOut, .error, message)
    }
    static func unexpectedReply(_ message: String) -> SmallocError {
        SmallocError(.unexpectedReply, .error, message)
    }
    static var closed: SmallocError {
        SmallocError(.closed, .error, "the connection was closed by this side")
    }
    static var forked: SmallocError {
        SmallocError(
            .forked, .error,
            "the connection belongs to the process that made it, of which this one is a fork: "
                + "connect anew")
    }
    /// A handle of a connection that was there before the present one.
    static var lostWithConnection: SmallocError {
        .connectionLost("the connection that this allocation belonged to is lost")
    }
    static var foreignAllocation: SmallocError {
        .invalidArgument("the allocation is on another connection")
    }
    static var notAnObject: SmallocError {
        SmallocError(.invalidArgument, .typeError, "obj must be an Object")
    }
    static var sourceNotAnObject: SmallocError {
        SmallocError(.invalidArgument, .typeError, "source must be an object")
    }
    static var destNotAnObject: SmallocError {
        SmallocError(.invalidArgument, .typeError, "dest must be an object")
    }
    static var isArray: SmallocError {
        SmallocError(.invalidArgument, .typeError, "Arrays are not supported")
    }
    static var isBuffer: SmallocError {
        SmallocError(.invalidArgument, .typeError, "obj cannot be a Buffer")
    }
    /// What is wrong with a connection by the number that receiving or sending has failed with.
    static func lost(_ number: Int32) -> SmallocError {
        if number == EMFILE {
            return .connectionLost(
                "a descriptor of the daemon's memory was lost: this process may open no more of "
                    + "them (ulimit -n)")
        }
        return .connectionLost("the connection to the daemon is lost: \(systemMessage(number))")
    }
    static func wrongElement(_ element: String, _ type: ElementType) -> SmallocError {
        .invalidArgument("the allocation holds \(type.name) elements, not \(element)")
    }
    static func partOfElement(_ size: Int, _ type: ElementType) -> SmallocError {
        .invalidArgument("\(size) bytes are no whole number of \(type.name) elements")
    }
    /// The error reply as the error that it tells.
    ///
    /// Unknown classes read as Error.
    init(reply: FrameHeader, message: String) {
        self.init(
            Status(rawValue: reply.status), ErrorClass(rawValue: reply.type) ?? .error, message)
    }
}

/// The operating system's words for an error number.
func systemMessage(_ number: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard let base = buffer.baseAddress, let text = strerror_r_portable(number, base, 256)
        else { return "error \(number)" }
        return String(cString: text)
    }
}

/// glibc has two `strerror_r`; Swift sees the one that returns an `Int32`.
private func strerror_r_portable(
    _ number: Int32, _ buffer: UnsafeMutablePointer<CChar>, _ size: Int
) -> UnsafePointer<CChar>? {
    strerror_r(number, buffer, size) == 0 ? UnsafePointer(buffer) : nil
}

/// One line to standard error, the last resort for a failure that no call can report.
@Sendable
func writeToStandardError(_ error: SmallocError) {
    let line = "smalloc: unreported failure: \(error)\n"
    _ = line.utf8.withContiguousStorageIfAvailable { write(2, $0.baseAddress, $0.count) }
}
