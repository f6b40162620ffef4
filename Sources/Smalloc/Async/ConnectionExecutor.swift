// The thread of a multiplexed connection, and the jobs of tasks that prefer to run on it.

internal import Glibc
internal import SmallocSystem
internal import Synchronization

extension AsyncSmalloc {
    /// Runs tasks on the thread of an `AsyncSmalloc`, right where the answers arrive.
    ///
    /// ```swift
    /// try await withTaskExecutorPreference(smalloc.executor) {
    ///     try await withThrowingTaskGroup(of: Void.self) { group in
    ///         for i in 0..<1000 { group.addTask { try await a.set(Double(i), at: i) } }
    ///         try await group.waitForAll()
    ///     }
    /// }
    /// Task(executorPreference: smalloc.executor) { try await a.get(0) }
    /// ```
    ///
    /// A task that runs elsewhere is handed from the connection's thread to another one with every
    /// answer, and its next request back. Tasks that prefer this executor, and their child tasks,
    /// stay: all answers that have come are given out, all tasks that wait for them run on, and
    /// what they ask next leaves in one system call. With 1,000 tasks in flight that was measured
    /// to be twice as fast: a read of 64 bytes takes 3,100 instructions, half of which are what
    /// Swift needs to suspend a task on such an executor and to resume it; elsewhere 4,100, and a
    /// wake-up now and then.
    ///
    /// They share one thread, so a task that computes for long or blocks holds up all others on the
    /// connection, and its answers: such work belongs elsewhere (`Task(executorPreference:
    /// globalConcurrentExecutor)`). Jobs run in the order in which they come, whatever their
    /// priority.
    ///
    /// It outlives the connection: after `close()`, after a loss and while a new connection is made
    /// tasks run on it as before. It has a thread for as long as there is a connection or a job.
    public final class Executor: TaskExecutor, @unchecked Sendable {
        /// One end of a socket pair that ends the thread's waiting; -1 if there was none to be had.
        let wakeDescriptor: Int32
        private let wakeWriter: Int32

        private let lock = Lock()
        // These are touched under the lock alone.
        @exclusivity(unchecked) private var arrived = JobQueue()
        @exclusivity(unchecked) private var links: [Link] = []
        /// A thread serves this, or is about to.
        @exclusivity(unchecked) private var hasThread = false
        /// A thread has been asked for, to be the thread if there is none yet when it runs.
        @exclusivity(unchecked) private var isStarting = false
        /// The thread waits, or is about to, and has to be woken for a job.
        @exclusivity(unchecked) private var isAsleep = false

        /// Whether `arrived` holds something, as far as is known without the lock.
        private let hasArrived = Atomic<Bool>(false)
        /// The thread, 0 if there is none; in memory of its own, for `Link`.
        let thread: UnsafeMutablePointer<Atomic<UInt>>
        /// Touched by the thread alone.
        @exclusivity(unchecked) private var local = JobQueue()

        /// Jobs that are run before the connection is looked after again.
        private static var jobsAtATime: Int { 256 }
        /// Milliseconds that a thread without a connection waits for more jobs.
        private static var idleMilliseconds: Int32 { 100 }

        /// How threads are started; tests have it fail.
        private let start: @Sendable (@escaping @Sendable () -> Void) -> Bool

        init(
            start: @escaping @Sendable (@escaping @Sendable () -> Void) -> Bool = { body in
                startThread { body }
            }
        ) {
            self.start = start
            thread = .allocate(capacity: 1)
            thread.initialize(to: Atomic(0))
            var ends: (Int32, Int32) = (-1, -1)
            withUnsafeMutablePointer(to: &ends) {
                $0.withMemoryRebound(to: Int32.self, capacity: 2) {
                    let kind = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
                    _ = socketpair(AF_UNIX, Int32(kind), 0, $0)
                }
            }
            (wakeDescriptor, wakeWriter) = ends
        }

        deinit {
            thread.deinitialize(count: 1)
            thread.deallocate()
            if wakeDescriptor >= 0 {
                _ = Glibc.close(wakeDescriptor)
                _ = Glibc.close(wakeWriter)
            }
        }

        /// Whether the caller runs on the connection's thread.
        var isCurrent: Bool {
            thread.pointee.load(ordering: .relaxed) == UInt(pthread_self())
        }

        /// Takes a job, to be run on the connection's thread.
        ///
        /// Called by the runtime.
        public func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            if isCurrent { return local.append(job) }
            let (starts, wakes) = lock.withLock {
                arrived.append(job)
                hasArrived.store(true, ordering: .relaxed)
                let starts = !hasThread && !isStarting
                if starts { isStarting = true }
                defer { isAsleep = false }
                return (starts, isAsleep)
            }
            if wakes { wake() }
            if starts, !start({ self.workIfNoneDoes() }) { runElsewhere() }
        }

