// One socket shared by many tasks: requests go out as they come, replies find their task by cookie.

internal import Glibc
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

    /// Counted up before tasks are resumed, looked at after: what the runtime orders by itself, in
    /// a way that the ThreadSanitizer sees.
    let handovers = Atomic<Int>(0)

    let lock = Lock()
    // All below is touched under the lock alone, which makes checks of exclusive access needless.
    @exclusivity(unchecked) var slots = SlotTable()
    @exclusivity(unchecked) var outgoing = OutgoingQueue()
    /// Frames over the daemon's limit of requests in flight, in order.
    @exclusivity(unchecked) private var backlog: [Backlogged] = []
    @exclusivity(unchecked) private var backlogStart = 0
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
    @exclusivity(unchecked) var ended: SmallocError?

    private struct Backlogged {
        let cookie: UInt64
        let header: FrameHeader
        let body: [UInt8]
        let data: (source: any Source, offset: Int, size: Int)?
    }

    init(
        _ socket: consuming Socket, _ limits: Limits, _ options: ConnectionOptions,
        _ executor: ConnectionExecutor
    ) {
        self.socket = socket
        self.executor = executor
        self.limits = limits
        self.options = options
        timeout = options.requestTimeout?.nanosecondsClamped ?? .max
    }

    private var inFlightMax: Int { Int(clamping: max(1, limits.requestsInFlightMax)) }

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

    /// Asks, and registers who waits if it is somebody already.
    ///
    /// - Parameters:
    ///   - waiter: Will be resumed, unless this throws.
    ///   - announce: Called under the lock with the cookie; false if it was cancelled already.
    func start(
        _ ask: borrowing Ask, waiter: Waiter?, announce: (UInt64) -> Bool = { _ in true }
    ) throws(SmallocError) -> UInt64 {
        let deadline = Deadline.coarselyAfter(timeout == .max ? .max : timeout &+ ask.extraTime)
        let (cookie, next) = try lock.withLock { () throws(SmallocError) in
            if let ended { throw ended }
            let operation = ask.header.operation
            if let remote = ask.remote {
                if remote.isGone { throw Link.gone(operation) }
            }
            let state: Slot.State = waiter.map { .waiting($0) } ?? .asked
            let cookie = slots.insert(operation, state, deadline: deadline.nanoseconds)
            guard announce(cookie) else {
                slots.remove(at: slots.index(of: cookie)!)
                throw .cancelled
            }
            // Whatever is asked after this comes after it in the daemon, too, where the handle's
            // number may then stand for another allocation.
            if operation == Operation.dispose.rawValue { ask.remote?.isGone = true }
            if let sink = ask.sink, let index = slots.index(of: cookie) {
                slots[index].sink = sink.target
                slots[index].sinkOffset = sink.offset
                slots[index].sinkSize = sink.size
            }
            enqueue(cookie, ask)
            return (cookie, nextStep())
        }
        perform(next)
        return cookie
    }

    private static func gone(_ operation: UInt8) -> SmallocError {
        operation == Operation.dispose.rawValue ? .noDataToDispose : .noData
    }

    /// Asks for something whose answer nobody wants: closing a handle.
    func forget(_ header: FrameHeader) {
        let next: Step? = lock.withLock {
            guard ended == nil else { return nil }
            let cookie = slots.insert(header.operation, .abandoned, deadline: .max)
            enqueue(
                cookie, Ask(header: header, body: UnsafeRawBufferPointer(start: nil, count: 0)))
            return nextStep()
        }
        if let next { perform(next) }
    }

    private func enqueue(_ cookie: UInt64, _ ask: borrowing Ask) {
        var header = ask.header
        header.cookie = cookie
        header.payloadSize = UInt32(ask.body.count + (ask.data?.size ?? 0))
        if inFlight < inFlightMax {
            inFlight += 1
            outgoing.append(header, body: ask.body, data: ask.data)
        } else {
            backlog.append(
                Backlogged(cookie: cookie, header: header, body: Array(ask.body), data: ask.data))
        }
    }

    /// A reply has come: there is room for one more.
    ///
    /// Under the lock.
    func replied() {
        inFlight -= 1
        while backlogStart < backlog.count, inFlight < inFlightMax {
            let next = backlog[backlogStart]
            backlogStart += 1
            if backlogStart == backlog.count {
                backlog.removeAll()
                backlogStart = 0
            }
            // One that was cancelled before it was sent need not be sent, unless it frees
            // something.
            if let index = slots.index(of: next.cookie),
                next.header.operation != Operation.close.rawValue,
                next.header.operation != Operation.dispose.rawValue
            {
                switch slots[index].state {
                case .abandoned:
                    slots.remove(at: index)
                    continue
                case .cancelled:
                    slots[index].state = .done(.failure(.cancelled))
                    slots[index].replied = true
                    continue
                default: break
                }
            }
            inFlight += 1
            next.body.withUnsafeBytes { outgoing.append(next.header, body: $0, data: next.data) }
        }
    }

    // MARK: Waiting

    /// Waits for a request that was started without a waiter.
    ///
    /// To be called once.
    func wait(_ cookie: UInt64) async -> Outcome {
        defer { _ = handovers.load(ordering: .acquiring) }
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: Waiter) in
                let outcome: Outcome? = lock.withLock {
                    guard let index = slots.index(of: cookie) else {
                        return .failure(ended ?? .cancelled)
                    }
                    switch slots[index].state {
                    case .done(let outcome):
                        slots.leave(index)
                        return outcome
                    case .cancelled:
                        slots.leave(index)
                        return .failure(.cancelled)
                    default:
                        slots[index].state = .waiting(waiter)
                        return nil
                    }
                }
                if let outcome { waiter.resume(returning: outcome) }
            }
        } onCancel: {
            cancel(cookie)
        }
    }

    /// Ends the waiting for a request, which goes on in the daemon; others notice nothing.
    func cancel(_ cookie: UInt64) {
        let waiter: Waiter? = lock.withLock {
            guard let index = slots.index(of: cookie) else { return nil }
            switch slots[index].state {
            case .waiting(let waiter):
                slots[index].state = .abandoned
                return waiter
            case .asked:
                slots[index].state = .cancelled
                return nil
            default:
                return nil
            }
        }
        waiter?.resume(returning: .failure(.cancelled))
    }

    /// Nobody will come for a request that was started without a waiter.
    func abandon(_ cookie: UInt64) {
        lock.withLock {
            guard let index = slots.index(of: cookie) else { return }
            switch slots[index].state {
            case .done, .asked, .cancelled: slots.leave(index)
            default: break
            }
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
                if let waiter = slots.finish(index, .failure(error), replied: false) {
                    waiters.append(waiter)
                }
            }
            outgoing.removeAll()
            backlog = []
            return error
        }
        handovers.add(1, ordering: .releasing)
        for waiter in waiters { waiter.resume(returning: .failure(error)) }
        _ = shutdown(socket.descriptor, Int32(SHUT_RDWR))
        executor.wake()
    }
}
