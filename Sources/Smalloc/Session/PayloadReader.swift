// Reading of replies that carry more than numbers: greeting, stat, list, stats.

internal import SmallocWire

extension Limits {
    /// Reads a greeting's payload: 64-bit little-endian numbers, more or fewer than known here.
    init(helloPayload payload: [UInt8]) {
        let fields = payload.withUnsafeBytes { bytes in
            (0..<bytes.count / 8).map {
                UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self))
            }
        }
        self.init(helloFields: fields)
    }
}

extension Reply {
    /// The features that a greeting tells; 0 in one that is too short.
    var features: UInt64 {
        var reader = PayloadReader(payload)
        for _ in 0..<2 { _ = try? reader.integer(UInt64.self) }
        return (try? reader.integer(UInt64.self)) ?? 0
    }
}

/// Walks through a payload; every step says whether there was enough of it.
struct PayloadReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type
    ) throws(SmallocError) -> T {
        let size = MemoryLayout<T>.size
        guard bytes.count - position >= size else { throw PayloadReader.short }
        defer { position += size }
        return bytes.withUnsafeBytes {
            T(littleEndian: $0.loadUnaligned(fromByteOffset: position, as: T.self))
        }
    }

    /// Whether there are so many bytes more.
    func has(_ size: Int) -> Bool { bytes.count - position >= size }

    mutating func bytes(_ size: Int) throws(SmallocError) -> [UInt8] {
        guard has(size) else { throw PayloadReader.short }
        defer { position += size }
        return Array(bytes[position..<position + size])
    }

    mutating func text(_ size: Int) throws(SmallocError) -> String {
        guard bytes.count - position >= size else { throw PayloadReader.short }
        defer { position += size }
        return String(decoding: bytes[position..<position + size], as: UTF8.self)
    }

    static var short: SmallocError { .unexpectedReply("the answer's payload is too short") }
}
