// A client of the tests: asks by frames or lines, waits for each answer.

/// A binary connection that has said hello.
public final class FrameClient: @unchecked Sendable {
    public let socket: RawSocket
    /// The numbers of the greeting, by name.
    public let greeting: [String: UInt64]
    private var cookie: UInt64 = 0

    /// Says hello on a fresh connection.
    public init(_ socket: RawSocket) throws {
        self.socket = socket
        try socket.send(TestFrame(1, cookie: .max, payload: Array("tests/1".utf8)).bytes)
        let reply = try socket.receiveFrame()
        var greeting: [String: UInt64] = [:]
        for (index, name) in Vectors.values.helloFields.enumerated() {
            let field = reply.payload.dropFirst(index * 8).prefix(8)
            guard field.count == 8 else { break }
            greeting[name] = field.reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        self.greeting = greeting
        guard reply.status == 0 else { throw RawSocketError.ended }
    }

    /// Asks, and waits for the answer.
    public func call(
        _ operation: String, flags: UInt8 = 0, type: UInt8 = 0, handle: UInt32 = 0,
        name: String = "", offset: UInt64 = 0, size: UInt64 = 0, payload: [UInt8] = []
    ) throws -> TestFrame {
        cookie += 1
        let frame = TestFrame(
            Vectors.values.operation(operation) ?? 0, flags: flags, type: type, cookie: cookie,
            handle: handle, name: name, offset: offset, size: size, payload: payload)
        try socket.send(frame.bytes)
        return try socket.receiveFrame()
    }

    /// Allocates, with a handle.
    public func alloc(_ name: String, size: UInt64, type: UInt8 = 2) throws -> TestFrame {
        try call("alloc", type: type, name: name, size: size)
    }

    /// The name of a reply's status.
    public static func statusName(_ frame: TestFrame) -> String {
        Vectors.values.statuses.first { $0.number == Int(frame.status) }?.name ?? "\(frame.status)"
    }
}

/// A text connection.
public final class TextClient: @unchecked Sendable {
    public let socket: RawSocket

    public init(_ socket: RawSocket) { self.socket = socket }

    /// Sends a line and gives the line that comes back.
    public func ask(_ line: String) throws -> String {
        try socket.send(line: line)
        return try socket.receiveLine()
    }

    /// The keys and values of `stats`.
    public func stats() throws -> [String: String] {
        try socket.send(line: "stats")
        var stats: [String: String] = [:]
        while true {
            let words = try socket.receiveLine().split(separator: " ", maxSplits: 2).map(
                String.init)
            guard words.count == 3, words[0] == "STAT" else { return stats }
            stats[words[1]] = words[2]
        }
    }
}