        /// Without a thread jobs still have to run: elsewhere, then.
        ///
        /// Connections need nothing here: the thread that brings one serves it if there is none.
        private func runElsewhere() {
            lock.withLock {
                isStarting = false
                guard !hasThread else { return }
                while let job = arrived.popFirst() { globalConcurrentExecutor.enqueue(job) }
            }
        }

        /// Takes a connection, to be served to its end.
        ///
        /// - Returns: Whether there is no thread yet: the caller's has to become it, by `work`.
        func take(_ link: Link) -> Bool {
            let (isFirst, wakes) = lock.withLock {
                links.append(link)
                defer {
                    hasThread = true
                    isAsleep = false
                }
                return (!hasThread, isAsleep)
            }
            if wakes { wake() }
            return isFirst
        }

        /// Ends the thread's waiting.
        func wake() {
            var one: UInt8 = 1
            _ = Glibc.write(wakeWriter, &one, 1)
        }

        // MARK: On the thread

        /// What a thread does that was started for jobs: another may serve this by now.
        private func workIfNoneDoes() {
            let isFirst = lock.withLock {
                isStarting = false
                defer { hasThread = true }
                return !hasThread
            }
            if isFirst { work() }
        }

        /// Is the thread until there is nothing left to do.
        ///
        /// To be called by the thread that `take` has told to, and by no other.
        func work() {
            thread.pointee.store(UInt(pthread_self()), ordering: .relaxed)
            while true {
                if let link = lock.withLock({ links.isEmpty ? nil : links.removeFirst() }) {
                    serve(link)
                }
                if runJobs() { continue }
                let slept = sleep(AsyncSmalloc.Executor.idleMilliseconds)
                let isOver = lock.withLock {
                    isAsleep = false
                    guard slept, arrived.isEmpty, links.isEmpty else { return false }
                    thread.pointee.store(0, ordering: .relaxed)
                    hasThread = false
                    return true
                }
                if isOver { return }
            }
        }

        /// - Returns: Whether the time has passed and nothing has come.
        private func sleep(_ milliseconds: Int32) -> Bool {
            guard isReadyToSleep() else { return false }
            var wait = pollfd(fd: wakeDescriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&wait, 1, milliseconds) != 0 else { return true }
            clearWakes()
            return false
        }

        /// Takes in what `wake` has written.
        func clearWakes() {
            var wakes: (UInt64, UInt64) = (0, 0)
            _ = read(wakeDescriptor, &wakes, 16)
        }

        /// To be called before waiting.
        ///
        /// - Returns: Whether there is nothing to do; jobs that come after this wake the thread.
        func isReadyToSleep() -> Bool {
            guard local.isEmpty else { return false }
            return lock.withLock {
                isAsleep = arrived.isEmpty && links.isEmpty
                return isAsleep
            }
        }

        /// Runs the jobs that are there, up to a number.
        ///
        /// - Returns: Whether there are more.
        func runJobs() -> Bool {
            if hasArrived.load(ordering: .relaxed) {
                lock.withLock {
                    isAsleep = false
                    hasArrived.store(false, ordering: .relaxed)
                    while let job = arrived.popFirst() { local.append(job) }
                }
            }
            let executor = asUnownedTaskExecutor()
            var left = min(local.count, AsyncSmalloc.Executor.jobsAtATime)
            while left > 0, let job = local.popFirst() {
                job.runSynchronously(on: executor)
                left -= 1
            }
            return !local.isEmpty
        }

        private func serve(_ link: Link) {
            var reader = LinkReader(link)
            reader.run()
        }
    }
}

/// Jobs in their order, in a ring that grows.
struct JobQueue: ~Copyable {
    private var memory: UnsafeMutablePointer<UnownedJob>
    private var capacity = 64
    private var first = 0
    private(set) var count = 0

    init() { memory = .allocate(capacity: capacity) }

    deinit { memory.deallocate() }

    var isEmpty: Bool { count == 0 }

    mutating func append(_ job: UnownedJob) {
        if count == capacity { grow() }
        (memory + (first + count) & (capacity - 1)).initialize(to: job)
        count += 1
    }

    mutating func popFirst() -> UnownedJob? {
        guard count > 0 else { return nil }
        let job = (memory + first).move()
        first = (first + 1) & (capacity - 1)
        count -= 1
        return job
    }

    private mutating func grow() {
        let larger = UnsafeMutablePointer<UnownedJob>.allocate(capacity: capacity * 2)
        for index in 0..<count {
            (larger + index).initialize(to: (memory + (first + index) & (capacity - 1)).move())
        }
        memory.deallocate()
        memory = larger
        first = 0
        capacity *= 2
    }
}
