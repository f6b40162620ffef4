// What `slowlog` tells of one request. protocol/spec.md § Operations is the source.

/// A request that took long.
public struct SlowRequest {
    /// What it waited for most.
    ///
    /// The raw value is the number in a `slowlog` reply.
    public enum Cause: UInt8, CaseIterable, Sendable {
        /// For its turn, and the requests that were answered with it.
        case nothing = 0
        /// For work on memory, on another thread.
        case work = 1
        /// For memory on its way back.
        case memory = 2
        /// For the client: to send the rest of it, or to take the reply.
        case client = 3

        /// The word in text mode.
        public var name: String { "\(self)" }
    }

    /// Grows with each entry.
    public var id: UInt64
    /// When it was answered, in milliseconds since 1970.
    public var time: UInt64
    /// What was asked, by number.
    public var operation: UInt8
    /// What it waited for.
    public var cause: Cause
    /// Bytes that it was about; of requests that share a turn, how many they were.
    public var size: UInt64
    /// Microseconds.
    public var duration: UInt64
    /// The allocation's; empty: not known, or not to be told.
    public var name: UnsafeRawBufferPointer

    /// Takes what there is to tell.
    public init(
        id: UInt64, time: UInt64, operation: UInt8, cause: Cause, size: UInt64, duration: UInt64,
        name: UnsafeRawBufferPointer
    ) {
        self.id = id
        self.time = time
        self.operation = operation
        self.cause = cause
        self.size = size
        self.duration = duration
        self.name = name
    }

    /// Bytes of an entry without the name.
    static var entrySize: Int { 8 + 4 * 8 }

    /// The name of the operation; `operation99` for one that is not known here.
    public var operationName: String {
        Operation(wire: operation)?.name ?? "operation\(operation)"
    }

    /// Puts an entry of a binary reply behind what an output holds.
    func append(to output: inout Output) {
        let first =
            UInt64(SlowRequest.entrySize + name.count) | UInt64(operation) << 16
            | UInt64(cause.rawValue) << 24 | UInt64(name.count) << 32
        for number in [first, id, time, size, duration] { output.append(number: number) }
        if let start = name.baseAddress { output.append(start, name.count) }
    }

    /// Reads the entry at the start of some bytes, which stay where they are as long as it.
    ///
    /// - Returns: The entry and its size; nil: it is none.
    public static func read(
        _ bytes: UnsafeRawBufferPointer
    ) -> (request: SlowRequest, size: Int)? {
        guard bytes.count >= entrySize else { return nil }
        func number(_ index: Int) -> UInt64 {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        let first = number(0)
        let size = Int(first & 0xFFFF)
        let nameSize = Int(first >> 32 & 0xFF)
        guard size >= entrySize + nameSize, size <= bytes.count else { return nil }
        let request = SlowRequest(
            id: number(1), time: number(2), operation: UInt8(truncatingIfNeeded: first >> 16),
            cause: Cause(rawValue: UInt8(truncatingIfNeeded: first >> 24)) ?? .nothing,
            size: number(3), duration: number(4),
            name: UnsafeRawBufferPointer(rebasing: bytes[entrySize..<entrySize + nameSize]))
        return (request, size)
    }

    /// The line of text mode, up to the name.
    func text(time: String) -> String {
        let fraction = "\(duration % 1_000_000 + 1_000_000)".dropFirst()
        return "SLOW id=\(id) time=\(time) operation=\(operationName)"
            + " duration=\(duration / 1_000_000).\(fraction) size=\(size)"
            + " waited=\(cause.name) name="
    }
}
