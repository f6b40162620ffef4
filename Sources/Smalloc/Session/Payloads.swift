// Memory that payloads are received into and sent from.

internal import SmallocWire

/// Where a reply's payload is received into.
///
/// Used by one thread at a time, until the requests that it belongs to have ended.
protocol Sink: AnyObject, Sendable {
    /// Gives access to `size` bytes from `offset` on.
    func withMemory(_ offset: Int, _ size: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int)
        -> Int
}

/// What is sent behind a header.
protocol Source: AnyObject, Sendable {
    /// Gives access to `size` bytes from `offset` on.
    func withMemory(_ offset: Int, _ size: Int, _ body: (UnsafeRawBufferPointer) -> Int) -> Int
}

/// An array that is received into: the bytes go from the socket to the array's own storage.
///
/// It outlives the task that asked, for as long as the connection works on it.
final class ArraySink<Element: BitwiseCopyable & Sendable>: Sink, @unchecked Sendable {
    private var array: [Element]

    init(count: Int) {
        // The memory is left as it comes: every byte is received before the array is handed out.
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
        array.withUnsafeMutableBytes { settle($0, as: Element.self) }
        return array
    }
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

/// The caller's memory, borrowed for the duration of a call that blocks the caller.
final class CallerMemory: Sink, Source, @unchecked Sendable {
    private let base: UnsafeMutableRawPointer?
    let count: Int

    init(_ buffer: UnsafeMutableRawBufferPointer) {
        base = buffer.baseAddress
        count = buffer.count
    }

    /// For reading only.
    init(_ buffer: UnsafeRawBufferPointer) {
        base = UnsafeMutableRawPointer(mutating: buffer.baseAddress)
        count = buffer.count
    }

    func withMemory(
        _ offset: Int, _ size: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int
    ) -> Int {
        precondition(offset >= 0 && size >= 0 && size <= count - offset)
        return body(UnsafeMutableRawBufferPointer(start: base.map { $0 + offset }, count: size))
    }

    func withMemory(
        _ offset: Int, _ size: Int, _ body: (UnsafeRawBufferPointer) -> Int
    ) -> Int {
        withMemory(offset, size) { (target: UnsafeMutableRawBufferPointer) in
            body(UnsafeRawBufferPointer(target))
        }
    }
}
