// What `clients` tells of one connection. protocol/spec.md § Operations is the source.

/// A connection.
public struct ClientStatus {
    /// How its client speaks.
    ///
    /// The raw value is the number in a `clients` reply.
    public enum Mode: UInt8, CaseIterable, Sendable {
        case none = 0
        case text = 1
        case binary = 2

        /// The word in text mode.
        public var name: String { "\(self)" }
    }

    /// A number that no other connection of this run of the daemon has.
    public let id: UInt64
    /// The user that connected; nil: over TCP.
    public let owner: UInt32?
    /// The process that connected; nil: over TCP, or of another namespace.
    public let process: UInt32?
    /// How it speaks.
    public let mode: Mode
    /// Whether it is over TCP, and not a Unix socket.
    public let isTCP: Bool
    /// Whether it is not read from: its replies wait to leave, or a request is at work.
    public let isPaused: Bool
    /// Milliseconds since it was accepted.
    public let age: UInt64
    /// Handles that are open.
    public let handles: UInt64
    /// Bytes of input and output that wait.
    public let waitingSize: UInt64
    /// Maps that it was given, without those that it said to have unmapped.
    public let maps: UInt64
    /// Bytes received from it.
    public let readSize: UInt64
    /// Bytes sent to it.
    public let writtenSize: UInt64
    /// Requests received from it.
    public let requests: UInt64
    /// What it calls itself: any bytes, at most `Limits.softwareSizeMax`.
    public var software: UnsafeRawBufferPointer

    /// Takes what there is to tell.
    public init(
        id: UInt64, owner: UInt32?, process: UInt32?, mode: Mode, isTCP: Bool, isPaused: Bool,
        age: UInt64, handles: UInt64, waitingSize: UInt64, maps: UInt64, readSize: UInt64,
        writtenSize: UInt64, requests: UInt64, software: UnsafeRawBufferPointer
    ) {
        self.id = id
        self.owner = owner
        self.process = process
        self.mode = mode
        self.isTCP = isTCP
        self.isPaused = isPaused
        self.age = age
        self.handles = handles
        self.waitingSize = waitingSize
        self.maps = maps
        self.readSize = readSize
        self.writtenSize = writtenSize
        self.requests = requests
        self.software = software
    }

    /// Bytes of an entry without what the client calls itself.
    static var entrySize: Int { 8 + 10 * 8 }

    /// Puts an entry of a binary reply behind what an output holds.
    func append(to output: inout Output) {
        let size = ClientStatus.entrySize + software.count
        let first =
            UInt64(size) | UInt64(mode.rawValue) << 16 | (isTCP ? 1 << 24 : 0)
            | (isPaused ? 1 << 32 : 0) | UInt64(software.count) << 40
        let numbers: [UInt64] = [
            first, id, owner.map { UInt64($0) } ?? .max, process.map { UInt64($0) } ?? .max, age,
            handles, waitingSize, maps, readSize, writtenSize, requests,
        ]
        for number in numbers { output.append(number: number) }
        if let start = software.baseAddress { output.append(start, software.count) }
    }

    /// Reads the entry at the start of some bytes, which stay where they are as long as it.
    ///
    /// - Returns: The entry and its size; nil: it is none.
    public static func read(
        _ bytes: UnsafeRawBufferPointer
    ) -> (client: ClientStatus, size: Int)? {
        guard bytes.count >= entrySize else { return nil }
        func number(_ index: Int) -> UInt64 {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        let first = number(0)
        let size = Int(first & 0xFFFF)
        let nameSize = Int(first >> 40 & 0xFF)
        guard size >= entrySize + nameSize, size <= bytes.count else { return nil }
        let client = ClientStatus(
            id: number(1), owner: UInt32(exactly: number(2)), process: UInt32(exactly: number(3)),
            mode: Mode(rawValue: UInt8(truncatingIfNeeded: first >> 16)) ?? .none,
            isTCP: first >> 24 & 1 != 0, isPaused: first >> 32 & 1 != 0, age: number(4),
            handles: number(5), waitingSize: number(6), maps: number(7), readSize: number(8),
            writtenSize: number(9), requests: number(10),
            software: UnsafeRawBufferPointer(rebasing: bytes[entrySize..<entrySize + nameSize]))
        return (client, size)
    }

    /// The line of text mode.
    var text: String {
        "CLIENT id=\(id) uid=\(owner.map { "\($0)" } ?? "none")"
            + " pid=\(process.map { "\($0)" } ?? "none") mode=\(mode.name)"
            + " transport=\(isTCP ? "tcp" : "unix") age=\(age / 1000) handles=\(handles)"
            + " waiting=\(waitingSize) maps=\(maps) paused=\(isPaused ? "yes" : "no")"
            + " read=\(readSize) written=\(writtenSize) requests=\(requests)"
            + " program=\(ClientStatus.shown(software))"
    }

    /// What a client calls itself, made harmless: one word of printable ASCII, `-` for none.
    public static func shown(_ software: some Sequence<UInt8>) -> String {
        var text = ""
        for byte in software {
            text.unicodeScalars.append(
                byte > 0x20 && byte < 0x7F ? Unicode.Scalar(byte) : byte == 0x20 ? "_" : "?")
        }
        return text.isEmpty ? "-" : text
    }
}

extension Output {
    /// Puts a little-endian number of 8 bytes behind what it holds.
    mutating func append(number: UInt64) {
        reserve(8).storeBytes(of: number.littleEndian, as: UInt64.self)
    }
}
