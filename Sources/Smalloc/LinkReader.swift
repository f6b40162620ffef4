// What the thread of a multiplexed connection does for it: receives, files payloads, resumes who
// waits, runs those who run there, sends for them, watches deadlines, and goes on sending when the
// socket takes more.

internal import Glibc
internal import SmallocWire
internal import Synchronization

/// What the thread knows by itself.
struct LinkReader: ~Copyable {
    private let link: Link
    private let executor: ConnectionExecutor
    private let input: UnsafeMutableRawPointer
    private var start = 0
    private var end = 0
    private static var capacity: Int { 262_144 }

    /// A payload that is received straight to where it belongs.
    private struct Filling {
        let cookie: UInt64
        let header: FrameHeader
        /// nil: into nothing.
        let sink: (any Sink)?
        /// For a reply without a sink that is too large for the buffer.
        let own: ArraySink<UInt8>?
        var offset: Int
        var left: Int
    }
    private var filling: Filling?
    private var resumed: [(waiter: Waiter, outcome: Outcome)] = []
    /// Handles opened for calls that had been cancelled by then.
    private var unwanted: [UInt32] = []
    /// The last wait ended with nothing.
    private var isQuiet = false
    private var idleTicks = 0

    init(_ link: Link) {
        self.link = link
        executor = link.executor
        input = .allocate(byteCount: LinkReader.capacity, alignment: 16)
    }

    deinit { input.deallocate() }

    /// Works until the connection ends.
    mutating func run() {
        do throws(SmallocError) {
            var more = false
            var scheduled = false
            while true {
                let jobs = executor.runJobs()
                // A flush that was scheduled before the last batch has waited long enough; what
                // was asked for here and what came off the backlog has nobody else to send it.
                let behind = link.lock.withLock {
                    !link.outgoing.isEmpty && (scheduled || !link.flushScheduled)
                }
                if behind { link.flush() }
                scheduled = false
                if !more || jobs, try !waitForInput(jobs) { continue }
                scheduled = link.lock.withLock { link.flushScheduled }
                more = try receive()
                for handle in unwanted { link.forget(Request.close(handle).header) }
                unwanted.removeAll(keepingCapacity: true)
            }
        } catch {
            resume()
            link.end(error)
        }
    }

    // MARK: Waiting

    /// - Parameter jobs: Whether there is other work to do, so that this only has a look.
    /// - Returns: Whether there is something to receive.
    private mutating func waitForInput(_ jobs: Bool) throws(SmallocError) -> Bool {
        var timeout: Int32 = -1
        let jobs = jobs || !executor.isReadyToSleep()
        let stalled = link.lock.withLock {
            if jobs {
                timeout = 0
                return link.stalled
            }
            if link.flushScheduled || (link.inFlight > Link.fewInFlight && !isQuiet) {
                timeout = 1
                return link.stalled
            }
            link.parked = true
            if link.timeout != .max {
                if link.inFlight > 0 { idleTicks = 0 }
                // After some idle time nobody is to be woken once a second for nothing.
                link.sleeping = idleTicks > 4
                if !link.sleeping { timeout = tick }
            }
            return link.stalled
        }
        var waits = (
            pollfd(
                fd: link.socket.descriptor, events: Int16(POLLIN) | (stalled ? Int16(POLLOUT) : 0),
                revents: 0),
            pollfd(fd: executor.wakeDescriptor, events: Int16(POLLIN), revents: 0)
        )
        let ready = withUnsafeMutablePointer(to: &waits) {
            $0.withMemoryRebound(to: pollfd.self, capacity: 2) { poll($0, 2, timeout) }
        }
        isQuiet = ready == 0 && !jobs
        idleTicks = isQuiet ? idleTicks + 1 : 0
        let overdue = link.lock.withLock {
            link.parked = false
            link.sleeping = false
            return link.flushScheduled && timeout == 1 && ready == 0
        }
        if overdue { link.flush() }
        if ready < 0, errno != EINTR { throw .connectionLost(systemMessage(errno)) }
        if ready > 0, waits.1.revents != 0 {
            executor.clearWakes()
            if let ended = link.lock.withLock({ link.ended }) { throw ended }
        }
        if ready > 0, waits.0.revents & Int16(POLLOUT) != 0 {
            link.lock.withLock { link.stalled = false }
            link.flush()
        }
        if link.timeout != .max { expire() }
        return ready > 0 && waits.0.revents & ~Int16(POLLOUT) != 0
    }

    /// Milliseconds between looks at the deadlines: they are kept within a twentieth.
    private var tick: Int32 { Int32(clamping: min(max(link.timeout / 20_000_000, 5), 1000)) }

    private var nextLook: UInt64 = 0

