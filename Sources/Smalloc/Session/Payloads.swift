// Memory of arrays that outlives the task which asked for a transfer, for as long as the connection
// works on it.

internal import SmallocWire

/// Where a reply's payload is received into.
///
/// Used by the connection's thread alone until the requests that it belongs to have ended.
protocol Sink: AnyObject, Sendable {
    /// Gives access to `size` bytes from `offset` on.
    func withMemory(_ offset: Int, _ size: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int)
        -> Int
}

/// An array that is received into: the bytes go from the socket to the array's own storage.
final class ArraySink<Element: BitwiseCopyable & Sendable>: Sink, @unchecked Sendable {
    private var array: [Element]

    init(count: Int) {
        // The memory is left as it comes: every byte is received before anybody sees it.
        array = [Element](unsafeUninitializedCapacity: count) { memory, initialized in
            adviseHuge(UnsafeMutableRawBufferPointer(memory))
            initialized = count
        }
    }

    func withMemory(
        _ offset: Int, _ size: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int
    ) -> Int {
        array.withUnsafeMutableBytes {
            body(UnsafeMutableRawBufferPointer(rebasing: $0[offset..<offset + size]))
        }
    }

    /// The array, once all has been received.
    ///
    /// Leaves an empty one.
    func take() -> [Element] {
        defer { array = [] }
        return array
    }
}

/// What is sent behind a header.
protocol Source: AnyObject, Sendable {
    /// Gives access to `size` bytes from `offset` on.
    func withMemory(_ offset: Int, _ size: Int, _ body: (UnsafeRawBufferPointer) -> Int) -> Int
}

/// An array that is sent from its own storage.
final class ArraySource<Element: BitwiseCopyable & Sendable>: Source {
    private let array: [Element]

    init(_ array: [Element]) { self.array = array }

    func withMemory(
        _ offset: Int, _ size: Int, _ body: (UnsafeRawBufferPointer) -> Int
    ) -> Int {
        array.withUnsafeBytes {
            body(UnsafeRawBufferPointer(rebasing: $0[offset..<offset + size]))
        }
    }
}
