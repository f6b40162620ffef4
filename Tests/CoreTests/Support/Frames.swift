// Requests as bytes and replies as values, for tests that speak to a session.

import SmallocWire

/// The bytes of a request frame; a name goes to the front of the payload.
func frame(
    _ operation: Operation, flags: UInt8 = 0, type: UInt8 = 0, cookie: UInt64 = 0,
    handle: UInt32 = 0, name: String = "", offset: UInt64 = 0, size: UInt64 = 0,
    payload: [UInt8] = []
) -> [UInt8] {
    let whole = Array(name.utf8) + payload
    let header = FrameHeader(
        magic: FrameHeader.requestMagic, operation: operation.rawValue, flags: flags,
        nameSize: UInt8(name.utf8.count), type: type, cookie: cookie, handle: handle,
        payloadSize: UInt32(whole.count), offset: offset, size: size)
    return bytes(of: header) + whole
}

/// The 40 bytes of a header.
func bytes(of header: FrameHeader) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: FrameHeader.byteCount) { buffer, count in
        header.write(to: UnsafeMutableRawPointer(buffer.baseAddress!))
        count = FrameHeader.byteCount
    }
}

/// The header at the start of at least 40 bytes.
func header(of bytes: [UInt8]) -> FrameHeader {
    bytes.withUnsafeBytes { FrameHeader(from: $0.baseAddress!) }
}

/// Numbers as 8 little-endian bytes each.
func numbers(_ values: UInt64...) -> [UInt8] {
    values.flatMap { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) } }
}

/// What a copy carries of its dest.
func copyDest(_ offset: UInt64, handle: UInt32 = 0, name: String = "") -> [UInt8] {
    numbers(offset, UInt64(handle) | UInt64(name.utf8.count) << 32) + Array(name.utf8)
}

/// One reply frame.
struct Reply: Equatable, CustomStringConvertible {
    var header: FrameHeader
    var payload: [UInt8]

    var status: Status { Status(rawValue: header.status) }
    var text: String { String(decoding: payload, as: UTF8.self) }

    /// `ok`, or status, class and message: `outOfRange RangeError: start > length`.
    var outcome: String {
        if status == .ok { return "ok" }
        let name = ErrorClass(rawValue: header.type)?.name ?? "class \(header.type)"
        return "\(status.name) \(name): \(text)"
    }

    var description: String { "\(header.operation) #\(header.cookie) \(outcome)" }

    /// The number at `index` of a payload of numbers.
    func number(_ index: Int) -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(payload[index * 8 + $1]) << UInt64(8 * $1) }
    }
}

/// Splits output into reply frames; nil if it is not whole frames.
func replies(in output: [UInt8]) -> [Reply]? {
    var found: [Reply] = []
    var at = 0
    while at < output.count {
        guard output.count - at >= FrameHeader.byteCount else { return nil }
        let header = output.withUnsafeBytes { FrameHeader(from: $0.baseAddress! + at) }
        guard header.magic == FrameHeader.replyMagic, header.version == 1, header.flags == 0 else {
            return nil
        }
        at += FrameHeader.byteCount
        guard output.count - at >= Int(header.payloadSize) else { return nil }
        found.append(
            Reply(header: header, payload: Array(output[at..<at + Int(header.payloadSize)])))
        at += Int(header.payloadSize)
    }
    return found
}
