// One socket shared by many tasks: drives a session whose requests come from any thread, and whose
// replies are received by one.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// A multiplexed connection, once it stands.
///
/// A task that asks enters its frame under the lock, and one of those that ask sends what has
/// gathered: at once while little is in flight, for a lone request has nothing to gain by waiting;
/// otherwise after the tasks that are runnable now have run, so that a burst leaves in one system
/// call. The executor's thread receives, files payloads and resumes, and sends what was asked for
/// on it when all tasks that run there have run. Only that thread ever blocks.
final class Link: @unchecked Sendable {
    let options: Smalloc.Options
    let timeout: UInt64
    let socket: Socket
    /// Whose thread serves it.
    let executor: AsyncSmalloc.Executor
    /// The executor's, read without counting a reference to it up and down.
    private let thread: UnsafeMutablePointer<Atomic<UInt>>
    private let fork = ForkGuard()
    let limits: Limits
    /// Whether the daemon lets this connection map.
    let maps: Bool

    /// Counted up before tasks are resumed, looked at after: what the runtime orders by itself, in
    /// a way that the ThreadSanitizer sees.
    let handovers = Atomic<Int>(0)

    let rooms = RoomPool(size: SmallPart.sizeMax)

    /// Whether descriptors may come: from the first map on.
    let takesDescriptors = Atomic<Bool>(false)
    /// What its maps are told of their allocations by.
    let state = ReceivedState()

    let lock = Lock()
    // All below is touched under the lock alone, which makes checks of exclusive access needless.
    @exclusivity(unchecked) var session: ClientSession
    /// A thread is sending.
    @exclusivity(unchecked) var isFlushing = false
    /// A flush has been given to the runtime's executor.
    @exclusivity(unchecked) var isFlushScheduled = false
    /// The socket took no more: the thread goes on when it does.
    @exclusivity(unchecked) var isStalled = false
    @exclusivity(unchecked) var threadState = ThreadState.working

    /// What the executor's thread is doing, from the least to the most that it takes to have it
    /// look at the link.
    enum ThreadState: UInt8, Comparable {
        /// It works, or waits for a millisecond at most.
        case working
        /// It waits for a few milliseconds, after which it looks at the calls that wait.
        case polling
        /// It waits, and has to be woken to look after a flush that is scheduled.
        case waiting
        /// It waits without a time limit and has to be woken for deadlines, too.
        case sleeping

        static func < (left: ThreadState, right: ThreadState) -> Bool {
            left.rawValue < right.rawValue
        }
    }

    init(
        _ socket: consuming Socket, _ limits: Limits, maps: Bool, _ options: Smalloc.Options,
        _ executor: AsyncSmalloc.Executor
    ) {
        self.socket = socket
        self.executor = executor
        thread = executor.thread
        session = ClientSession(limits)
        self.limits = limits
        self.maps = maps
        self.options = options
        timeout = options.requestTimeout?.nanosecondsClamped ?? .max
    }

    /// Connects and exchanges greetings, blocking.
    static func connect(
        _ address: Address, _ options: Smalloc.Options, _ executor: AsyncSmalloc.Executor
    ) throws(SmallocError) -> Link {
        guard executor.wakeDescriptor >= 0 else {
            throw .cannotConnect("no descriptor to wake a thread by")
        }
        let limit = options.connectTimeout.nanosecondsClamped
        let socket = try Socket(connectingTo: address, timeout: limit)
        // The blocking channel greets on a descriptor of its own for the same socket.
        let copy = fcntl(socket.descriptor, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw .cannotConnect(systemMessage(errno)) }
        var channel = Channel(Socket(owning: copy), timeout: limit)
        try channel.greet(options.software)
        socket.setTimeouts(nanoseconds: .max)
        socket.setUserTimeout(nanoseconds: options.requestTimeout?.nanosecondsClamped ?? .max)
        return Link(socket, channel.session.limits, maps: channel.maps, options, executor)
    }

    /// Why nothing can be asked any more; nil while it stands.
    var ended: SmallocError? {
        if fork.isForked { return .forked }
        return lock.withLock { session.ended }
    }

    /// Places that requests over the daemon's limit take.
    var unsentPlaces: Int { lock.withLock { session.unsentPlaces } }

    // MARK: Asking

