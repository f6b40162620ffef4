// The 40 bytes that start every frame, in both directions. Source: protocol/spec.md § Frames.

/// The fixed little-endian header of a frame, request or reply.
///
/// `offset` and `size` are bytes, always. A field that an operation does not use is 0.
@frozen
public struct FrameHeader: Equatable, Sendable {
    /// 0xE5 in requests, 0xE6 in replies.
    public var magic: UInt8
    /// The protocol's version.
    public var version: UInt8
    /// An `Operation`'s number; open, since it comes from the wire.
    public var operation: UInt8
    /// See `Operation.flags`; 0 in replies.
    public var flags: UInt8
    /// See `Status`; 0 in requests.
    public var status: UInt16
    /// Bytes of name at the start of the payload.
    public var nameSize: UInt8
    /// Element type; in an error reply the error's class.
    public var type: UInt8
    /// The client's number, echoed in the reply.
    public var cookie: UInt64
    /// The allocation on this connection; 0: none.
    public var handle: UInt32
    /// Bytes that follow the header.
    public var payloadSize: UInt32
    /// Bytes.
    public var offset: UInt64
    /// Bytes.
    public var size: UInt64

    /// Bytes of a header.
    @inlinable public static var byteCount: Int { 40 }
    /// First byte of a request.
    ///
    /// Over 0x7f, so that no line of text can start with it.
    @inlinable public static var requestMagic: UInt8 { 0xE5 }
    /// First byte of a reply.
    @inlinable public static var replyMagic: UInt8 { 0xE6 }
    /// The protocol version spoken here.
    @inlinable public static var currentVersion: UInt8 { 1 }

    /// A header of the current version; every field not named is 0.
    @inlinable
    public init(
        magic: UInt8, operation: UInt8, flags: UInt8 = 0, status: UInt16 = 0, nameSize: UInt8 = 0,
        type: UInt8 = 0, cookie: UInt64 = 0, handle: UInt32 = 0, payloadSize: UInt32 = 0,
        offset: UInt64 = 0, size: UInt64 = 0
    ) {
        self.magic = magic
        self.version = FrameHeader.currentVersion
        self.operation = operation
        self.flags = flags
        self.status = status
        self.nameSize = nameSize
        self.type = type
        self.cookie = cookie
        self.handle = handle
        self.payloadSize = payloadSize
        self.offset = offset
        self.size = size
    }

    /// Reads a header from at least 40 bytes at `source`, which need no alignment.
    ///
    /// Checks nothing.
    @inlinable @inline(__always)
    public init(from source: UnsafeRawPointer) {
        magic = source.load(as: UInt8.self)
        version = source.load(fromByteOffset: 1, as: UInt8.self)
        operation = source.load(fromByteOffset: 2, as: UInt8.self)
        flags = source.load(fromByteOffset: 3, as: UInt8.self)
        status = UInt16(littleEndian: source.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
        nameSize = source.load(fromByteOffset: 6, as: UInt8.self)
        type = source.load(fromByteOffset: 7, as: UInt8.self)
        cookie = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        handle = UInt32(littleEndian: source.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
        payloadSize = UInt32(
            littleEndian: source.loadUnaligned(fromByteOffset: 20, as: UInt32.self))
        offset = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
        size = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
    }

    /// Whether the header at `source` has a name behind it.
    @inlinable @inline(__always)
    public static func isNamed(_ source: UnsafeRawPointer) -> Bool {
        source.load(fromByteOffset: 6, as: UInt8.self) != 0
    }

    /// Bytes of the name behind the header at `source`.
    @inlinable @inline(__always)
    public static func nameSize(_ source: UnsafeRawPointer) -> Int {
        Int(source.load(fromByteOffset: 6, as: UInt8.self))
    }

    /// Bytes of the frame whose header is at `source`.
    @inlinable @inline(__always)
    public static func wholeSize(_ source: UnsafeRawPointer) -> Int {
        let size = source.loadUnaligned(fromByteOffset: 20, as: UInt32.self)
        return byteCount + Int(UInt32(littleEndian: size))
    }

    /// Writes the 40 bytes at `target`, which needs no alignment.
    @inlinable @inline(__always)
    public func write(to target: UnsafeMutableRawPointer) {
        // Whole words: what is known when this is compiled then costs nothing.
        let first =
            UInt64(magic) | UInt64(version) << 8 | UInt64(operation) << 16 | UInt64(flags) << 24
            | UInt64(status) << 32 | UInt64(nameSize) << 48 | UInt64(type) << 56
        let third = UInt64(handle) | UInt64(payloadSize) << 32
        target.storeBytes(of: first.littleEndian, as: UInt64.self)
        target.storeBytes(of: cookie.littleEndian, toByteOffset: 8, as: UInt64.self)
        target.storeBytes(of: third.littleEndian, toByteOffset: 16, as: UInt64.self)
        target.storeBytes(of: offset.littleEndian, toByteOffset: 24, as: UInt64.self)
        target.storeBytes(of: size.littleEndian, toByteOffset: 32, as: UInt64.self)
    }

    /// The first 8 bytes of a request of the current version that has an operation and nothing
    /// else: no flags, no status, no name, no type; as a little-endian number.
    ///
    /// One comparison with it stands for seven.
    @inlinable @inline(__always)
    public static func plain(_ operation: Operation) -> UInt64 {
        UInt64(requestMagic) | UInt64(currentVersion) << 8 | UInt64(operation.rawValue) << 16
    }
}
