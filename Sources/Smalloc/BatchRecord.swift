// What a batch asks, as frames, and what came of it, request by request.

internal import SmallocWire

/// One request of a batch.
struct BatchEntry {
    enum State: UInt8 {
        /// Not to be sent, or refused: the record knows why.
        case failed
        /// Gathered, and not answered yet.
        case asked
        /// Answered as it was asked for.
        case done
    }

    var state = State.asked
    var operation: UInt8 = 0
    var type = ElementType.uint8
    /// Which of the batch's allocations it is about; -1: none.
    var remote: Int32 = -1
    /// Onto which of them it copies; -1: it does not copy.
    var other: Int32 = -1
    /// Bytes of payload that a good reply has.
    var size = 0
    /// Where they are, once it is done.
    var offset = 0
}

/// The requests of a batch, in their order.
struct BatchEntries: ~Copyable {
    private var memory: UnsafeMutablePointer<BatchEntry>
    private var capacity: Int
    private(set) var count = 0

    init(capacity: Int) {
        self.capacity = capacity
        memory = .allocate(capacity: capacity)
    }

    deinit { memory.deallocate() }

    @inline(__always)
    mutating func append(_ entry: BatchEntry) {
        if count == capacity { grow() }
        (memory + count).initialize(to: entry)
        count += 1
    }

    @inline(never)
    private mutating func grow() {
        let larger = UnsafeMutablePointer<BatchEntry>.allocate(capacity: max(32, capacity * 2))
        larger.moveInitialize(from: memory, count: count)
        memory.deallocate()
        memory = larger
        capacity = max(32, capacity * 2)
    }

    @inline(__always)
    subscript(_ place: Int) -> UnsafeMutablePointer<BatchEntry> { memory + place }
}

/// What a batch asks.
///
/// Used by whatever carries it, under its lock, until all replies have come, and after that only
/// read.
final class BatchRecord: Source, @unchecked Sendable {
    @exclusivity(unchecked) private(set) var frames: ByteBuffer
    @exclusivity(unchecked) private var payload = ByteBuffer()
    private let entries: BatchEntries
    /// Why requests failed, by their place.
    @exclusivity(unchecked) private(set) var failures: [Int: SmallocError]
    /// Frames whose replies have not come.
    @exclusivity(unchecked) private(set) var unanswered: Int
    /// Bytes of all payloads that are asked for, if all goes well.
    private let expected: Int

    /// - Parameters:
    ///   - frames: Those of the entries that have not failed, with their places for cookies.
    ///   - failures: Why the others did.
    init(
        _ frames: consuming ByteBuffer, _ entries: consuming BatchEntries,
        _ failures: [Int: SmallocError], expected: Int
    ) {
        unanswered = entries.count - failures.count
        self.frames = frames
        self.entries = entries
        self.failures = failures
        self.expected = expected
    }

    /// Requests, those that failed before they were sent included.
    var count: Int { entries.count }

    /// A request by its place.
    @inline(__always)
    func at(_ place: Int) -> UnsafeMutablePointer<BatchEntry> {
        precondition(place >= 0 && place < entries.count, "the ticket is another batch's")
        return entries[place]
    }

    /// A cookie's upper bit tells that it is a batch's; the next 31 are the carrier's, to find the
    /// batch by, and the lower 32 are the request's place.
    static var cookieMark: UInt64 { 1 << 63 }

    static func place(of cookie: UInt64) -> Int { Int(cookie & 0xFFFF_FFFF) }

    // MARK: Sending

    /// Takes requests back that must not be sent any more.
    ///
    /// - Parameter reason: Why not; nil for those that go.
    func withdraw(_ reason: (BatchEntry) -> SmallocError?) {
        var kept = ByteBuffer(capacity: frames.count)
        var offset = 0
        while offset < frames.count {
            let (cookie, end) = frame(at: offset)
            let place = BatchRecord.place(of: cookie)
            if let failure = reason(entries[place].pointee) {
                fail(place, failure)
                unanswered -= 1
            } else {
                kept.append(UnsafeRawBufferPointer(rebasing: frames.bytes[offset..<end]))
            }
            offset = end
        }
        frames = kept
    }

    /// Takes memory for the payloads, if they are small.
    ///
    /// Here, as memory is cheapest where as much was just given back: by the task that asks.
    func prepare() { if expected > 0, expected <= 65_536 { payload.reserve(expected) } }

    /// Puts the carrier's number for the batch into all cookies.
    func setCarrier(_ number: Int) {
        let upper = UInt32(truncatingIfNeeded: number) | 1 << 31
        var offset = 0
        while offset < frames.count {
            let end = frame(at: offset).end
            frames.set(upper, at: offset + 12)
            offset = end
        }
    }

