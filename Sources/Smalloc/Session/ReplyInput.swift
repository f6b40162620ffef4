// What a connection has received and not used: bytes, and descriptors that came with them.

internal import Glibc
internal import SmallocWire

/// The input of a session: receives, finds the replies in it, and ends their requests.
///
/// Belongs to the thread that receives. Large payloads go straight to where they are wanted.
struct ReplyInput: ~Copyable {
    private let memory: UnsafeMutableRawPointer
    private let capacity: Int
    private var start = 0
    private var end = 0

    /// A payload that is received straight to where it belongs.
    private struct Filling {
        let header: FrameHeader
        let sink: any Sink
        /// The sink of a reply that was asked for as a whole and is too large for the buffer.
        let own: ArraySink<UInt8>?
        var offset: Int
        var left: Int
    }
    private var filling: Filling?
    /// Descriptors that have come and belong to replies that have not, in the order of the stream.
    private var descriptors: [Int32] = []
    /// Handles opened for calls that had been cancelled by then: to be closed.
    private(set) var unwantedHandles: [UInt32] = []
    /// Descriptors that came for such calls: to be closed.
    private var unwantedDescriptors: [Int32] = []
    /// Takes the state memory's descriptor, whoever's reply it comes with.
    private let state: ReceivedState
    /// What the daemon has said that it closes for.
    private var lastWord: SmallocError?

