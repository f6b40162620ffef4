// The blocking core: drives a session over one socket. One user at a time; its connection locks.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

/// A session, its socket, and the waiting for both.
///
/// A call is `start`, which enters a request, and `answer`, which sends and receives until that
/// request is answered: one `send` and one `recv` in the usual case, and no memory is allocated.
/// What is thrown with a closing status (`Status.closes`) means that the connection is unusable.
struct Channel: ~Copyable {
    let socket: Socket
    /// Nanoseconds in which each request must be answered; `.max` is for ever.
    private var timeout: UInt64
    /// Nanoseconds to ask again and again for an answer before waiting for it.
    var busyPoll: UInt64 = 0
    var session = ClientSession()
    /// Which of its connection object's sessions this is.
    var number: UInt64 = 0
    private var input: ReplyInput
    /// Stays empty: no tasks wait here.
    private var completions = CompletionList()
    /// What its maps are told of their allocations by.
    private let state = ReceivedState()
    /// Whether the daemon lets this connection map.
    private(set) var maps = false
    /// Whether descriptors may come.
    private var awaitsDescriptors = false
    /// Whether nothing has been sent since `beginCall`.
    private var hasSentNothing = true

    /// Bytes up to which payloads are copied rather than sent and received where they are.
    static var copiedSizeMax: Int { 2048 }

    init(_ socket: consuming Socket, timeout: UInt64) {
        self.socket = socket
        self.timeout = timeout
        input = ReplyInput(capacity: 65_536, state)
        self.socket.setTimeouts(nanoseconds: timeout)
    }

    mutating func setTimeout(_ nanoseconds: UInt64) {
        timeout = nanoseconds
        socket.setTimeouts(nanoseconds: nanoseconds)
    }

    /// Exchanges greetings: the first thing on every connection.
    mutating func greet(_ software: String) throws(SmallocError) {
        let reply = try exchange(.hello(software: software))
        session.greeted(Limits(helloPayload: reply.payload))
        maps = reply.features & Feature.map.bits != 0
    }

    /// Whether the daemon has not closed, as far as the socket knows.
    var isOpen: Bool { socket.isOpen }

    /// Starts a call: from here on it counts what has been sent.
    mutating func beginCall() { hasSentNothing = true }

    /// Whether nothing has been sent since `beginCall`: the daemon has not seen the call.
    mutating func endedUnsent() -> Bool { hasSentNothing }

    // MARK: Requests

    /// Asks, and gives all of the reply.
    mutating func exchange(_ request: borrowing Request) throws(SmallocError) -> Reply {
        try answer(to: start(request), extraTime: request.extraTime).reply()
    }

    /// Maps an allocation.
    mutating func map(
        _ handle: UInt32, writable: Bool, populate: Bool, isInherited: Bool, size: Int
    ) throws(SmallocError) -> MappedMemory {
        let request = Request.map(handle, writable: writable, populate: populate, size: size)
        awaitsDescriptors = true
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        let cookie = session.start(
            request.header, none, descriptorsAt: Request.descriptorsAt)
        let reply = try answer(to: cookie, extraTime: request.extraTime).reply()
        awaitsDescriptors = false
        return try MappedMemory(
            reply, isWritable: writable, populates: populate, isInherited: isInherited, state)
    }

    /// The same of a request that waits in the daemon.
    mutating func exchangeWait(_ request: borrowing Request) throws(SmallocError) -> Reply {
        let header = request.header
        let cookie = request.body.withUnsafeBytes { session.startWait(header, $0) }
        // Also where the time is up at once: the socket's own timeout does not know of this one.
        return try answer(to: cookie, extraTime: max(1, request.extraTime)).reply()
    }

    /// Enters a request whose reply is wanted as a whole, or by its size.
    mutating func start(
        _ request: borrowing Request, data: OutgoingData? = nil, size: Int = -1,
        sink: (target: any Sink, offset: Int)? = nil
    ) -> UInt64 {
        let header = request.header
        return request.body.withUnsafeBytes {
            session.start(header, $0, data: data, size: size, sink: sink)
        }
    }

    /// Sends and receives until a request is answered.
    ///
    /// - Parameter extraTime: Nanoseconds beyond the usual.
    /// - Throws: The reply's error, too.
    mutating func answer(
        to cookie: UInt64, extraTime: UInt64 = 0
    ) throws(SmallocError) -> Answer {
        let deadline = deadline(extraTime)
        var polls = extraTime != 0
        while true {
            if let answer = session.take(cookie) {
                try answer.check()
                return answer
            }
            try step(deadline, polls: polls)
            polls = true
        }
    }

