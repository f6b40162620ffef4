// What the thread of a multiplexed connection does with what it receives.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

extension LinkReader {
    /// Receives what is there.
    ///
    /// - Returns: Whether there may be more right now.
    mutating func receive() throws(SmallocError) -> Bool {
        if filling != nil { return try fill() }
        if start > 0 {
            if end > start { input.copyMemory(from: input + start, byteCount: end - start) }
            end -= start
            start = 0
        }
        let room = LinkReader.capacity - end
        let got = recv(link.socket.descriptor, input + end, room, Int32(MSG_DONTWAIT))
        guard try progress(got) else { return false }
        end += got
        // A bit at a time, so that askers don't wait long for the lock and the resumed run early.
        while try parse() { resume() }
        resume()
        return got == room || filling != nil
    }

    private func progress(_ got: Int) throws(SmallocError) -> Bool {
        if got > 0 { return true }
        if got == 0 { throw .connectionLost("the daemon closed the connection") }
        if errno == EAGAIN || errno == EINTR { return false }
        throw .connectionLost("the connection to the daemon is lost: \(systemMessage(errno))")
    }

    /// Receives the rest of a large payload to its place.
    mutating func fill() throws(SmallocError) -> Bool {
        guard var now = filling else { return true }
        let descriptor = link.socket.descriptor
        func attempt(_ target: UnsafeMutableRawBufferPointer) -> Int {
            recv(descriptor, target.baseAddress!, target.count, Int32(MSG_DONTWAIT))
        }
        let got: Int
        if let sink = now.sink {
            got = sink.withMemory(now.offset, now.left, attempt)
        } else {
            let scratch = UnsafeMutableRawBufferPointer(
                start: input, count: min(now.left, LinkReader.capacity))
            got = attempt(scratch)
        }
        guard try progress(got) else { return false }
        now.offset += got
        now.left -= got
        filling = now
        if now.left == 0 {
            finishFilling(now)
            if let lastWord { throw lastWord }
            resume()
        }
        return true
    }

    private mutating func finishFilling(_ done: Filling) {
        filling = nil
        let bytes = done.own?.take() ?? []
        link.lock.lock()
        if let index = link.slots.carrier(of: done.cookie) {
            if let record = link.slots.at(index).pointee.batch, done.own == nil {
                record.answered(BatchRecord.place(of: done.cookie))
                batchReplied(index, record, 1)
            } else {
                bytes.withUnsafeBytes { complete(index, done.header, $0) }
            }
        }
        link.lock.unlock()
    }

    mutating func resume() {
        guard !resumed.isEmpty else { return }
        link.handovers.add(1, ordering: .releasing)
        resumed.resumeAll()
    }

    /// Goes through some of the frames in the buffer.
    ///
    /// - Returns: Whether there may be more of them.
    private mutating func parse() throws(SmallocError) -> Bool {
        link.lock.lock()
        defer { link.lock.unlock() }
        while filling == nil, end - start >= FrameHeader.byteCount {
            if resumed.count == 32 { return true }
            let header = FrameHeader(from: input + start)
            guard header.magic == FrameHeader.replyMagic else {
                throw .unexpectedReply("the peer's answer is no smalloc frame")
            }
            let size = Int(header.payloadSize)
            let held = end - start - FrameHeader.byteCount
            let payload = UnsafeRawBufferPointer(
                start: input + start + FrameHeader.byteCount, count: min(size, held))
            guard let index = link.slots.carrier(of: header.cookie), isExpected(header, index)
            else {
                // What the daemon says before it closes for reasons of its own.
                if Status(rawValue: header.status).closes, size <= held {
                    throw SmallocError(reply: header, message: text(payload))
                }
                if Status(rawValue: header.status).closes, size <= 65_536 { return false }
                throw .unexpectedReply("the answer is to a request that was not made")
            }
            let slot = link.slots.at(index)
            if let record = slot.pointee.batch, takeBatch(index, record, header) { continue }
            if header.status == 0, size == slot.pointee.size, size <= held,
                slot.pointee.sink == nil
            {
                start += FrameHeader.byteCount + size
                conclude(index, deliver(payload, to: slot))
            } else if header.status == 0, let sink = slot.pointee.sink {
                guard size == slot.pointee.size else {
                    throw .unexpectedReply("the answer to read has \(size) bytes")
                }
                begin(header, sink, nil, slot.pointee.sinkOffset, payload)
            } else if size <= held {
                start += FrameHeader.byteCount + size
                complete(index, header, payload)
                if let lastWord { throw lastWord }
            } else if let room = roomOf(header, slot) {
                begin(header, room, nil, 0, payload)
            } else if size + FrameHeader.byteCount > LinkReader.capacity {
                let own = ArraySink<UInt8>(count: size)
                begin(header, own, own, 0, payload)
            } else {
                return false
            }
        }
        return false
    }

