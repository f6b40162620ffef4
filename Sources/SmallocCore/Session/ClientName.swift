// What a client calls itself in hello. It is for logs alone, and costs a session no memory beside
// its own.

internal import SmallocWire

/// A client's name and version, as it gave them: any bytes at all, at most `softwareSizeMax`.
public struct ClientName: Sendable {
    private var storage = InlineArray<64, UInt8>(repeating: 0)
    private var size: UInt8 = 0

    /// Makes an empty one.
    init() {}

    /// Keeps the beginning of what was given.
    init(_ bytes: RawSpan) {
        let most = min(bytes.byteCount, storage.count, Limits.softwareSizeMax)
        for index in 0..<most {
            storage[index] = bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
        }
        size = UInt8(most)
    }

    /// Whether the client gave none, or has not said hello.
    public var isEmpty: Bool { size == 0 }

    /// The bytes, not to be shown as they are.
    public var bytes: [UInt8] { (0..<Int(size)).map { storage[$0] } }
}
