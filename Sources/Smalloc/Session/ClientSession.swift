// The protocol's client side without sockets, threads or clocks: requests in, frames out; bytes in,
// answers out. Both faces drive it.

internal import SmallocWire

/// What a client knows of one connection: its requests without an answer, and what is to be sent.
///
/// A request is entered by `begin` and `enqueue`, which encodes its frame into `output`. What the
/// daemon sends goes into a `ReplyInput`, whose `parse` finds each reply's request by the cookie,
/// whatever the order, and ends it. The answer then goes to the task that waits; for a request that
/// no task waits for it is kept until `take` or `wait` fetches it.
///
/// A cookie that is not known is a breach of the protocol (spec § 4.4) and ends the connection.
/// One of a request that was cancelled or is late is known until its reply has come.
struct ClientSession: ~Copyable {
    var pending = PendingTable()
    var output = OutgoingQueue()
    /// Frames over the daemon's limit of requests in flight, in order.
    private var unsent = UnsentQueue()
    /// Requests that have been put into the output and not been answered.
    private(set) var inFlight = 0
    /// Requests that wait in the daemon, and do not count as in flight.
    private(set) var waits = 0
    /// What the daemon allows.
    private(set) var limits: Limits
    private var inFlightMax: Int
    /// Bytes of a payload whose size was not told by the request: more is no answer.
    private(set) var payloadSizeMax: Int
    /// Why nothing can be asked any more.
    private(set) var ended: SmallocError?
    /// The number of the next deadline round, never 0.
    private(set) var round: UInt32 = 1
    /// Some of the calls under way have come since the last round.
    var hasUnchecked = false

    /// - Parameter limits: nil before the daemon has greeted.
    init(_ limits: Limits? = nil) {
        self.limits = Limits()
        inFlightMax = 1
        payloadSizeMax = 65_536
        if let limits { greeted(limits) }
    }

    /// Takes note of what the daemon allows.
    mutating func greeted(_ limits: Limits) {
        self.limits = limits
        inFlightMax = Int(clamping: max(1, limits.requestsInFlightMax))
        payloadSizeMax = max(1 << 20, Int(clamping: limits.frameSizeMax))
    }

    /// Whether something is to be sent, now or when replies have come.
    var hasOutput: Bool { !output.isEmpty || !unsent.isEmpty }
    /// Places that requests over the daemon's limit take.
    var unsentPlaces: Int { unsent.places }

    // MARK: Asking

    /// Why a request may not be made, nil if it may.
    ///
    /// To be called once, right before it is made: what disposes of an allocation by its handle is
    /// noted here, so that whatever is asked after it does not use the handle, whose number may
    /// then stand for another allocation.
    @inline(__always)
    func refusal<Owner>(_ operation: UInt8, _ remote: Remote<Owner>?) -> SmallocError? {
        if let ended { return ended.afterwards }
        let disposes = operation == Operation.dispose.rawValue
        if remote?.isGone == true { return disposes ? .noDataToDispose : .noData }
        if disposes { remote?.isGone = true }
        return nil
    }

    /// Takes an entry for a request, to be filled in before `enqueue`.
    @inline(__always)
    mutating func begin(_ header: FrameHeader) -> UnsafeMutablePointer<PendingRequest> {
        pending.at(pending.insert(header.operation, header.handle))
    }

    /// Whether a request may be under way on the allocation of a handle, given up ones included;
    /// one that waits in the daemon is none.
    ///
    /// What is asked by another handle or by name, or in a batch, is taken for one on it if it may
    /// change it. Cost: a look at each request under way.
    func isUnderWay(on handle: UInt32) -> Bool {
        pending.indices.contains { index in
            let entry = pending.at(index)
            guard entry.pointee.state != .free, !entry.pointee.isReplied, !entry.pointee.isWait
            else { return false }
            if entry.pointee.batch != nil { return true }
            switch Operation(rawValue: entry.pointee.operation) {
            case .copy, .dispose, .freeze, .rename: return true
            default: return entry.pointee.handle == handle
            }
        }
    }

    /// Enters a request that no task waits for yet.
    ///
    /// - Parameters:
    ///   - size: Bytes of payload that a good reply has; -1 for all of the reply.
    ///   - room: Where they go if they fit the input; must be there until the answer is fetched.
    ///   - sink: Where they go else, from its offset on.
    ///   - descriptorsAt: Where in the payload it says how many descriptors come with the reply.
    /// - Returns: The cookie to fetch the answer by.
    mutating func start(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, data: OutgoingData? = nil,
        size: Int = -1, room: UnsafeMutableRawPointer? = nil,
        sink: (target: any Sink, offset: Int)? = nil, descriptorsAt: Int = -1,
        deadline: UInt64 = .max
    ) -> UInt64 {
        let entry = begin(header)
        entry.pointee.state = .asked
        entry.pointee.deadline = deadline
        entry.pointee.size = size
        entry.pointee.room = room
        entry.pointee.descriptorsAt = descriptorsAt
        if let sink {
            entry.pointee.sink = sink.target
            entry.pointee.sinkOffset = sink.offset
        }
        let cookie = pending.cookie(of: entry)
        enqueue(cookie, header, body, data)
        return cookie
    }

