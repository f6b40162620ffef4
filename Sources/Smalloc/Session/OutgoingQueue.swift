// What a session has to send: frames in buffers, and bulk data where it is.

internal import SmallocWire

/// A part of memory that is sent behind a frame.
struct OutgoingData {
    let source: any Source
    let offset: Int
    let size: Int
}

/// Encoded frames, many in one block of memory.
final class OutgoingBuffer: @unchecked Sendable {
    @exclusivity(unchecked) var bytes = ByteBuffer(capacity: 16_384)
}

/// Frames, what the last of them is followed by, and how much of both has been sent.
struct OutgoingPiece {
    fileprivate let frames: OutgoingBuffer?
    /// Bytes of `frames`.
    fileprivate let frameSize: Int
    fileprivate let data: OutgoingData?
    /// Bytes of it that are frames, wherever they are.
    fileprivate let countedSize: Int
    private var sent = 0

    fileprivate init(
        _ frames: OutgoingBuffer?, _ frameSize: Int, _ data: OutgoingData?, countedSize: Int
    ) {
        self.frames = frames
        self.frameSize = frameSize
        self.data = data
        self.countedSize = countedSize
    }

    /// Bytes that have not been sent.
    var left: Int { frameSize + (data?.size ?? 0) - sent }

    /// Gives access to what is left, in one part or two of which the second follows the first.
    ///
    /// - Parameter body: Returns how many bytes it has sent; none if it is negative.
    /// - Returns: What `body` returned.
    mutating func send(
        _ body: (_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Int
    ) -> Int {
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        let begin = sent
        var rest = none
        if let frames, begin < frameSize {
            rest = UnsafeRawBufferPointer(rebasing: frames.bytes.bytes[begin..<frameSize])
        }
        let got: Int
        if let data {
            let past = max(0, begin - frameSize)
            got = data.source.withMemory(data.offset + past, data.size - past) {
                rest.isEmpty ? body($0, none) : body(rest, $0)
            }
        } else {
            got = body(rest, none)
        }
        if got > 0 { sent += got }
        return got
    }
}

/// Output in order.
///
/// A piece that is being sent is taken out, so that more can be appended meanwhile.
struct OutgoingQueue: ~Copyable {
    private var pieces: [OutgoingPiece] = []
    /// Frames behind all of the pieces, to which more are appended: not behind a reference, which
    /// would be counted up and down for each of them.
    private var tail = ByteBuffer(capacity: 16_384)
    private var spare: [OutgoingBuffer] = []

    var isEmpty: Bool { tail.count == 0 && pieces.isEmpty }
    /// Bytes of frames, without bulk data.
    var frameSize: Int { sealedSize + tail.count }
    /// The same, without the tail.
    private var sealedSize = 0

    /// Appends a frame; `data` follows it.
    mutating func append(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, _ data: OutgoingData
    ) {
        tail.append(header, body)
        seal(data)
    }

    /// Appends a frame that is whole.
    @inline(__always)
    mutating func append(_ header: FrameHeader, _ body: UnsafeRawBufferPointer) {
        tail.append(header, body)
    }

    /// Appends frames of a batch: a copy of few, many from where they are.
    mutating func append(_ record: BatchRecord, from offset: Int, to end: Int) {
        if end - offset <= 16_384 {
            tail.append(UnsafeRawBufferPointer(rebasing: record.frames.bytes[offset..<end]))
        } else {
            if tail.count > 0 { seal(nil) }
            let frames = OutgoingData(source: record, offset: offset, size: end - offset)
            pieces.append(OutgoingPiece(nil, 0, frames, countedSize: end - offset))
            sealedSize += end - offset
        }
    }

    /// Makes a piece of the tail.
    private mutating func seal(_ data: OutgoingData?) {
        let size = tail.count
        let buffer = spare.popLast() ?? OutgoingBuffer()
        swap(&buffer.bytes, &tail)
        pieces.append(OutgoingPiece(buffer, size, data, countedSize: size))
        sealedSize += size
    }

    /// Has the tail sent from where it is, if that is all there is.
    ///
    /// Nothing can be appended meanwhile.
    ///
    /// - Parameter body: Returns how many bytes it has sent; none if it is negative.
    /// - Returns: What `body` returned; nil if there is more, or nothing.
    @inline(__always)
    mutating func sendTail(_ body: (UnsafeRawBufferPointer) -> Int) -> Int? {
        guard pieces.isEmpty, tail.count > 0 else { return nil }
        let sent = body(tail.bytes)
        if sent > 0 { tail.removeFirst(sent) }
        return sent
    }

    /// Takes the first piece out, to be sent.
    mutating func takeFirst() -> OutgoingPiece? {
        if pieces.isEmpty {
            guard tail.count > 0 else { return nil }
            seal(nil)
        }
        let piece = pieces.removeFirst()
        sealedSize -= piece.countedSize
        return piece
    }

    /// Puts back a piece of which not all could be sent.
    mutating func putBack(_ piece: OutgoingPiece) {
        pieces.insert(piece, at: 0)
        sealedSize += piece.countedSize
    }

    /// Takes the memory of a piece that was sent back for the next one.
    mutating func recycle(_ piece: OutgoingPiece) {
        guard let buffer = piece.frames, spare.count < 4 else { return }
        buffer.bytes.removeAll()
        spare.append(buffer)
    }

    mutating func removeAll() {
        pieces = []
        tail.removeAll()
        sealedSize = 0
    }
}
