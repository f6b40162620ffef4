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
    /// Where they are, once it is done and if there are any.
    var payload: UnsafeMutableRawPointer?
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
/// Used by the session that it is entered in, under its lock, until all replies have come, and
/// after that only read.
final class BatchRecord: Source, @unchecked Sendable {
    @exclusivity(unchecked) private(set) var frames: ByteBuffer
    @exclusivity(unchecked) private var arena = PayloadArena()
    private let entries: BatchEntries
    /// Why requests failed, by their place.
    @exclusivity(unchecked) private(set) var failures: [Int: SmallocError]
    /// Frames whose replies have not come.
    @exclusivity(unchecked) private(set) var unanswered: Int
    /// Bytes of all payloads that are asked for, if all goes well.
    private let expected: Int
    /// Places before this one have been sent, or failed before they were.
    @exclusivity(unchecked) private var sentCount = 0
    /// The batch's entry in the table of pending requests.
    @exclusivity(unchecked) var carrier = 0
    /// That of the batch's tickets.
    let number: UInt32

    /// - Parameters:
    ///   - frames: Those of the entries that have not failed, with their places for cookies.
    ///   - failures: Why the others did.
    ///   - number: That of the batch's tickets.
    init(
        _ frames: consuming ByteBuffer, _ entries: consuming BatchEntries,
        _ failures: [Int: SmallocError], expected: Int, number: UInt32
    ) {
        self.number = number
        unanswered = entries.count - failures.count
        self.frames = frames
        self.entries = entries
        self.failures = failures
        self.expected = expected
    }

    /// Requests, those that failed before they were sent included.
    var count: Int { entries.count }

    /// A request by its ticket.
    @inline(__always)
    func at(_ ticket: Smalloc.Batch.Ticket) -> UnsafeMutablePointer<BatchEntry> {
        precondition(ticket.batch == number, "the ticket is another batch's")
        return entries[Int(ticket.place)]
    }

    /// A request by its place.
    @inline(__always)
    func at(_ place: Int) -> UnsafeMutablePointer<BatchEntry> { entries[place] }

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
            let (place, end) = (place(at: offset), end(at: offset))
            if let failure = reason(entries[place].pointee) {
                answered(place, failure)
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
    func prepare() {
        if expected > 0, expected <= 65_536 { arena.reserve(expected) }
    }

    /// Has so many frames from `offset` on ready to be sent: their replies may come.
    ///
    /// - Returns: Where they end.
    func dispatch(_ count: Int, from offset: Int) -> Int {
        let upper = UInt32(truncatingIfNeeded: carrier) | 1 << 31
        var offset = offset
        for _ in 0..<count {
            frames.set(upper, at: offset + 12)
            offset = end(at: offset)
        }
        sentCount = offset < frames.count ? place(at: offset) : entries.count
        return offset
    }

    /// Which request's frame begins at an offset.
    private func place(at offset: Int) -> Int {
        Int(frames.bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt32.self).littleEndian)
    }

    /// Where the frame ends that begins at an offset.
    private func end(at offset: Int) -> Int {
        let size = frames.bytes.loadUnaligned(fromByteOffset: offset + 20, as: UInt32.self)
        return offset + FrameHeader.byteCount + Int(size.littleEndian)
    }

    /// Gives access to a part of the frames.
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
        return place < sentCount && entries[place].pointee.state == .asked
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
                header.cookie >> 32 == carrier, place < sentCount,
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
        if header.status != 0 {
            let message = String(decoding: payload, as: UTF8.self)
            answered(place, SmallocError(reply: header, message: message))
        } else if payload.count != entries[place].pointee.size {
            answered(place, .unexpectedReply("the answer has \(payload.count) bytes"))
        } else {
            if let source = payload.baseAddress {
                room(entries[place]).copyMemory(from: source, byteCount: payload.count)
            }
            answered(place)
        }
    }

    /// Memory for what a request reads, to be filled before it is said to be answered.
    func room(_ place: Int) -> UnsafeMutableRawPointer { room(entries[place]) }

    @inline(__always)
    private func room(_ entry: UnsafeMutablePointer<BatchEntry>) -> UnsafeMutableRawPointer {
        let room = arena.room(entry.pointee.size)
        entry.pointee.payload = room
        return room
    }

    /// Ends a request: its payload, if it has any, is in its room.
    func answered(_ place: Int, _ failure: SmallocError? = nil) {
        if let failure {
            fail(place, failure)
        } else {
            entries[place].pointee.state = .done
        }
        unanswered -= 1
    }

    /// The requests from an offset on were cancelled before they were sent.
    func skip(from offset: Int) {
        var offset = offset
        while offset < frames.count {
            answered(place(at: offset), .cancelled)
            offset = end(at: offset)
        }
    }

    private func fail(_ place: Int, _ failure: SmallocError) {
        entries[place].pointee.state = .failed
        failures[place] = failure
    }

    // MARK: Reading

    /// What a request that is done read; no address if it read nothing.
    ///
    /// Valid for as long as this object is.
    @inline(__always)
    func bytes(_ entry: UnsafeMutablePointer<BatchEntry>) -> UnsafeRawBufferPointer {
        let size = entry.pointee.size
        return UnsafeRawBufferPointer(
            start: size > 0 ? entry.pointee.payload : nil, count: size)
    }
}

/// The room of a large payload, which is received there.
final class BatchRoom: Sink, @unchecked Sendable {
    private let record: BatchRecord
    private let memory: UnsafeMutableRawPointer

    init(_ record: BatchRecord, _ place: Int) {
        self.record = record
        memory = record.room(place)
    }

    func withMemory(
        _ offset: Int, _ size: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int
    ) -> Int {
        body(UnsafeMutableRawBufferPointer(start: memory + offset, count: size))
    }
}