    /// Enters a request whose answer is not wanted: closing a handle.
    mutating func forget(
        _ header: FrameHeader,
        _ body: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) {
        let entry = begin(header)
        entry.pointee.state = .abandoned
        enqueue(pending.cookie(of: entry), header, body, nil)
    }

    // MARK: Waits

    /// Enters a request that waits in the daemon, however many are in flight.
    ///
    /// Its answer may be long in coming, and what is asked for behind it is answered before.
    ///
    /// - Returns: The cookie to fetch the answer by.
    mutating func startWait(
        _ header: FrameHeader, _ body: UnsafeRawBufferPointer, deadline: UInt64 = .max
    ) -> UInt64 {
        let entry = begin(header)
        entry.pointee.state = .asked
        entry.pointee.isWait = true
        entry.pointee.deadline = deadline
        let cookie = pending.cookie(of: entry)
        var header = header
        header.cookie = cookie
        header.payloadSize = UInt32(body.count)
        if unsent.isEmpty {
            waits += 1
            output.append(header, body)
        } else {
            unsent.append(header, body, nil)
        }
        return cookie
    }

    /// Has the daemon take back a request that waits there, unless its answer has come.
    ///
    /// - Parameter deadline: Moment by which its answer has to come now.
    mutating func cancelWait(_ cookie: UInt64, deadline: UInt64) {
        guard ended == nil, let index = pending.index(of: cookie),
            pending.at(index).pointee.state.isWanted
        else { return }
        pending.at(index).pointee.deadline = deadline
        let request = Request.cancel(cookie)
        request.body.withUnsafeBytes { forget(request.header, $0) }
    }

    /// Whether anything has been asked for and not answered.
    var hasRequests: Bool { inFlight > 0 || waits > 0 }

    /// Enters a batch.
    ///
    /// - Returns: Its entry, to be filled in before `enqueue`.
    mutating func begin(_ record: BatchRecord) -> UnsafeMutablePointer<PendingRequest> {
        let index = pending.insert(0, 0)
        let entry = pending.at(index)
        entry.pointee.batch = record
        record.carrier = index
        return entry
    }

    /// Puts a frame, with no more than what is here, into the output, or behind those that wait.
    @inline(__always)
    mutating func enqueue(
        _ cookie: UInt64, _ header: FrameHeader, _ body: UnsafeRawBufferPointer
    ) {
        var header = header
        header.cookie = cookie
        header.payloadSize = UInt32(body.count)
        if inFlight < inFlightMax {
            inFlight += 1
            output.append(header, body)
        } else {
            unsent.append(header, body, nil)
        }
    }

    /// The same with data that is sent from where it is.
    private mutating func enqueue(
        _ cookie: UInt64, _ header: FrameHeader, _ body: UnsafeRawBufferPointer,
        _ data: OutgoingData?
    ) {
        guard let data else { return enqueue(cookie, header, body) }
        var header = header
        header.cookie = cookie
        header.payloadSize = UInt32(body.count + data.size)
        if inFlight < inFlightMax {
            inFlight += 1
            output.append(header, body, data)
        } else {
            unsent.append(header, body, data)
        }
    }

    /// Puts as many of a batch's frames into the output as may be in flight.
    mutating func enqueue(_ record: BatchRecord) {
        if let rest = put(record, from: 0, record.unanswered) { unsent.append(rest) }
    }

    /// - Returns: The frames that have to wait.
    private mutating func put(
        _ record: BatchRecord, from offset: Int, _ count: Int
    ) -> UnsentQueue.Item? {
        let most = max(0, min(count, inFlightMax - inFlight))
        let end = record.dispatch(most, from: offset)
        inFlight += most
        if most > 0 { output.append(record, from: offset, to: end) }
        return most < count ? .rest(record, from: end, count: count - most) : nil
    }

    // MARK: What waited for replies

    /// Replies have come: there is room for as many more requests.
    @inline(__always)
    mutating func replied(_ count: Int = 1) {
        inFlight -= count
        if !unsent.isEmpty { sendUnsent() }
    }

    /// The same of one that waited.
    mutating func waitReplied() { waits -= 1 }

    private mutating func sendUnsent() {
        while !unsent.isEmpty, inFlight < inFlightMax {
            switch unsent.first {
            case .sent: unsent.removeFirst()
            case .frame(let header, let body, let data):
                unsent.removeFirst()
                send(header, body, data)
            case .rest(let record, let offset, let count):
                let entry = pending.at(record.carrier)
                guard entry.pointee.batch === record, !entry.pointee.state.isUnwanted else {
                    unsent.removeFirst()
                    skip(record, from: offset)
                    continue
                }
                if let rest = put(record, from: offset, count) {
                    unsent.setFirst(rest)
                } else {
                    unsent.removeFirst()
                }
            }
        }
    }

