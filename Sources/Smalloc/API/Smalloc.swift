// The connection object of the synchronous face: how one comes by it, and what the daemon told.

internal import SmallocSystem
public import SmallocWire

/// A connection to a daemon, with the names of Node's smalloc: the synchronous face.
///
/// ```swift
/// import Smalloc
///
/// let a = try smalloc.alloc(4)
/// let b = try smalloc.alloc(4)
/// for i in 0..<4 { a[i] = Double(i); b[i] = Double(i * 2) }
/// try smalloc.copyOnto(b, 2, a, 0, 2)
/// try print(a.numbers())  // [4.0, 6.0, 2.0, 3.0]
/// ```
///
/// `smalloc` is the connection to the default address; `Smalloc("tcp:10.0.0.1:4747")` makes others.
/// Every call blocks its thread until the daemon has answered: one `send` and one `recv`, the
/// lowest latency there is. Any thread may call; calls on one connection take turns. For many
/// requests in flight, or from `async` code, use `AsyncSmalloc`; for many small requests from one
/// thread, `batch`.
///
/// A call that the connection fails ends with an error for which `isTransport` is true, and ends
/// the connection. What happens then is told at `Smalloc.Options.reconnects`.
public final class Smalloc: Sendable {
    let connection: Connection

    /// Connects and exchanges greetings.
    ///
    /// - Parameters:
    ///   - address: `unix:PATH` or `tcp:HOST:PORT`. nil: `$SMALLOC_ADDRESS`, or else the daemon's
    ///     own default, `$XDG_RUNTIME_DIR/smallocd.sock` or `/run/smallocd/smallocd.sock`.
    ///   - options: Timeouts and the like.
    /// - Throws: `.cannotConnect`, `.timedOut`, `.connectionLost`, `.unexpectedReply` (the peer is
    ///   no smallocd), or what the daemon refuses with (`.connectionLimit`, `.unsupportedVersion`).
    public convenience init(
        _ address: String? = nil, options: Smalloc.Options = Smalloc.Options()
    ) throws(SmallocError) {
        if let address {
            try self.init(address: Address(connection: address), options: options)
        } else {
            try self.init(address: .found(), options: options)
        }
    }

    /// Connects to an address that has been read already.
    ///
    /// See `init(_:options:)`.
    public init(
        address: Address, options: Smalloc.Options = Smalloc.Options()
    ) throws(SmallocError) {
        connection = try Connection(address, options)
    }

    /// Where it is connected to.
    public var address: Address { connection.address }

    /// How it behaves.
    public var options: Smalloc.Options { connection.options }

    /// Whether the connection stands, as far as is known without asking the daemon.
    public var isConnected: Bool { connection.isConnected }

    /// What the daemon allows, as told in its greeting.
    public var limits: Limits { connection.limits }

    /// Size of the largest allocation, in **bytes**, as told by the daemon.
    ///
    /// Node: `smalloc.kMaxLength`.
    public var kMaxLength: Int { Int(clamping: limits.lengthSizeMax) }

    // swift-format-ignore: AlwaysUseLowerCamelCase
    /// The element types by Node's names: `smalloc.Types.Double`.
    public var Types: Smalloc.ElementTypes { Smalloc.ElementTypes() }

    // swift-format-ignore: AlwaysUseLowerCamelCase
    /// The element types by Node's names: `Smalloc.Types.Double`.
    public static var Types: Smalloc.ElementTypes { Smalloc.ElementTypes() }

    /// Ends the connection.
    ///
    /// Anonymous allocations made on it are gone; later calls throw `.closed`.
    ///
    /// Releasing the last reference to the connection and its allocations does the same.
    public func close() { connection.close() }

    // MARK: The default connection

    private static let shared = Locked<Smalloc?>(nil)

    /// The connection to the default address, made at the first use and kept until it is closed.
    ///
    /// - Throws: As `init(_:options:)`; the next use then tries again.
    public static var standard: Smalloc {
        get throws(SmallocError) {
            try shared.withLock { shared throws(SmallocError) in
                if let shared, !shared.connection.isClosed { return shared }
                let made = try Smalloc()
                shared = made
                return made
            }
        }
    }

    // MARK: Failures that no call has thrown

    private static let handler = Locked<@Sendable (SmallocError) -> Void>(writeToStandardError)

    /// Called with a subscript's failure that no call can throw any more, because its allocation
    /// was released or never was.
    ///
    /// Writes one line to standard error unless it is replaced.
    ///
    /// It is called where the release happens: it must not block and must not use allocations.
    public static var unreportedFailureHandler: @Sendable (SmallocError) -> Void {
        get { handler.withLock { $0 } }
        set { handler.withLock { $0 = newValue } }
    }

    static func report(_ error: SmallocError) { unreportedFailureHandler(error) }
}

/// The connection to the default address: `smalloc.alloc(4)`, as one writes it in Node.
///
/// - Throws: As `Smalloc.standard`, whose other name this is.
public var smalloc: Smalloc {
    get throws(SmallocError) { try Smalloc.standard }
}

extension Smalloc {
    // swift-format-ignore: AlwaysUseLowerCamelCase
    /// Node's `smalloc.Types`.
    public struct ElementTypes: Sendable {
        /// Number 1, one byte, `Int8` in Swift.
        public var Int8: ElementType { .int8 }
        /// Number 2, one byte, `UInt8` in Swift; the default.
        public var Uint8: ElementType { .uint8 }
        /// Number 3, two bytes, `Int16` in Swift.
        public var Int16: ElementType { .int16 }
        /// Number 4, two bytes, `UInt16` in Swift.
        public var Uint16: ElementType { .uint16 }
        /// Number 5, four bytes, `Int32` in Swift.
        public var Int32: ElementType { .int32 }
        /// Number 6, four bytes, `UInt32` in Swift.
        public var Uint32: ElementType { .uint32 }
        /// Number 7, four bytes, `Float` in Swift.
        public var Float: ElementType { .float }
        /// Number 8, eight bytes, `Double` in Swift.
        public var Double: ElementType { .double }
        /// Number 9, one byte, `UInt8` in Swift; stores clamp to 0...255.
        public var Uint8Clamped: ElementType { .uint8Clamped }
    }
}
