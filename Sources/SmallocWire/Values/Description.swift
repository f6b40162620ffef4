// What a user says of an allocation when it is made, and no later: shape, some bytes, lease.
// protocol/spec.md § 7.3 is the source of every check and its order.

/// A shape, metadata and a lease, read from a request.
///
/// In one piece and without memory of its own: a described alloc takes nothing that could be
/// refused, but its block.
public struct Description: Sendable {
    /// Bytes of metadata at most.
    @inlinable public static var metadataSizeMax: Int { 256 }

    /// Nil: it has none.
    public private(set) var shape: Shape?
    /// Milliseconds of its lease; 0: it ends with its connection.
    ///
    /// Nil: it has none.
    public private(set) var lease: UInt64?
    /// Bytes of metadata.
    public private(set) var metadataSize = 0
    private var bytes = InlineArray<256, UInt8>(repeating: 0)

    /// None of all.
    public init() {}

    /// What an alloc says that is leased and not described: it ends with its connection.
    public static var ofConnection: Description {
        var description = Description()
        description.lease = 0
        return description
    }

    /// Whether there is anything to keep.
    public var isEmpty: Bool { shape == nil && metadataSize == 0 && lease == nil }

    /// Copies the metadata to `target`, which has room for it.
    public func copyMetadata(to target: UnsafeMutableRawPointer) {
        withUnsafeBytes(of: bytes) { bytes in
            guard let start = bytes.baseAddress else { return }
            target.copyMemory(from: start, byteCount: metadataSize)
        }
    }

    /// Reads what an alloc in either mode says.
    ///
    /// - Parameter isLeased: Whether it has the flag `leased`.
    /// - Throws: See `init(frame:isLeased:)` and `init(words:)`.
    public init(_ payload: borrowing Payload, isLeased: Bool) throws(SmallocError) {
        switch payload {
        case .bytes(let bytes): try self.init(frame: bytes, isLeased: isLeased)
        case .words(let words): try self.init(words: words)
        }
    }

    /// Refuses a shape that an allocation of `length` elements can't have.
    ///
    /// - Throws: `.invalidArgument`.
    public func check(length: UInt64) throws(SmallocError) {
        guard let shape, shape.length != length else { return }
        throw .invalidArgument("the shape is not that of \(length) elements")
    }

    /// 2^64-1 is for ever, and so no lease.
    private mutating func setLease(_ milliseconds: UInt64) {
        lease = milliseconds == .max ? nil : milliseconds
    }

    /// Keeps a copy of `count` bytes.
    ///
    /// - Throws: `.invalidArgument`: they are too many.
    private mutating func setMetadata(
        _ start: UnsafeRawPointer?, _ count: UInt64
    ) throws(SmallocError) {
        guard count <= UInt64(Description.metadataSizeMax) else {
            throw .invalidArgument("metadata has at most \(Description.metadataSizeMax) bytes")
        }
        metadataSize = Int(count)
        guard let start, count > 0 else { return }
        withUnsafeMutableBytes(of: &bytes) { bytes in
            bytes.copyMemory(from: UnsafeRawBufferPointer(start: start, count: metadataSize))
        }
    }
}

extension Description {
    /// Reads what follows the name in a frame: u64 rank, as many u64 dimensions (none where the
    /// rank says that there is no shape), u64 lease, u16 size and the metadata.
    ///
    /// - Throws: `.invalidArgument` for a rank or a size of the metadata over its maximum,
    ///   `.malformedRequest` where the payload ends too early or too late, or for the time of a
    ///   lease without the flag.
    init(frame: RawSpan, isLeased: Bool) throws(SmallocError) {
        self.init()
        guard frame.byteCount >= 8 else { throw FrameCodec.shape }
        let rank = frame.littleEndian64(at: 0)
        guard rank == Shape.noRank || rank <= UInt64(Shape.rankMax) else {
            throw .invalidArgument("a shape has at most \(Shape.rankMax) dimensions")
        }
        let dimensions = rank == Shape.noRank ? 0 : Int(rank)
        let fixed = 8 + dimensions * 8 + 10
        guard frame.byteCount >= fixed else { throw FrameCodec.shape }
        if rank != Shape.noRank {
            var shape = Shape()
            for index in 0..<dimensions {
                _ = shape.append(frame.littleEndian64(at: 8 + index * 8))
            }
            self.shape = shape
        }
        let milliseconds = frame.littleEndian64(at: fixed - 10)
        guard isLeased || milliseconds == 0 else { throw FrameCodec.shape }
        if isLeased { setLease(milliseconds) }
        let size = frame.unsafeLoadUnaligned(fromByteOffset: fixed - 2, as: UInt16.self)
        let metadata = frame.extracting(droppingFirst: fixed)
        let count = UInt64(UInt16(littleEndian: size))
        if count <= UInt64(Description.metadataSizeMax), count != UInt64(metadata.byteCount) {
            throw FrameCodec.shape
        }
        try setMetadata(metadata.withUnsafeBytes { $0.baseAddress }, count)
    }

    /// Reads the words of a line: `shape=512x256`, `meta=base64:AQID`, `lease=30000`.
    ///
    /// - Throws: `.invalidArgument`, `.outOfMemory`.
    init(words: RawSpan) throws(SmallocError) {
        self.init()
        var words = Words(words)
        while !words.isAtEnd {
            let word = words.next()
            if let value = word.dropping(prefix: "shape=") {
                guard let shape = Shape(text: value) else {
                    throw .invalidArgument("a shape is scalar, or 1 to 8 lengths as in 512x256")
                }
                self.shape = shape
            } else if let value = word.dropping(prefix: "lease=") {
                guard let milliseconds = NumberText.digits(value) else {
                    throw .invalidArgument("a lease is given as lease=MILLISECONDS, 0 or more")
                }
                setLease(milliseconds)
            } else {
                guard let digits = word.dropping(prefix: "meta=base64:") else {
                    throw .invalidArgument("metadata is given as meta=base64:DIGITS")
                }
                // 4 digits for 3 bytes, and no more than that is decoded.
                guard digits.byteCount <= (Description.metadataSizeMax + 2) / 3 * 4 else {
                    throw .invalidArgument(
                        "metadata has at most \(Description.metadataSizeMax) bytes")
                }
                var out = Output(capacity: 512)
                guard digits.withUnsafeBytes({ TextBytes.decodeBase64($0, to: &out) }) else {
                    throw .invalidArgument("meta=base64: takes base64 as in RFC 4648")
                }
                if out.isLost { throw .outOfMemory }
                try setMetadata(out.bytes.baseAddress, UInt64(out.count))
            }
        }
    }

    /// The flags of a line that has these words behind the type; nil: it may not have them, each
    /// once at most.
    static func flags(_ words: borrowing Words) -> AllocFlags? {
        var words = Words(words.rest)
        var (shapes, metadata, leases) = (0, 0, 0)
        while !words.isAtEnd {
            let word = words.next()
            if word.dropping(prefix: "shape=") != nil {
                shapes += 1
            } else if word.dropping(prefix: "meta=") != nil {
                metadata += 1
            } else if word.dropping(prefix: "lease=") != nil {
                leases += 1
            } else {
                return nil
            }
        }
        guard shapes <= 1, metadata <= 1, leases <= 1 else { return nil }
        if leases > 0 { return [.described, .leased] }
        return shapes + metadata > 0 ? .described : []
    }
}