    /// Forgets what of a batch has not been sent, as its task does not wait any more.
    private mutating func skip(_ record: BatchRecord, from offset: Int) {
        guard pending.at(record.carrier).pointee.batch === record else { return }
        record.skip(from: offset)
        if record.unanswered == 0 {
            _ = pending.finish(record.carrier, Answer(), replied: true)
        }
    }

    private mutating func send(_ header: FrameHeader, _ body: [UInt8], _ data: OutgoingData?) {
        // One that was cancelled before it was sent need not be sent, unless it frees something.
        let index = pending.index(of: header.cookie)
        if let index, pending.at(index).pointee.state.isUnwanted,
            header.operation != Operation.close.rawValue,
            header.operation != Operation.dispose.rawValue
        {
            _ = pending.finish(index, Answer(), replied: true)
            return
        }
        if let index, pending.at(index).pointee.isWait { waits += 1 } else { inFlight += 1 }
        body.withUnsafeBytes {
            if let data { output.append(header, $0, data) } else { output.append(header, $0) }
        }
    }

    // MARK: Fetching answers

    /// The answer of a request that no task waits for, once; nil if it has not come.
    @inline(__always)
    mutating func take(_ cookie: UInt64) -> Answer? {
        guard let index = pending.index(of: cookie) else { return Answer(ended ?? .cancelled) }
        return pending.at(index).pointee.state == .done ? pending.take(index) : nil
    }

    /// Has a task wait for a request that was entered without one.
    ///
    /// - Returns: The answer, if it is there: then the task need not wait.
    mutating func wait(_ cookie: UInt64, _ waiter: Waiter) -> Answer? {
        guard let index = pending.index(of: cookie) else { return Answer(ended ?? .cancelled) }
        switch pending.at(index).pointee.state {
        case .done:
            return pending.take(index)
        case .cancelled:
            pending.leave(index)
            return Answer(.cancelled)
        default:
            pending.at(index).pointee.waiter = waiter
            pending.at(index).pointee.state = .waiting
            return nil
        }
    }

    /// Ends the waiting for a request, which goes on in the daemon; others notice nothing.
    ///
    /// - Returns: The task that waits, to be resumed.
    mutating func cancel(_ cookie: UInt64) -> Waiter? {
        guard let index = pending.index(of: cookie) else { return nil }
        let entry = pending.at(index)
        switch entry.pointee.state {
        case .waiting:
            entry.pointee.state = .abandoned
            return entry.pointee.waiter
        case .asked:
            entry.pointee.state = .cancelled
            return nil
        default:
            return nil
        }
    }

    /// Gives up a request that was entered without a task: its answer will not be fetched.
    mutating func abandon(_ cookie: UInt64) {
        guard let index = pending.index(of: cookie) else { return }
        switch pending.at(index).pointee.state {
        case .done, .asked, .cancelled: pending.leave(index)
        default: break
        }
    }

    // MARK: Time, and the end

    /// Has calls that have waited since the last round wait in a way that can be cancelled, and
    /// ends those that are over their time.
    ///
    /// - Parameter now: The moment, by the clock that the deadlines are of.
    mutating func checkDeadlines(_ now: UInt64, into completions: inout CompletionList) {
        hasUnchecked = false
        for index in pending.indices {
            let entry = pending.at(index)
            if entry.pointee.round == 0 {
                if entry.pointee.deadline <= now { expire(index, into: &completions) }
            } else if entry.pointee.state == .waiting {
                if entry.pointee.round == round {
                    hasUnchecked = true
                } else {
                    entry.pointee.state = .asked
                    entry.pointee.round = 0
                    let (sum, isOver) = now.addingReportingOverflow(entry.pointee.allowed)
                    entry.pointee.deadline = isOver ? .max : sum
                    completions.append(
                        entry.pointee.waiter!, Answer(late: pending.cookie(of: index)))
                }
            }
        }
        round = round == .max ? 1 : round + 1
    }

    private mutating func expire(_ index: Int, into completions: inout CompletionList) {
        let error = SmallocError.timedOut("the daemon did not answer in time")
        pending.at(index).pointee.deadline = .max
        if let waiter = pending.finish(index, Answer(error), replied: false) {
            completions.append(waiter, Answer(error))
        }
    }

    /// Ends all requests with an error, and refuses further ones; the first error counts.
    ///
    /// - Returns: The error that counts, and the tasks to be resumed with it.
    mutating func end(_ error: SmallocError) -> (error: SmallocError, waiters: [Waiter]) {
        let error = ended ?? error
        ended = error
        var waiters: [Waiter] = []
        for index in pending.indices {
            if let waiter = pending.finish(index, Answer(error), replied: false) {
                waiters.append(waiter)
            }
        }
        output.removeAll()
        unsent.removeAll()
        return (error, waiters)
    }
}
