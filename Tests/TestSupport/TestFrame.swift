// A frame as the specification has it, written again on purpose: the tests of the daemon must not
// share a mistake with its codec.

/// One binary frame, request or reply. protocol/spec.md § Frames.
public struct TestFrame: Equatable, Sendable, CustomStringConvertible {
    public var magic: UInt8 = 0xE5
    public var version: UInt8 = 1
    public var operation: UInt8
    public var flags: UInt8 = 0
    public var status: UInt16 = 0
    public var nameSize: UInt8 = 0
    public var type: UInt8 = 0
    public var cookie: UInt64 = 0
    public var handle: UInt32 = 0
    /// What the header says, which may differ from `payload.count` in a test of bad input.
    public var payloadSize: UInt32
    public var offset: UInt64 = 0
    public var size: UInt64 = 0
    public var payload: [UInt8]

    /// Bytes of a header.
    public static let headerSize = 40

    /// A request. A name goes to the front of the payload.
    public init(
        _ operation: UInt8, flags: UInt8 = 0, type: UInt8 = 0, cookie: UInt64 = 0,
        handle: UInt32 = 0, name: String = "", offset: UInt64 = 0, size: UInt64 = 0,
        payload: [UInt8] = []
    ) {
        self.operation = operation
        self.flags = flags
        self.type = type
        self.cookie = cookie
        self.handle = handle
        self.offset = offset
        self.size = size
        nameSize = UInt8(name.utf8.count)
        self.payload = Array(name.utf8) + payload
        payloadSize = UInt32(self.payload.count)
    }

    /// Reads the header; the payload stays empty. `bytes` must hold 40.
    public init(header bytes: [UInt8]) {
        precondition(bytes.count == TestFrame.headerSize, "a header has 40 bytes")
        func number(_ at: Int, _ size: Int) -> UInt64 {
            (0..<size).reduce(0) { $0 | UInt64(bytes[at + $1]) << UInt64(8 * $1) }
        }
        magic = bytes[0]
        version = bytes[1]
        operation = bytes[2]
        flags = bytes[3]
        status = UInt16(number(4, 2))
        nameSize = bytes[6]
        type = bytes[7]
        cookie = number(8, 8)
        handle = UInt32(number(16, 4))
        payloadSize = UInt32(number(20, 4))
        offset = number(24, 8)
        size = number(32, 8)
        payload = []
    }

    /// Header and payload as they travel.
    public var bytes: [UInt8] {
        var bytes: [UInt8] = [magic, version, operation, flags]
        func add(_ value: UInt64, _ size: Int) {
            for shift in 0..<size {
                bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * shift)))
            }
        }
        add(UInt64(status), 2)
        bytes.append(nameSize)
        bytes.append(type)
        add(cookie, 8)
        add(UInt64(handle), 4)
        add(UInt64(payloadSize), 4)
        add(offset, 8)
        add(size, 8)
        return bytes + payload
    }

    public var description: String {
        "operation \(operation) status 0x\(String(status, radix: 16)) cookie \(cookie)"
            + " handle \(handle) offset \(offset) size \(size) payload \(payloadSize)"
    }

    /// The payload of an error reply, or of `stats`, as text.
    public var text: String { String(decoding: payload, as: UTF8.self) }
}

/// The little-endian bytes of numbers of 64 bits.
public func littleEndian(_ numbers: UInt64...) -> [UInt8] {
    numbers.flatMap { number in (0..<8).map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) }
    }
}

/// The payload of a copy: where to.
public func copyTarget(offset: UInt64, handle: UInt32 = 0, name: String = "") -> [UInt8] {
    littleEndian(offset, UInt64(handle) | UInt64(name.utf8.count) << 32) + Array(name.utf8)
}
