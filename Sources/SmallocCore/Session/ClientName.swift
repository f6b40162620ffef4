// What a client calls itself in hello, which is for logs alone.

internal import SmallocWire

/// A client's name and version, as it gave them: any bytes at all, at most `softwareSizeMax`.
public struct ClientName: Sendable {
    /// The bytes, not to be shown as they are.
    public let bytes: [UInt8]

    /// Makes an empty one.
    init() { bytes = [] }

    /// Keeps the beginning of what was given.
    init(_ given: RawSpan) {
        bytes = given.withUnsafeBytes { Array($0.prefix(Limits.softwareSizeMax)) }
    }

    /// Whether the client gave none, or has not said hello.
    public var isEmpty: Bool { bytes.isEmpty }
}