    /// Asks for something that is waited for later, by `wait`.
    ///
    /// - Returns: The cookie to wait by.
    func start(
        _ request: borrowing Request, _ remote: AsyncRemote?, data: OutgoingData? = nil,
        size: Int = -1, sink: (target: any Sink, offset: Int)? = nil, descriptorsAt: Int = -1
    ) throws(SmallocError) -> UInt64 {
        if Task.isCancelled { throw .cancelled }
        try fork.check()
        let header = request.header
        let deadline = Deadline.coarselyAfter(time(with: request.extraTime)).nanoseconds
        let (cookie, next) = try request.body.span.withUnsafeBytes { body throws(SmallocError) in
            try lock.withLock { () throws(SmallocError) in
                if let refusal = session.refusal(header.operation, remote) { throw refusal }
                let cookie = session.start(
                    header, body, data: data, size: size, sink: sink,
                    descriptorsAt: descriptorsAt, deadline: deadline)
                return (cookie, nextStep())
            }
        }
        perform(next)
        return cookie
    }

    /// Maps an allocation.
    func map(
        _ remote: AsyncRemote, writable: Bool, populate: Bool, isInherited: Bool = true
    ) async throws(SmallocError) -> MappedMemory {
        takesDescriptors.store(true, ordering: .releasing)
        let request = Request.map(
            remote.handle, writable: writable, populate: populate, size: remote.size)
        let cookie = try start(request, remote, descriptorsAt: Request.descriptorsAt)
        let reply = try await wait(cookie).reply()
        return try MappedMemory(
            reply, isWritable: writable, populates: populate, isInherited: isInherited, state)
    }

    /// Whether a transfer may go by a mapping: the daemon is there, as far as the socket knows, and
    /// nothing is under way on the allocation that it could overtake.
    ///
    /// A task that goes on after its call was cancelled or late has its earlier request under way.
    func mayBypass(for remote: AsyncRemote) -> Bool {
        guard !fork.isForked, socket.isOpen else { return false }
        return lock.withLock {
            session.ended == nil && !remote.isGone && !session.isUnderWay(on: remote.handle)
        }
    }

    /// Asks for something that waits in the daemon.
    ///
    /// - Returns: The cookie to wait by.
    func startWait(
        _ request: borrowing Request, _ remote: AsyncRemote?
    ) throws(SmallocError) -> UInt64 {
        if Task.isCancelled { throw .cancelled }
        try fork.check()
        let header = request.header
        let deadline = Deadline.coarselyAfter(time(with: request.extraTime)).nanoseconds
        let (cookie, next) = try request.body.span.withUnsafeBytes { body throws(SmallocError) in
            try lock.withLock { () throws(SmallocError) in
                if let refusal = session.refusal(header.operation, remote) { throw refusal }
                return (session.startWait(header, body, deadline: deadline), nextStep())
            }
        }
        perform(next)
        return cookie
    }

    /// Has the daemon take back what `startWait` asked for, unless its answer has come.
    func cancelWait(_ cookie: UInt64) {
        if fork.isForked { return }
        let deadline = Deadline.coarselyAfter(timeout).nanoseconds
        let next = lock.withLock {
            session.cancelWait(cookie, deadline: deadline)
            return nextStep()
        }
        perform(next)
    }

    /// Asks for a task that waits already, and is resumed whatever happens.
    ///
    /// - Parameters:
    ///   - size: Bytes of payload that a good reply has; nil for all of the reply.
    ///   - room: Where they go, at most a room's, once asked: to be given back after the answer.
    ///     nil for into the answer, if they are at most 8.
    /// - Returns: Whether it was asked.
    @inline(never) @discardableResult
    func ask(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, size: Int? = nil,
        room: UnsafeMutablePointer<UnsafeMutableRawPointer?>? = nil, extraTime: UInt64 = 0,
        _ remote: AsyncRemote?, _ waiter: Waiter
    ) -> Bool {
        if fork.isForked {
            waiter.resume(returning: Answer(.forked))
            return false
        }
        lock.lock()
        if let refusal = session.refusal(header.operation, remote) {
            lock.unlock()
            waiter.resume(returning: Answer(refusal))
            return false
        }
        let entry = session.begin(header)
        entry.pointee.size = size ?? -1
        if let room {
            let block = rooms.take()
            room.pointee = block
            entry.pointee.room = block
        }
        let cookie = session.pending.cookie(of: entry)
        let asker = expect(entry, waiter, extraTime)
        session.enqueue(cookie, header, body)
        asked(asker, cookie, waiter)
        return true
    }

