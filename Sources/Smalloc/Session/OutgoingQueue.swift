// What waits to be sent on a multiplexed connection: frames in buffers, and bulk data where it is.

internal import SmallocWire

/// A piece of output: encoded frames, or a part of an array.
struct OutgoingPart {
    enum Content {
        case frames(OutgoingBuffer)
        case data(any Source)
        /// Many frames of a batch, where they are.
        case batch(BatchRecord)
    }
    /// Whether it is frames, and not what follows one.
    var isFrames: Bool { if case .data = content { false } else { true } }
    var content: Content
    /// Bytes already sent.
    var offset: Int
    /// Bytes in all.
    var end: Int
}

/// Encoded frames, many in one block of memory.
final class OutgoingBuffer: @unchecked Sendable {
    @exclusivity(unchecked) var bytes = ByteBuffer(capacity: 16_384)
}

/// Output in order.
///
/// Touched under the connection's lock; the part that is being sent is taken out.
struct OutgoingQueue: ~Copyable {
    private var parts: [OutgoingPart] = []
    /// Frames behind all of the parts, to which more are appended: not behind a reference, which
    /// would be counted up and down for each of them.
    private var tail = ByteBuffer(capacity: 16_384)
    private var spare: [OutgoingBuffer] = []

    var isEmpty: Bool { tail.count == 0 && parts.isEmpty }
    /// Bytes of frames, without bulk data.
    var frameSize: Int { sealedSize + tail.count }
    /// The same, without the tail.
    private var sealedSize = 0

    /// Appends a frame; `data` follows it.
    mutating func append(
        _ header: FrameHeader, body: UnsafeRawBufferPointer,
        data: (source: any Source, offset: Int, size: Int)
    ) {
        append(header, body: body)
        seal()
        parts.append(
            OutgoingPart(
                content: .data(data.source), offset: data.offset, end: data.offset + data.size))
    }

    /// Appends a frame that is whole.
    @inline(__always)
    mutating func append(_ header: FrameHeader, body: UnsafeRawBufferPointer) {
        tail.append(header, body)
    }

    /// Appends frames of a batch: a copy of few, many from where they are.
    mutating func append(_ record: BatchRecord, from offset: Int, to end: Int) {
        if end - offset <= 16_384 {
            tail.append(UnsafeRawBufferPointer(rebasing: record.frames.bytes[offset..<end]))
        } else {
            seal()
            parts.append(OutgoingPart(content: .batch(record), offset: offset, end: end))
            sealedSize += end - offset
        }
    }

    /// Makes a part of the tail.
    private mutating func seal() {
        let size = tail.count
        guard size > 0 else { return }
        let buffer = spare.popLast() ?? OutgoingBuffer()
        swap(&buffer.bytes, &tail)
        parts.append(OutgoingPart(content: .frames(buffer), offset: 0, end: size))
        sealedSize += size
    }

    /// Takes the first part out, to be sent.
    mutating func takeFirst() -> OutgoingPart? {
        if parts.isEmpty { seal() }
        guard !parts.isEmpty else { return nil }
        let part = parts.removeFirst()
        if part.isFrames { sealedSize -= part.end - part.offset }
        return part
    }

    /// Puts back what of the first part could not be sent.
    mutating func putBack(_ part: OutgoingPart) {
        parts.insert(part, at: 0)
        if part.isFrames { sealedSize += part.end - part.offset }
    }

    /// Takes the memory of a part that was sent back for the next one.
    mutating func recycle(_ part: OutgoingPart) {
        guard case .frames(let buffer) = part.content, spare.count < 4 else { return }
        buffer.bytes.removeAll()
        spare.append(buffer)
    }

    mutating func removeAll() {
        parts = []
        tail.removeAll()
        sealedSize = 0
    }
}
