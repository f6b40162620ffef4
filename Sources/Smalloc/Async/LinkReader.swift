// What the thread of a multiplexed connection does for it: receives, resumes who waits, runs those
// who run there, sends for them, watches deadlines, and goes on sending when the socket takes more.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// What the thread knows by itself.
struct LinkReader: ~Copyable {
    let link: Link
    let executor: ConnectionExecutor
    let input: UnsafeMutableRawPointer
    var start = 0
    var end = 0
    static var capacity: Int { 262_144 }

    /// A payload that is received straight to where it belongs.
    struct Filling {
        let cookie: UInt64
        let header: FrameHeader
        /// nil: into nothing.
        let sink: (any Sink)?
        /// For a reply without a sink that is too large for the buffer.
        let own: ArraySink<UInt8>?
        var offset: Int
        var left: Int
    }
    var filling: Filling?
    var resumed = AnswerList()
    /// Handles opened for calls that had been cancelled by then.
    var unwanted: [UInt32] = []
    /// What the daemon has said that it closes for.
    var lastWord: SmallocError?
    /// The last wait ended with nothing.
    private var isQuiet = false
    private var idleTicks = 0
    /// When calls and deadlines were looked after.
    private var lastLook: UInt64 = 0

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
                if more, !jobs {
                    lookAround()
                } else if try !waitForInput(jobs) {
                    // Jobs may go on for long, and with them whoever scheduled it.
                    scheduled = link.lock.withLock { link.flushScheduled }
                    continue
                }
                scheduled = link.lock.withLock { link.flushScheduled }
                more = try receive()
                for handle in unwanted { link.forget(Request.close(handle).header) }
                unwanted.removeAll(keepingCapacity: true)
            }
        } catch {
            // First the end: who is resumed may ask again at once.
            link.end(error)
            resume()
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
            if link.flushScheduled || (link.inFlight > link.fewInFlight && !isQuiet) {
                timeout = 1
                return link.stalled
            }
            link.parked = true
            if !isQuiet || link.hasYoung {
                timeout = LinkReader.quietInterval
                return link.stalled
            }
            link.watching = false
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
            link.watching = true
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
        lookAround()
        return ready > 0 && waits.0.revents & ~Int16(POLLOUT) != 0
    }

    /// Milliseconds between looks at the deadlines: they are kept within a twentieth.
    private var tick: Int32 { Int32(clamping: min(max(link.timeout / 20_000_000, 5), 1000)) }

    /// Milliseconds between looks at the calls that can't be cancelled yet, while nothing comes.
    private static var quietInterval: Int32 { 2 }
    /// The same while answers come: most calls wait only for those before them.
    private static var busyInterval: Int32 { 20 }

    /// Has calls that have waited for long wait in a way that can be cancelled, and ends those that
    /// are over their time.
    private mutating func lookAround() {
        let now = monotonicNanoseconds()
        let interval = isQuiet ? LinkReader.quietInterval : LinkReader.busyInterval
        guard now &- lastLook >= UInt64(min(tick, interval)) * 1_000_000 else { return }
        lastLook = now
        link.lock.lock()
        link.hasYoung = false
        for index in link.slots.indices {
            let slot = link.slots.at(index)
            if slot.pointee.look == 0 {
                if slot.pointee.deadline <= now { expire(index) }
            } else if slot.pointee.state == .waiting {
                if slot.pointee.look == link.look {
                    link.hasYoung = true
                } else {
                    slot.pointee.state = .asked
                    slot.pointee.look = 0
                    slot.pointee.deadline = Deadline.after(slot.pointee.allowed).nanoseconds
                    resumed.append(
                        slot.pointee.waiter!, Answer(late: link.slots.cookie(of: index)))
                }
            }
        }
        link.look = link.look == .max ? 1 : link.look + 1
        link.lock.unlock()
        resume()
    }

    /// Under the lock.
    private mutating func expire(_ index: Int) {
        let error = SmallocError.timedOut("the daemon did not answer in time")
        link.slots.at(index).pointee.deadline = .max
        if let waiter = link.slots.finish(index, Answer(error), replied: false) {
            resumed.append(waiter, Answer(error))
        }
    }
}
