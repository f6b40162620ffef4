// What the thread of a multiplexed connection does for it: receives, resumes tasks, runs those that
// run there, sends for them, watches deadlines, and goes on sending when the socket takes more.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// What the thread knows by itself.
struct LinkReader: ~Copyable {
    private let link: Link
    private let executor: AsyncSmalloc.Executor
    private var input: ReplyInput
    private var completions = CompletionList()
    /// The last wait ended with nothing.
    private var isQuiet = false
    private var idleTicks = 0
    /// When calls and deadlines were looked after.
    private var lastRound: UInt64 = 0

    init(_ link: Link) {
        self.link = link
        executor = link.executor
        input = ReplyInput(capacity: 262_144, link.state)
    }

    /// Works until the connection ends.
    mutating func run() {
        do throws(SmallocError) {
            var more = false
            var scheduled = false
            while true {
                let jobs = executor.runJobs()
                // A flush that was scheduled before the last jobs has waited long enough; what was
                // asked for here and what waited for replies is sent by nothing else.
                let behind = link.lock.withLock {
                    !link.session.output.isEmpty && (scheduled || !link.isFlushScheduled)
                }
                if behind { link.flush() }
                scheduled = false
                if more, !jobs {
                    checkDeadlines()
                } else if try !waitForInput(jobs) {
                    // Jobs may go on for long, and with them the task that scheduled it.
                    scheduled = link.lock.withLock { link.isFlushScheduled }
                    continue
                }
                scheduled = link.lock.withLock { link.isFlushScheduled }
                more = try receive()
                for handle in input.takeUnwantedHandles() { link.forget(handle) }
                input.closeUnwantedDescriptors()
            }
        } catch {
            // First the end: a task that is resumed may ask again at once.
            link.end(error)
            resume()
        }
    }

    // MARK: Receiving

    /// Receives what is there.
    ///
    /// - Returns: Whether there may be more right now.
    private mutating func receive() throws(SmallocError) -> Bool {
        let descriptor = link.socket.descriptor
        var descriptors: [Int32] = []
        let takesDescriptors = link.takesDescriptors.load(ordering: .acquiring)
        let got = input.receive {
            takesDescriptors
                ? SmallocSystem.receive(
                    on: descriptor, into: $0, flags: Int32(MSG_DONTWAIT), appending: &descriptors)
                : recv(descriptor, $0.baseAddress!, $0.count, Int32(MSG_DONTWAIT))
        }
        if takesDescriptors { input.received(descriptors: descriptors) }
        guard got.size > 0 else {
            if got.size == 0 { throw .connectionLost("the daemon closed the connection") }
            if errno == EAGAIN || errno == EINTR { return false }
            throw .lost(errno)
        }
        // A part at a time, so that tasks that ask don't wait long for the lock and the resumed
        // ones run early.
        while try parse() { resume() }
        resume()
        return got.isFull || input.isFilling
    }

    private mutating func parse() throws(SmallocError) -> Bool {
        // By a name of its own, or the ThreadSanitizer's build sees overlapping accesses of `self`.
        let link = link
        link.lock.lock()
        defer { link.lock.unlock() }
        return try input.parse(&link.session, into: &completions)
    }

    private mutating func resume() {
        guard !completions.isEmpty else { return }
        link.handovers.add(1, ordering: .releasing)
        completions.resumeAll()
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
                return link.isStalled
            }
            if link.isFlushScheduled || (link.session.inFlight > link.fewInFlight && !isQuiet) {
                timeout = 1
                return link.isStalled
            }
            if !isQuiet || link.session.hasUnchecked {
                link.threadState = .polling
                timeout = LinkReader.quietInterval
                return link.isStalled
            }
            link.threadState = .waiting
            if link.timeout != .max {
                if link.session.hasRequests { idleTicks = 0 }
                // After some idle time the thread is not woken once a second for nothing.
                if idleTicks > 4 { link.threadState = .sleeping } else { timeout = tick }
            }
            return link.isStalled
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
            link.threadState = .working
            return link.isFlushScheduled && timeout == 1 && ready == 0
        }
        if overdue { link.flush() }
        if ready < 0, errno != EINTR { throw .connectionLost(systemMessage(errno)) }
        if ready > 0, waits.1.revents != 0 {
            executor.clearWakes()
            if let ended = link.lock.withLock({ link.session.ended }) { throw ended }
        }
        if ready > 0, waits.0.revents & Int16(POLLOUT) != 0 {
            link.lock.withLock { link.isStalled = false }
            link.flush()
        }
        checkDeadlines()
        return ready > 0 && waits.0.revents & ~Int16(POLLOUT) != 0
    }

    /// Milliseconds between looks at the deadlines: they are kept within a twentieth.
    private var tick: Int32 { Int32(clamping: min(max(link.timeout / 20_000_000, 5), 1000)) }

    /// Milliseconds between looks at the calls that can't be cancelled yet, while nothing comes.
    private static var quietInterval: Int32 { 2 }
    /// The same while answers come: most calls wait only for those before them.
    private static var busyInterval: Int32 { 20 }

    /// Has the session look after calls that have waited for long, now and then.
    private mutating func checkDeadlines() {
        let now = Clock.now
        let interval = isQuiet ? LinkReader.quietInterval : LinkReader.busyInterval
        guard now &- lastRound >= UInt64(min(tick, interval)) * 1_000_000 else { return }
        lastRound = now
        let link = link
        link.lock.lock()
        link.session.checkDeadlines(now, into: &completions)
        link.lock.unlock()
        resume()
    }
}