    /// Where a good reply to a request of a batch goes that is too large for the buffer.
    private func roomOf(
        _ header: FrameHeader, _ slot: UnsafeMutablePointer<Slot>
    ) -> BatchRoom? {
        guard let record = slot.pointee.batch, header.status == 0 else { return nil }
        let (place, size) = (BatchRecord.place(of: header.cookie), Int(header.payloadSize))
        guard size == record.at(place).pointee.size,
            size + FrameHeader.byteCount > LinkReader.capacity
        else { return nil }
        return BatchRoom(record, place)
    }

    /// Whether a place has asked for a reply like this.
    @inline(__always)
    private func isExpected(_ header: FrameHeader, _ index: Int) -> Bool {
        let slot = link.slots.at(index)
        if let record = slot.pointee.batch { return record.awaits(header) }
        return slot.pointee.operation == header.operation
    }

    /// Moves what the buffer holds of a payload to its place; the rest is received there.
    private mutating func begin(
        _ header: FrameHeader, _ sink: any Sink, _ own: ArraySink<UInt8>?, _ offset: Int,
        _ held: UnsafeRawBufferPointer
    ) {
        start += FrameHeader.byteCount + held.count
        if held.count > 0 {
            _ = sink.withMemory(offset, held.count) {
                $0.copyMemory(from: held)
                return held.count
            }
        }
        let size = Int(header.payloadSize)
        let rest = Filling(
            cookie: header.cookie, header: header, sink: sink, own: own,
            offset: offset + held.count, left: size - held.count)
        if rest.left > 0 {
            filling = rest
        } else if let index = link.slots.index(of: header.cookie) {
            conclude(index, Answer())
        }
    }

    /// Ends a request whose reply has come whole; one with a sink has no payload here.
    ///
    /// Under the lock.
    private mutating func complete(
        _ index: Int, _ header: FrameHeader, _ payload: UnsafeRawBufferPointer
    ) {
        let slot = link.slots.at(index)
        if Status(rawValue: header.status).closes {
            let error = SmallocError(reply: header, message: text(payload))
            lastWord = error
            conclude(index, Answer(error))
        } else if let record = slot.pointee.batch {
            record.take(header, payload)
            batchReplied(index, record, 1)
        } else if header.status != 0 {
            conclude(index, Answer(SmallocError(reply: header, message: text(payload))))
        } else if slot.pointee.sink != nil {
            conclude(index, Answer())
        } else if slot.pointee.size < 0 {
            // A handle that nobody will receive would stay open until the connection ends.
            let isWanted = slot.pointee.state == .waiting || slot.pointee.state == .asked
            if header.handle != 0, !isWanted { unwanted.append(header.handle) }
            conclude(index, Answer(AsyncReply(header: header, payload: Array(payload))))
        } else if slot.pointee.size != payload.count {
            let operation = Operation(rawValue: header.operation).map { "\($0)" } ?? "it"
            conclude(
                index,
                Answer(
                    .unexpectedReply("the answer to \(operation) has \(payload.count) bytes")))
        } else {
            conclude(index, deliver(payload, to: slot))
        }
    }

    /// Gives a payload that was asked for by its size to where it is wanted.
    ///
    /// Under the lock.
    @inline(__always)
    private func deliver(
        _ payload: UnsafeRawBufferPointer, to slot: UnsafeMutablePointer<Slot>
    ) -> Answer {
        guard let source = payload.baseAddress else { return Answer() }
        if let room = slot.pointee.room {
            // Once nobody waits or will come, the room may be gone.
            if slot.pointee.state == .waiting || slot.pointee.state == .asked {
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

    /// Under the lock.
    @inline(__always)
    private mutating func conclude(_ index: Int, _ answer: Answer) {
        let slot = link.slots.at(index)
        if slot.pointee.state == .waiting, let waiter = slot.pointee.waiter {
            link.slots.remove(at: index)
            resumed.append(waiter, answer)
        } else {
            _ = link.slots.finish(index, answer, replied: true)
        }
        link.replied()
    }

    private func text(_ payload: UnsafeRawBufferPointer) -> String {
        String(decoding: payload, as: UTF8.self)
    }
}
