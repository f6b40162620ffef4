// One socket shared by many tasks: requests go out as they come, replies find their task by cookie.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// A multiplexed connection, once it stands.
///
/// Whoever asks appends its frame under the lock, and one of them sends what has gathered: at once
/// while little is under way, for a lone request has nothing to gain by waiting; otherwise after
/// the tasks that are runnable now have had their turn, so that a burst leaves in one system call.
/// The executor's thread receives, files payloads and resumes, and sends what was asked for on it
/// when all who run there have had their turn. Nobody ever blocks but that thread.
final class Link: @unchecked Sendable {
    let limits: Limits
    let options: ConnectionOptions
    let timeout: UInt64
    let socket: Socket
    /// Whose thread serves it.
    let executor: ConnectionExecutor
    /// The executor's, read without counting a reference to it up and down.
    private let thread: UnsafeMutablePointer<Atomic<UInt>>

    /// Counted up before tasks are resumed, looked at after: what the runtime orders by itself, in
    /// a way that the ThreadSanitizer sees.
    let handovers = Atomic<Int>(0)

    let lock = Lock()
    // All below is touched under the lock alone, which makes checks of exclusive access needless.
    @exclusivity(unchecked) var slots = SlotTable()
    @exclusivity(unchecked) var outgoing = OutgoingQueue()
    /// Frames over the daemon's limit of requests in flight, in order.
    @exclusivity(unchecked) var backlog = Backlog()
    @exclusivity(unchecked) var inFlight = 0
    /// Somebody is sending.
    @exclusivity(unchecked) var flushing = false
    /// A flush is on its way in the executor's queue.
    @exclusivity(unchecked) var flushScheduled = false
    /// The socket took no more: the thread goes on when it does.
    @exclusivity(unchecked) var stalled = false
    /// The thread waits without a time limit and has to be woken for deadlines.
    @exclusivity(unchecked) var sleeping = false
    /// The thread waits for long and has to be woken to look after a flush that is scheduled.
    @exclusivity(unchecked) var parked = false
    /// The thread looks within milliseconds at who waits; others than its own jobs can rely on it.
    @exclusivity(unchecked) var watching = false
    /// Some of the calls under way have come since the thread's last look.
    @exclusivity(unchecked) var hasYoung = false
    /// The number of the thread's next look, never 0.
    @exclusivity(unchecked) var look: UInt32 = 1
    @exclusivity(unchecked) var ended: SmallocError?

    init(
        _ socket: consuming Socket, _ limits: Limits, _ options: ConnectionOptions,
        _ executor: ConnectionExecutor
    ) {
        self.socket = socket
        self.executor = executor
        thread = executor.thread
        self.limits = limits
        self.options = options
        inFlightMax = Int(clamping: max(1, limits.requestsInFlightMax))
        timeout = options.requestTimeout?.nanosecondsClamped ?? .max
    }

    let inFlightMax: Int

    // MARK: Asking

    /// What a request is made of.
    struct Ask {
        var header: FrameHeader
        var body: UnsafeRawBufferPointer
        var extraTime: UInt64 = 0
        var data: (source: any Source, offset: Int, size: Int)?
        var sink: (target: any Sink, offset: Int, size: Int)?
        /// The handle that it depends on; checked, and for dispose let go of, in the stream's
        /// order.
        var remote: AsyncRemote?
    }

    /// Asks for something that is waited for later, by `wait`.
    ///
    /// - Returns: The cookie to wait by.
    func start(_ ask: borrowing Ask) throws(SmallocError) -> UInt64 {
        let (cookie, next) = try lock.withLock { () throws(SmallocError) in
            if let refusal = refusal(ask.header.operation, ask.remote) { throw refusal }
            let slot = slots.at(slots.insert(ask.header.operation))
            slot.pointee.state = .asked
            slot.pointee.deadline =
                Deadline.coarselyAfter(time(with: ask.extraTime)).nanoseconds
            if let sink = ask.sink {
                slot.pointee.sink = sink.target
                slot.pointee.sinkOffset = sink.offset
                slot.pointee.size = sink.size
            }
            let cookie = slots.cookie(of: slot)
            if let data = ask.data {
                enqueue(cookie, ask.header, ask.body, data)
            } else {
                enqueue(cookie, ask.header, ask.body)
            }
            return (cookie, nextStep())
        }
        perform(next)
        return cookie
    }

    /// Asks for somebody who waits already, and is resumed whatever happens.
    ///
    /// - Parameters:
    ///   - size: Bytes of payload that a good reply has; nil for all of the reply.
    ///   - room: Where they go; nil for into the answer, if they are at most 8. Must be there until
    ///     the answer has been given.
    /// - Returns: Whether it was asked.
    @inline(never) @discardableResult
    func ask(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, size: Int? = nil,
        room: UnsafeMutableRawPointer? = nil, extraTime: UInt64 = 0, _ remote: AsyncRemote?,
        _ waiter: Waiter
    ) -> Bool {
        lock.lock()
        if let refusal = refusal(header.operation, remote) {
            lock.unlock()
            waiter.resume(returning: Answer(refusal))
            return false
        }
        let slot = slots.at(slots.insert(header.operation))
        slot.pointee.size = size ?? -1
        slot.pointee.room = room
        let cookie = slots.cookie(of: slot)
        let asker = expect(slot, waiter, extraTime)
        enqueue(cookie, header, body)
        asked(asker, cookie, waiter)
        return true
    }

