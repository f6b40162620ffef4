// What waits to be sent on a multiplexed connection: frames in buffers, and bulk data where it is.

internal import SmallocWire

/// A piece of output: encoded frames, or a part of an array.
struct OutgoingPart {
    enum Content {
        case frames(OutgoingBuffer)
        case data(any Source)
    }
    var content: Content
    /// Bytes already sent.
    var offset: Int
    /// Bytes in all.
    var end: Int
}

/// Encoded frames, many in one block of memory.
final class OutgoingBuffer: @unchecked Sendable {
    var bytes = ByteBuffer(capacity: 16_384)
}

/// Output in order.
///
/// Touched under the connection's lock; the part that is being sent is taken out.
struct OutgoingQueue {
    private var parts: [OutgoingPart] = []
    private var spare: [OutgoingBuffer] = []

    var isEmpty: Bool { parts.isEmpty }
    /// Bytes of frames, without bulk data.
    private(set) var frameSize = 0

    /// Appends a frame; `data` follows it.
    mutating func append(
        _ header: FrameHeader, body: UnsafeRawBufferPointer,
        data: (source: any Source, offset: Int, size: Int)?
    ) {
        let buffer = tail()
        let before = buffer.bytes.count
        buffer.bytes.append(header)
        buffer.bytes.append(body)
        let after = buffer.bytes.count
        frameSize += after - before
        parts[parts.count - 1].end = after
        if let data {
            parts.append(
                OutgoingPart(
                    content: .data(data.source), offset: data.offset, end: data.offset + data.size))
        }
    }

    private mutating func tail() -> OutgoingBuffer {
        if let last = parts.last, case .frames(let buffer) = last.content { return buffer }
        let buffer = spare.popLast() ?? OutgoingBuffer()
        parts.append(OutgoingPart(content: .frames(buffer), offset: 0, end: 0))
        return buffer
    }

    /// Takes the first part out, to be sent.
    mutating func takeFirst() -> OutgoingPart? {
        guard !parts.isEmpty else { return nil }
        let part = parts.removeFirst()
        if case .frames = part.content { frameSize -= part.end - part.offset }
        return part
    }

    /// Puts back what of the first part could not be sent.
    mutating func putBack(_ part: OutgoingPart) {
        parts.insert(part, at: 0)
        if case .frames = part.content { frameSize += part.end - part.offset }
    }

    /// Takes the memory of a part that was sent back for the next one.
    mutating func recycle(_ part: OutgoingPart) {
        guard case .frames(let buffer) = part.content, spare.count < 4 else { return }
        buffer.bytes.removeAll()
        spare.append(buffer)
    }

    mutating func removeAll() {
        parts = []
        frameSize = 0
    }
}