    /// The first frame's cookie.
    var cookie: UInt64 { frame(at: 0).cookie }

    private func frame(at offset: Int) -> (cookie: UInt64, end: Int) {
        let header = FrameHeader(from: frames.bytes.baseAddress! + offset)
        return (header.cookie, offset + FrameHeader.byteCount + Int(header.payloadSize))
    }

    /// The end of so many frames from `offset` on.
    func end(ofFrames count: Int, from offset: Int) -> Int {
        var offset = offset
        for _ in 0..<count { offset = frame(at: offset).end }
        return offset
    }

    func withMemory(
        _ offset: Int, _ size: Int, _ body: (UnsafeRawBufferPointer) -> Int
    ) -> Int {
        body(UnsafeRawBufferPointer(rebasing: frames.bytes[offset..<offset + size]))
    }

    // MARK: Answers

    /// Whether a reply is one that is waited for.
    @inline(__always)
    func awaits(_ header: FrameHeader) -> Bool {
        let place = BatchRecord.place(of: header.cookie)
        return place < count && entries[place].pointee.state == .asked
            && entries[place].pointee.operation == header.operation
    }

    /// Files the replies at `start`, for as long as they are whole and good ones to this batch.
    ///
    /// - Parameter carrier: The upper half of their cookies.
    /// - Returns: How many they are, and where they end.
    @inline(__always)
    func takeGood(
        _ start: UnsafeRawPointer, _ end: UnsafeRawPointer, _ carrier: UInt64
    ) -> (count: Int, end: UnsafeRawPointer) {
        var next = start
        var taken = 0
        while end - next >= FrameHeader.byteCount {
            let header = FrameHeader(from: next)
            let place = BatchRecord.place(of: header.cookie)
            let size = Int(header.payloadSize)
            guard header.magic == FrameHeader.replyMagic, header.status == 0,
                header.cookie >> 32 == carrier, place < count,
                size <= end - next - FrameHeader.byteCount
            else { break }
            let entry = entries[place]
            guard entry.pointee.state == .asked, entry.pointee.operation == header.operation,
                entry.pointee.size == size
            else { break }
            next += FrameHeader.byteCount
            if size > 0 { room(entry).copyMemory(from: next, byteCount: size) }
            entry.pointee.state = .done
            next += size
            taken &+= 1
        }
        unanswered &-= taken
        return (taken, next)
    }

    /// Files a reply that `awaits` has been asked for.
    func take(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) {
        let place = BatchRecord.place(of: header.cookie)
        if header.status == 0, payload.count == entries[place].pointee.size {
            let room = room(entries[place])
            if let source = payload.baseAddress {
                room.copyMemory(from: source, byteCount: payload.count)
            }
            unanswered -= 1
        } else {
            take(place, refusal: header, payload)
        }
    }

    @inline(never)
    private func take(
        _ place: Int, refusal header: FrameHeader, _ payload: UnsafeRawBufferPointer
    ) {
        if header.status != 0 {
            fail(
                place,
                SmallocError(reply: header, message: String(decoding: payload, as: UTF8.self)))
        } else {
            fail(place, .unexpectedReply("the answer has \(payload.count) bytes"))
        }
        unanswered -= 1
    }

    /// Memory for what a request reads, which is done with this.
    func room(_ place: Int) -> UnsafeMutableRawPointer { room(entries[place]) }

    @inline(__always)
    private func room(_ entry: UnsafeMutablePointer<BatchEntry>) -> UnsafeMutableRawPointer {
        payload.align(to: 8)
        entry.pointee.offset = payload.count
        entry.pointee.state = .done
        return payload.appendRoom(entry.pointee.size)
    }

    /// Ends a request whose reply the carrier has read itself.
    func answered(_ place: Int, _ failure: SmallocError? = nil) {
        if let failure { fail(place, failure) }
        unanswered -= 1
    }

    /// The requests from an offset on were cancelled before they were sent.
    func skip(from offset: Int) {
        var offset = offset
        while offset < frames.count {
            let (cookie, end) = frame(at: offset)
            answered(BatchRecord.place(of: cookie), .cancelled)
            offset = end
        }
    }

    private func fail(_ place: Int, _ failure: SmallocError) {
        entries[place].pointee.state = .failed
        failures[place] = failure
    }

    // MARK: Reading

    /// What a request that is done read.
    ///
    /// Valid for as long as this object is.
    @inline(__always)
    func bytes(_ entry: UnsafeMutablePointer<BatchEntry>) -> UnsafeRawBufferPointer {
        guard entry.pointee.size > 0, let base = payload.bytes.baseAddress else {
            return UnsafeRawBufferPointer(start: nil, count: 0)
        }
        return UnsafeRawBufferPointer(
            start: base + entry.pointee.offset, count: entry.pointee.size)
    }
}