    /// Sends a batch and receives its replies, both as far as they go, so that neither side waits
    /// for the other to read.
    mutating func exchange(_ record: BatchRecord, extraTime: UInt64) throws(SmallocError) {
        let entry = session.begin(record)
        entry.pointee.state = .asked
        let cookie = session.pending.cookie(of: entry)
        session.enqueue(record)
        var deadline = deadline(extraTime)
        while record.unanswered > 0 {
            let before = record.unanswered
            try step(deadline, polls: true)
            // The time is for each answer.
            if record.unanswered < before { deadline = self.deadline(extraTime) }
        }
        _ = session.take(cookie)
    }

    /// Moves bytes by as many requests as it takes.
    ///
    /// After a refusal the answers to all that was asked are awaited, since `memory` is borrowed.
    mutating func transfer(
        _ operation: Operation, _ handle: UInt32, offset: UInt64, _ memory: CallerMemory,
        from begin: Int, size: Int, _ chunking: Chunking
    ) throws(SmallocError) {
        var transfer = Transfer(size, chunking)
        var failure: SmallocError?
        while let step = transfer.next() {
            switch step {
            case .ask(let at, let size):
                let header = FrameHeader.access(
                    operation, handle, offset: offset + UInt64(begin + at), size: UInt64(size))
                let place = begin + at
                let none = UnsafeRawBufferPointer(start: nil, count: 0)
                if operation == .read {
                    transfer.asked(
                        session.start(header, none, size: size, sink: (memory, place)))
                } else {
                    let data = OutgoingData(source: memory, offset: place, size: size)
                    transfer.asked(session.start(header, none, data: data, size: 0))
                    try sendWaiting(deadline(0))
                }
            case .wait(let cookie):
                do throws(SmallocError) { _ = try answer(to: cookie) } catch {
                    if error.status.closes { throw error }
                    failure = failure ?? error
                    transfer.stop()
                }
            }
        }
        if let failure { throw failure }
    }

    // MARK: Handles of released owners

    /// Enters the closing of a handle, whose answer is not waited for.
    mutating func forget(_ handle: UInt32) { session.forget(Request.close(handle).header) }

    /// Sends what no call waits for.
    ///
    /// - Parameter waits: Whether to wait, up to a second at a time, for the daemon to take it.
    /// - Returns: Whether all was sent.
    mutating func pushOut(waits: Bool) throws(SmallocError) -> Bool {
        while true {
            let isSent = try flush()
            // Replies that are never received would in time stop the daemon from reading.
            if isSent, !session.hasOutput, session.pending.count <= 64 { return true }
            var ready = pollfd(
                fd: socket.descriptor, events: Int16(POLLIN) | (isSent ? 0 : Int16(POLLOUT)),
                revents: 0)
            let blocks = waits && session.hasOutput
            let found = poll(&ready, 1, blocks ? 1000 : 0)
            if found < 0, errno == EINTR { continue }
            guard found > 0 else { return !session.hasOutput }
            if ready.revents & ~Int16(POLLOUT) != 0 { try receive(.never, polls: true) }
        }
    }

    // MARK: The socket

    private func deadline(_ extraTime: UInt64) -> Deadline {
        let (sum, isOver) = timeout.addingReportingOverflow(extraTime)
        return .after(isOver ? .max : sum)
    }

    /// Sends as much as the socket takes, and receives once.
    ///
    /// - Parameter polls: Whether the deadline is to be looked at before the first byte is
    ///   received; else the socket's own timeout serves.
    @inline(__always)
    private mutating func step(_ deadline: Deadline, polls: Bool) throws(SmallocError) {
        if try flush() { return try receive(deadline, polls: polls) }
        // A peer that takes a byte now and then must not hold us beyond the deadline.
        let events = try wait(Int16(POLLIN) | Int16(POLLOUT), deadline, sending: true)
        if events & ~Int16(POLLOUT) != 0 { try receive(deadline, polls: true) }
    }

    /// Sends what the socket takes without waiting.
    ///
    /// - Returns: Whether that was all.
    private mutating func flush() throws(SmallocError) -> Bool {
        let socket = socket.descriptor
        var isFull = false
        while !isFull {
            if let sent = session.output.sendTail({ Socket.send($0, on: socket) }) {
                isFull = try isSocketFull(sent)
                continue
            }
            guard var piece = session.output.takeFirst() else { return true }
            while piece.left > 0, !isFull {
                let sent = piece.send { Socket.send($0, $1, on: socket) }
                isFull = try isSocketFull(sent)
            }
            if piece.left > 0 {
                session.output.putBack(piece)
            } else {
                session.output.recycle(piece)
            }
        }
        return session.output.isEmpty
    }