    /// Asks what a batch has gathered, for a task that waits already, and is resumed when all
    /// replies have come or whatever else happens.
    ///
    /// - Parameter remotes: The allocations that it is about.
    func ask(
        _ record: BatchRecord, _ remotes: [AsyncRemote], extraTime: UInt64, _ waiter: Waiter
    ) {
        if fork.isForked { return waiter.resume(returning: Answer(.forked)) }
        record.prepare()
        lock.lock()
        record.withdrawGone(remotes)
        guard session.ended == nil, record.unanswered > 0 else {
            let answer = session.ended.map { Answer($0.afterwards) } ?? Answer()
            lock.unlock()
            return waiter.resume(returning: answer)
        }
        let entry = session.begin(record)
        let cookie = session.pending.cookie(of: entry)
        let asker = expect(entry, waiter, extraTime)
        session.enqueue(record)
        asked(asker, cookie, waiter)
    }

    /// Where a task asks, and what looks after its waiting.
    private struct Asker {
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
    private func expect(
        _ entry: UnsafeMutablePointer<PendingRequest>, _ waiter: Waiter, _ extraTime: UInt64
    ) -> Asker {
        let isHere = isHere
        let isWatched = isHere || threadState <= .polling
        if isWatched {
            entry.pointee.state = .waiting
            entry.pointee.waiter = waiter
            entry.pointee.round = session.round
            session.hasUnchecked = true
            entry.pointee.allowed = time(with: extraTime)
        } else {
            entry.pointee.state = .asked
            entry.pointee.deadline = Deadline.coarselyAfter(time(with: extraTime)).nanoseconds
        }
        return Asker(isHere: isHere, isWatched: isWatched)
    }

    /// Lets go of the lock and sees to it that what was asked is sent.
    @inline(__always)
    private func asked(_ asker: Asker, _ cookie: UInt64, _ waiter: Waiter) {
        // The thread sends when it has run all that can run on it now.
        if asker.isHere, session.output.frameSize < enoughBytes { return lock.unlock() }
        let next = nextStep()
        lock.unlock()
        perform(next)
        if !asker.isWatched { waiter.resume(returning: Answer(late: cookie)) }
    }

    /// Asks for something whose answer is not wanted: closing a handle.
    func forget(_ handle: UInt32) {
        if fork.isForked { return }
        let next: Step? = lock.withLock {
            guard session.ended == nil else { return nil }
            session.forget(Request.close(handle).header)
            return nextStep()
        }
        if let next { perform(next) }
    }

    /// Closes a handle that other tasks use: what they ask for from now on is refused here.
    func close(_ remote: AsyncRemote) {
        if fork.isForked { return }
        let next: Step? = lock.withLock {
            guard session.ended == nil, !remote.isGone else { return nil }
            remote.isGone = true
            session.forget(Request.close(remote.handle).header)
            return nextStep()
        }
        if let next { perform(next) }
    }

    /// Sends something whose answer is not wanted, at once: the thread that calls may sleep next,
    /// be it the connection's own.
    func send(_ request: borrowing Request, _ remote: AsyncRemote) throws(SmallocError) {
        try fork.check()
        let header = request.header
        try lock.withLock { () throws(SmallocError) in
            if let refusal = session.refusal(header.operation, remote) { throw refusal }
            session.forget(header)
        }
        flush()
    }

    /// Nanoseconds in which something must be answered.
    private func time(with extra: UInt64) -> UInt64 {
        let (sum, isOver) = timeout.addingReportingOverflow(extra)
        return isOver ? .max : sum
    }

    // MARK: The end

    /// Ends everything with an error; the first one counts.
    func end(_ error: SmallocError) {
        // The parent goes on with the socket.
        if fork.isForked { return }
        let (error, waiters) = lock.withLock { session.end(error) }
        handovers.add(1, ordering: .releasing)
        for waiter in waiters { waiter.resume(returning: Answer(error)) }
        _ = shutdown(socket.descriptor, Int32(SHUT_RDWR))
        executor.wake()
    }
}