    /// - Parameters:
    ///   - capacity: Bytes of replies that are received at a time, at least 4096.
    ///   - state: The connection's.
    init(capacity: Int, _ state: ReceivedState) {
        precondition(capacity >= 4096)
        self.state = state
        self.capacity = capacity
        memory = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit {
        for descriptor in unwantedDescriptors + descriptors { _ = Glibc.close(descriptor) }
        memory.deallocate()
    }

    /// Whether the next bytes go straight to where they are wanted.
    var isFilling: Bool { filling != nil }
    /// Whether a part of a reply has come.
    var holdsPart: Bool { filling != nil || end > start }

    // MARK: Receiving

    /// Has bytes received to where they belong.
    ///
    /// - Parameter body: Receives into the room that it is given; returns how many bytes, or what
    ///   is not positive.
    /// - Returns: What `body` returned, and whether all of the room was filled.
    mutating func receive(
        _ body: (UnsafeMutableRawBufferPointer) -> Int
    ) -> (size: Int, isFull: Bool) {
        if let now = filling {
            let got = now.sink.withMemory(now.offset, now.left, body)
            guard got > 0 else { return (got, false) }
            filling?.offset += got
            filling?.left -= got
            return (got, true)
        }
        if start > 0 {
            if end > start { memory.copyMemory(from: memory + start, byteCount: end - start) }
            end -= start
            start = 0
        }
        let room = capacity - end
        let got = body(UnsafeMutableRawBufferPointer(start: memory + end, count: room))
        if got > 0 { end += got }
        return (got, got == room)
    }

    /// Takes over descriptors that came with the bytes received last.
    mutating func received(descriptors: [Int32]) { self.descriptors += descriptors }

    /// Closes descriptors that came for calls that had been cancelled by then.
    ///
    /// To be called without a lock: with the last of its descriptors, memory is freed.
    @inline(__always)
    mutating func closeUnwantedDescriptors() {
        guard !unwantedDescriptors.isEmpty else { return }
        for descriptor in unwantedDescriptors { _ = Glibc.close(descriptor) }
        unwantedDescriptors = []
    }

    mutating func takeUnwantedHandles() -> [UInt32] {
        guard !unwantedHandles.isEmpty else { return [] }
        defer { unwantedHandles = [] }
        return unwantedHandles
    }

    // MARK: Parsing

    /// Goes through some of the replies that have come.
    ///
    /// - Parameter completions: The tasks that are to be resumed.
    /// - Returns: Whether there may be more of them.
    /// - Throws: `.unexpectedReply` for what is no reply to a request of this session; what the
    ///   daemon says before it closes. The connection is of no use afterwards.
    mutating func parse(
        _ session: inout ClientSession, into completions: inout CompletionList
    ) throws(SmallocError) -> Bool {
        if let filled = filling {
            guard filled.left == 0 else { return false }
            filling = nil
            finish(filled, &session, &completions)
            if let lastWord { throw lastWord }
        }
        while end - start >= FrameHeader.byteCount {
            if completions.count >= CompletionList.most { return true }
            let header = FrameHeader(from: memory + start)
            guard header.magic == FrameHeader.replyMagic else { break }
            guard header.version == FrameHeader.currentVersion else {
                throw .unexpectedReply("an answer has version \(header.version)")
            }
            let size = Int(header.payloadSize)
            let held = end - start - FrameHeader.byteCount
            let payload = UnsafeRawBufferPointer(
                start: memory + start + FrameHeader.byteCount, count: min(size, held))
            guard let index = session.pending.carrier(of: header.cookie),
                isExpected(header, session.pending.at(index))
            else {
                try refuse(header, payload)
                return false
            }
            let entry = session.pending.at(index)
            if let record = entry.pointee.batch,
                takeBatch(index, record, header, &session, &completions)
            {
                continue
            }
            if header.status == 0, size == entry.pointee.size, size <= held,
                entry.pointee.sink == nil
            {
                start += FrameHeader.byteCount + size
                conclude(index, deliver(payload, to: entry), &session, &completions)
            } else if header.status == 0, let sink = entry.pointee.sink {
                guard size == entry.pointee.size else {
                    throw .unexpectedReply("the answer to read has \(size) bytes")
                }
                fill(sink, nil, entry.pointee.sinkOffset, header, payload)
            } else if size <= held {
                start += FrameHeader.byteCount + size
                complete(index, header, payload, &session, &completions)
                if let lastWord { throw lastWord }
            } else if let room = roomOf(header, entry) {
                fill(room, nil, 0, header, payload)
            } else if size + FrameHeader.byteCount > capacity {
                let most = header.status == 0 ? session.payloadSizeMax : 65_536
                guard size <= most else {
                    throw .unexpectedReply("an answer has a payload of \(size) bytes")
                }
                let own = ArraySink<UInt8>(count: size)
                fill(own, own, 0, header, payload)
            } else {
                return false
            }
            if let filled = filling {
                guard filled.left == 0 else { return false }
                filling = nil
                finish(filled, &session, &completions)
            }
        }
        try refuseText()
        return false
    }

    /// Throws for what is no frame: a daemon that refuses a connection says why in a line of text.
    private func refuseText() throws(SmallocError) {
        guard end > start,
            memory.load(fromByteOffset: start, as: UInt8.self) != FrameHeader.replyMagic
        else { return }
        let text = String(
            decoding: UnsafeRawBufferPointer(start: memory + start, count: end - start),
            as: UTF8.self)
        let line = text.prefix { $0 != "\n" && $0 != "\r\n" }
        // The rest of a line that has begun is waited for.
        if line.count == text.count, "ERR ".hasPrefix(text.prefix(4)), end - start < 4096 { return }
        let words = line.split(separator: " ", maxSplits: 2)
        guard words.count == 3, words[0] == "ERR",
            let known = Status.table.first(where: { $0.name == words[1] })
        else { throw .unexpectedReply("the peer's answer is no smalloc frame") }
        let message = words[2].split(separator: ": ", maxSplits: 1).last ?? words[2]
        throw SmallocError(known.status, known.errorClass, String(message))
    }

    /// Whether an entry has asked for a reply like this, and has not had it.
    @inline(__always)
    private func isExpected(
        _ header: FrameHeader, _ entry: UnsafeMutablePointer<PendingRequest>
    ) -> Bool {
        if let record = entry.pointee.batch { return record.awaits(header) }
        return entry.pointee.operation == header.operation && !entry.pointee.isReplied
    }

    /// Throws for a reply that answers no request, unless its reason has not come whole.
    private func refuse(
        _ header: FrameHeader, _ payload: UnsafeRawBufferPointer
    ) throws(SmallocError) {
        // What the daemon says before it closes for reasons of its own.
        let size = Int(header.payloadSize)
        guard Status(rawValue: header.status).closes, size + FrameHeader.byteCount <= capacity
        else { throw .unexpectedReply("the answer is to a request that was not made") }
        if payload.count == size {
            throw SmallocError(reply: header, message: String(decoding: payload, as: UTF8.self))
        }
    }

    /// Moves what has come of a payload to its place; the rest is received there.
    private mutating func fill(
        _ sink: any Sink, _ own: ArraySink<UInt8>?, _ offset: Int, _ header: FrameHeader,
        _ held: UnsafeRawBufferPointer
    ) {
        start += FrameHeader.byteCount + held.count
        if held.count > 0 {
            _ = sink.withMemory(offset, held.count) {
                $0.copyMemory(from: held)
                return held.count
            }
        }
        filling = Filling(
            header: header, sink: sink, own: own, offset: offset + held.count,
            left: Int(header.payloadSize) - held.count)
    }

    /// Ends the request whose payload has been received straight to its place.
    private mutating func finish(
        _ filled: Filling, _ session: inout ClientSession, _ completions: inout CompletionList
    ) {
        guard let index = session.pending.carrier(of: filled.header.cookie) else { return }
        if let own = filled.own {
            own.take().withUnsafeBytes {
                complete(index, filled.header, $0, &session, &completions)
            }
        } else if let record = session.pending.at(index).pointee.batch {
            record.answered(BatchRecord.place(of: filled.header.cookie))
            batchReplied(index, record, 1, &session, &completions)
        } else {
            conclude(index, Answer(), &session, &completions)
        }
    }

    // MARK: Ending requests

    /// Ends a request whose reply has come whole; one with a sink has no payload here.
    private mutating func complete(
        _ index: Int, _ header: FrameHeader, _ payload: UnsafeRawBufferPointer,
        _ session: inout ClientSession, _ completions: inout CompletionList
    ) {
        let entry = session.pending.at(index)
        let answer: Answer
        if Status(rawValue: header.status).closes {
            let error = SmallocError(
                reply: header, message: String(decoding: payload, as: UTF8.self))
            lastWord = error
            answer = Answer(error)
        } else if let record = entry.pointee.batch {
            record.take(header, payload)
            return batchReplied(index, record, 1, &session, &completions)
        } else if header.status != 0 {
            answer = Answer(
                SmallocError(reply: header, message: String(decoding: payload, as: UTF8.self)))
        } else if entry.pointee.size < 0 {
            answer = whole(header, payload, entry)
        } else if entry.pointee.size != payload.count {
            let operation = Operation(rawValue: header.operation).map { "\($0)" } ?? "it"
            answer = Answer(
                .unexpectedReply("the answer to \(operation) has \(payload.count) bytes"))
        } else {
            answer = deliver(payload, to: entry)
        }
        conclude(index, answer, &session, &completions)
    }

    /// Descriptors that come with a reply: the allocation's, and once the state memory's.
    private static var descriptorsMax: UInt32 { 2 }

    /// A good reply that was asked for as a whole, with the descriptor that belongs to it.
    private mutating func whole(
        _ header: FrameHeader, _ payload: UnsafeRawBufferPointer,
        _ entry: UnsafeMutablePointer<PendingRequest>
    ) -> Answer {
        var reply = Reply(header: header, payload: Array(payload))
        if entry.pointee.descriptorsAt >= 0 {
            let at = entry.pointee.descriptorsAt
            guard payload.count - at >= 4 else { return Answer(PayloadReader.short) }
            let count = UInt32(
                littleEndian: payload.loadUnaligned(fromByteOffset: at, as: UInt32.self))
            guard count <= descriptors.count, count <= ReplyInput.descriptorsMax else {
                // Which of those that will come belongs to which reply is not known any more.
                let error = SmallocError.unexpectedReply("the answer came without its descriptors")
                lastWord = error
                return Answer(error)
            }
            reply.descriptors = Array(descriptors.prefix(Int(count)))
            descriptors.removeFirst(Int(count))
            if count == ReplyInput.descriptorsMax, let last = reply.descriptors.popLast() {
                state.take(last)
            }
        }
        // What will not be received would stay open until the connection ends.
        if !entry.pointee.state.isWanted {
            if header.handle != 0 { unwantedHandles.append(header.handle) }
            unwantedDescriptors += reply.descriptors
            reply.descriptors = []
        }
        return Answer(reply)
    }

    /// Gives a payload that was asked for by its size to where it is wanted.
    @inline(__always)
    private func deliver(
        _ payload: UnsafeRawBufferPointer, to entry: UnsafeMutablePointer<PendingRequest>
    ) -> Answer {
        guard let source = payload.baseAddress else { return Answer() }
        if let room = entry.pointee.room {
            // Once the task does not wait and will not come, the room may be gone.
            if entry.pointee.state.isWanted {
                room.copyMemory(from: source, byteCount: payload.count)
            }
            return Answer()
        }
        if payload.count == 8 { return Answer(number: source.loadUnaligned(as: UInt64.self)) }
        var number: UInt64 = 0
        withUnsafeMutableBytes(of: &number) {
            $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: payload.prefix(8)))
        }
        return Answer(number: number)
    }

    @inline(__always)
    private func conclude(
        _ index: Int, _ answer: Answer, _ session: inout ClientSession,
        _ completions: inout CompletionList
    ) {
        let entry = session.pending.at(index)
        let isWait = entry.pointee.isWait
        if entry.pointee.state == .waiting, let waiter = entry.pointee.waiter {
            session.pending.remove(at: index)
            completions.append(waiter, answer)
        } else {
            _ = session.pending.finish(index, answer, replied: true)
        }
        if isWait { session.waitReplied() } else { session.replied() }
    }

    // MARK: Batches

    /// Files the good replies to a batch that have come, as far as they follow each other.
    ///
    /// - Returns: Whether there were any.
    @inline(__always)
    private mutating func takeBatch(
        _ index: Int, _ record: BatchRecord, _ first: FrameHeader,
        _ session: inout ClientSession, _ completions: inout CompletionList
    ) -> Bool {
        let next = UnsafeRawPointer(memory + start)
        let taken = record.takeGood(next, UnsafeRawPointer(memory + end), first.cookie >> 32)
        guard taken.count > 0 else { return false }
        start += taken.end - next
        batchReplied(index, record, taken.count, &session, &completions)
        return true
    }

    private func batchReplied(
        _ index: Int, _ record: BatchRecord, _ count: Int, _ session: inout ClientSession,
        _ completions: inout CompletionList
    ) {
        if record.unanswered == 0 {
            let entry = session.pending.at(index)
            if entry.pointee.state == .waiting, let waiter = entry.pointee.waiter {
                session.pending.remove(at: index)
                completions.append(waiter, Answer())
            } else {
                _ = session.pending.finish(index, Answer(), replied: true)
            }
        }
        session.replied(count)
    }

    /// Where a good reply to a request of a batch goes that is too large for the buffer.
    private func roomOf(
        _ header: FrameHeader, _ entry: UnsafeMutablePointer<PendingRequest>
    ) -> BatchRoom? {
        guard let record = entry.pointee.batch, header.status == 0 else { return nil }
        let (place, size) = (BatchRecord.place(of: header.cookie), Int(header.payloadSize))
        guard size == record.at(place).pointee.size, size + FrameHeader.byteCount > capacity
        else { return nil }
        return BatchRoom(record, place)
    }
}