    /// Sends all there is, large data that is answered with little: the system's own waiting keeps
    /// the socket fuller than `poll` does.
    private mutating func sendWaiting(_ deadline: Deadline) throws(SmallocError) {
        let descriptor = socket.descriptor
        while var piece = session.output.takeFirst() {
            while piece.left > 0 {
                let sent = piece.send { Socket.send($0, $1, on: descriptor, waits: true) }
                // A peer that takes a byte now and then must not hold us beyond the deadline.
                let isLate = piece.left > 0 && deadline.pollMilliseconds == 0
                let isFull = try isSocketFull(sent)
                if isLate || isFull {
                    throw .timedOut("the daemon did not take the request in time")
                }
            }
            session.output.recycle(piece)
        }
    }

    @inline(__always)
    private mutating func isSocketFull(_ sent: Int) throws(SmallocError) -> Bool {
        if sent >= 0 {
            hasSentNothing = false
            return false
        }
        if errno == EAGAIN { return true }
        if errno == EINTR { return false }
        throw lastWord(errno)
    }

    /// What the daemon said before it closed may still be in the socket, and tells more than that
    /// nothing can be sent.
    @inline(never)
    private mutating func lastWord(_ number: Int32) -> SmallocError {
        guard number == EPIPE || number == ECONNRESET else { return failure(number) }
        do throws(SmallocError) {
            while try take(Int32(MSG_DONTWAIT)) {}
        } catch {
            return error
        }
        return failure(number)
    }

    /// Receives once, and takes in what has come whole.
    private mutating func receive(_ deadline: Deadline, polls: Bool) throws(SmallocError) {
        if busyPoll > 0, !input.isFilling, try spin(deadline) { return }
        var polls = polls || (input.holdsPart && !input.isFilling)
        while true {
            let flags = input.isFilling ? Int32(MSG_WAITALL) : polls ? Int32(MSG_DONTWAIT) : 0
            let isFilling = input.isFilling
            if polls, isFilling { _ = try wait(Int16(POLLIN), deadline) }
            if try take(flags) { return }
            _ = try wait(Int16(POLLIN), deadline)
            polls = true
        }
    }

    /// - Returns: Whether something has come.
    @inline(__always)
    private mutating func take(_ flags: Int32) throws(SmallocError) -> Bool {
        let descriptor = socket.descriptor
        let got =
            awaitsDescriptors
            ? takeWithDescriptors(flags)
            : input.receive { recv(descriptor, $0.baseAddress!, $0.count, flags) }.size
        if got > 0 {
            while try input.parse(&session, into: &completions) {}
            return true
        }
        if got == 0 {
            throw .connectionLost("the daemon closed the connection")
        }
        guard errno == EINTR || (errno == EAGAIN && flags & Int32(MSG_DONTWAIT) != 0) else {
            throw failure(errno)
        }
        return false
    }

    @inline(never)
    private mutating func takeWithDescriptors(_ flags: Int32) -> Int {
        let socket = socket.descriptor
        var descriptors: [Int32] = []
        let got = input.receive {
            SmallocSystem.receive(
                on: socket, into: $0, flags: flags, appending: &descriptors)
        }.size
        input.received(descriptors: descriptors)
        return got
    }

    /// Asks for bytes again and again for a while.
    ///
    /// - Returns: Whether some have come.
    private mutating func spin(_ deadline: Deadline) throws(SmallocError) -> Bool {
        let end = min(Deadline.after(busyPoll).nanoseconds, deadline.nanoseconds)
        repeat {
            if try take(Int32(MSG_DONTWAIT)) { return true }
        } while Clock.now < end
        return false
    }

    private func wait(
        _ events: Int16, _ deadline: Deadline, sending: Bool = false
    ) throws(SmallocError) -> Int16 {
        var wait = pollfd(fd: socket.descriptor, events: events, revents: 0)
        while true {
            // A peer that sends a byte now and then must not hold us beyond the deadline.
            let left = deadline.pollMilliseconds
            let ready = left == 0 ? 0 : poll(&wait, 1, left)
            if ready > 0 { return wait.revents }
            if ready == 0 {
                throw .timedOut(
                    sending
                        ? "the daemon did not take the request in time"
                        : "the daemon did not answer in time")
            }
            guard errno == EINTR else { throw failure(errno) }
        }
    }

    private func failure(_ number: Int32) -> SmallocError {
        if number == EAGAIN { return .timedOut("the daemon did not answer in time") }
        return .lost(number)
    }
}