    private mutating func expire() {
        let now = monotonicNanoseconds()
        guard now >= nextLook else { return }
        nextLook = now &+ UInt64(tick) * 1_000_000
        let error = SmallocError.timedOut("the daemon did not answer in time")
        link.lock.withLock {
            guard link.slots.count > 0 else { return }
            for index in link.slots.indices where link.slots[index].deadline <= now {
                link.slots[index].deadline = .max
                if let waiter = link.slots.finish(index, .failure(error), replied: false) {
                    resumed.append((waiter, .failure(error)))
                }
            }
        }
        resume()
    }

    // MARK: Receiving

    /// Receives what is there.
    ///
    /// - Returns: Whether there may be more right now.
    private mutating func receive() throws(SmallocError) -> Bool {
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
    private mutating func fill() throws(SmallocError) -> Bool {
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
            resume()
        }
        return true
    }

    private mutating func finishFilling(_ done: Filling) {
        filling = nil
        let bytes = done.own?.take() ?? []
        finish(done.cookie, done.header, small: 0, bytes: bytes)
    }

    private mutating func resume() {
        guard !resumed.isEmpty else { return }
        link.handovers.add(1, ordering: .releasing)
        for (waiter, outcome) in resumed { waiter.resume(returning: outcome) }
        resumed.removeAll(keepingCapacity: true)
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
            guard let index = link.slots.index(of: header.cookie),
                link.slots[index].operation == header.operation
            else {
                // What the daemon says before it closes for reasons of its own.
                if Status(rawValue: header.status).closes, size <= held {
                    throw SmallocError(
                        reply: header,
                        message: text(start + FrameHeader.byteCount, size))
                }
                if Status(rawValue: header.status).closes, size <= 65_536 { return false }
                throw .unexpectedReply("the answer is to a request that was not made")
            }
            if header.status == 0, let sink = link.slots[index].sink {
                guard size == link.slots[index].sinkSize else {
                    throw .unexpectedReply("the answer to read has \(size) bytes")
                }
                begin(header, sink, nil, link.slots[index].sinkOffset, size, held)
            } else if size <= held {
                start += FrameHeader.byteCount
                complete(index, header, at: start, size)
                start += size
            } else if size + FrameHeader.byteCount > LinkReader.capacity {
                let own = ArraySink<UInt8>(count: size)
                begin(header, own, own, 0, size, held)
            } else {
                return false
            }
        }
        return false
    }

    /// Moves what the buffer holds of a payload to its place; the rest is received there.
    private mutating func begin(
        _ header: FrameHeader, _ sink: any Sink, _ own: ArraySink<UInt8>?, _ offset: Int,
        _ size: Int, _ held: Int
    ) {
        start += FrameHeader.byteCount
        let now = min(size, held)
        if now > 0 {
            let source = UnsafeRawBufferPointer(start: input + start, count: now)
            _ = sink.withMemory(offset, now) {
                $0.copyMemory(from: source)
                return now
            }
            start += now
        }
        let rest = Filling(
            cookie: header.cookie, header: header, sink: sink, own: own, offset: offset + now,
            left: size - now)
        if rest.left > 0 {
            filling = rest
        } else if let index = link.slots.index(of: header.cookie) {
            conclude(index, .reply(header, small: 0, bytes: own?.take() ?? []))
        }
    }

    /// Ends a request whose payload is in the buffer.
    ///
    /// Under the lock.
    private mutating func complete(_ index: Int, _ header: FrameHeader, at place: Int, _ size: Int)
    {
        if header.status != 0 {
            let error = SmallocError(reply: header, message: text(place, size))
            return conclude(index, .failure(error))
        }
        var small: UInt64 = 0
        if size <= 8 {
            withUnsafeMutableBytes(of: &small) {
                $0.copyMemory(from: UnsafeRawBufferPointer(start: input + place, count: size))
            }
            conclude(index, .reply(header, small: small, bytes: []))
        } else {
            let bytes = [UInt8](UnsafeRawBufferPointer(start: input + place, count: size))
            conclude(index, .reply(header, small: 0, bytes: bytes))
        }
    }

    private mutating func finish(
        _ cookie: UInt64, _ header: FrameHeader, small: UInt64, bytes: [UInt8]
    ) {
        link.lock.lock()
        if let index = link.slots.index(of: cookie) {
            let outcome: Outcome =
                header.status == 0
                ? .reply(header, small: small, bytes: bytes)
                : .failure(
                    SmallocError(reply: header, message: String(decoding: bytes, as: UTF8.self)))
            conclude(index, outcome)
        }
        link.lock.unlock()
    }

    /// Under the lock.
    private mutating func conclude(_ index: Int, _ outcome: Outcome) {
        // A handle that nobody will receive would stay open until the connection ends.
        if case .reply(let header, _, _) = outcome, header.handle != 0 {
            switch link.slots[index].state {
            case .waiting, .asked: break
            default: unwanted.append(header.handle)
            }
        }
        if let waiter = link.slots.finish(index, outcome, replied: true) {
            resumed.append((waiter, outcome))
        }
        link.replied()
    }

    private func text(_ place: Int, _ size: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: input + place, count: size), as: UTF8.self)
    }
}