    /// Where a task asks, and who looks after its waiting.
    struct Asker {
        /// On the connection's thread.
        let isHere: Bool
        /// The thread has the waiter, and will look after it within milliseconds.
        let isWatched: Bool
    }

    /// Whether the caller runs on the connection's thread.
    ///
    /// As `executor.isCurrent`, without counting a reference to it.
    var isHere: Bool { thread.pointee.load(ordering: .relaxed) == UInt(pthread_self()) }

    /// Has a request's answer waited for, if the thread is there to look after that.
    ///
    /// Under the lock, before the request is put into the output; `asked` is to follow that.
    @inline(__always)
    func expect(
        _ slot: UnsafeMutablePointer<Slot>, _ waiter: Waiter, _ extraTime: UInt64
    ) -> Asker {
        let isHere = isHere
        let isWatched = isHere || watching
        if isWatched {
            slot.pointee.state = .waiting
            slot.pointee.waiter = waiter
            slot.pointee.look = look
            hasYoung = true
            slot.pointee.allowed = time(with: extraTime)
        } else {
            slot.pointee.state = .asked
            slot.pointee.deadline = Deadline.coarselyAfter(time(with: extraTime)).nanoseconds
        }
        return Asker(isHere: isHere, isWatched: isWatched)
    }

    /// Lets go of the lock and sees to it that what was asked is sent.
    @inline(__always)
    func asked(_ asker: Asker, _ cookie: UInt64, _ waiter: Waiter) {
        // The thread sends when it has run all that can run on it now.
        if asker.isHere, outgoing.frameSize < enoughBytes { return lock.unlock() }
        let next = nextStep()
        lock.unlock()
        perform(next)
        if !asker.isWatched { waiter.resume(returning: Answer(late: cookie)) }
    }

    /// Asks for something whose answer nobody wants: closing a handle.
    func forget(_ header: FrameHeader) {
        let next: Step? = lock.withLock {
            guard ended == nil else { return nil }
            let slot = slots.at(slots.insert(header.operation))
            slot.pointee.state = .abandoned
            enqueue(slots.cookie(of: slot), header, UnsafeRawBufferPointer(start: nil, count: 0))
            return nextStep()
        }
        if let next { perform(next) }
    }

    /// Nanoseconds in which something must be answered.
    func time(with extra: UInt64) -> UInt64 {
        let (sum, isOver) = timeout.addingReportingOverflow(extra)
        return isOver ? .max : sum
    }

    /// Why a request may not be made, nil if it may.
    ///
    /// To be called under the lock, once, right before it is made.
    @inline(__always)
    private func refusal(_ operation: UInt8, _ remote: AsyncRemote?) -> SmallocError? {
        if let ended { return ended.afterwards }
        let disposes = operation == Operation.dispose.rawValue
        if remote?.isGone == true { return disposes ? .noDataToDispose : .noData }
        // Whatever is asked after this comes after it in the daemon, too, where the handle's
        // number may then stand for another allocation.
        if disposes { remote?.isGone = true }
        return nil
    }

    /// Puts a frame, with no more than what is here, into the output or the backlog.
    ///
    /// Under the lock.
    @inline(__always)
    private func enqueue(
        _ cookie: UInt64, _ header: FrameHeader, _ body: UnsafeRawBufferPointer
    ) {
        var header = header
        header.cookie = cookie
        header.payloadSize = UInt32(body.count)
        if inFlight < inFlightMax {
            inFlight += 1
            outgoing.append(header, body: body)
        } else {
            backlog.append(header, body, nil)
        }
    }

    /// The same with data that is sent from where it is.
    private func enqueue(
        _ cookie: UInt64, _ header: FrameHeader, _ body: UnsafeRawBufferPointer,
        _ data: (source: any Source, offset: Int, size: Int)
    ) {
        var header = header
        header.cookie = cookie
        header.payloadSize = UInt32(body.count + data.size)
        if inFlight < inFlightMax {
            inFlight += 1
            outgoing.append(header, body: body, data: data)
        } else {
            backlog.append(header, body, data)
        }
    }

    // MARK: The end

    /// Ends everything with an error; the first one counts.
    func end(_ error: SmallocError) {
        var waiters: [Waiter] = []
        let error = lock.withLock {
            let error = ended ?? error
            ended = error
            for index in slots.indices {
                if let waiter = slots.finish(index, Answer(error), replied: false) {
                    waiters.append(waiter)
                }
            }
            outgoing.removeAll()
            backlog.removeAll()
            return error
        }
        handovers.add(1, ordering: .releasing)
        for waiter in waiters { waiter.resume(returning: Answer(error)) }
        _ = shutdown(socket.descriptor, Int32(SHUT_RDWR))
        executor.wake()
    }
}
