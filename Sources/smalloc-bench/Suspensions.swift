/// What Swift takes to suspend tasks and to resume them in batches, on an executor with one thread
/// and nothing else: what no client with a task for each request can be faster than.
final class Suspensions: TaskExecutor, @unchecked Sendable {
    static let label = "bare suspensions"

    // All of these are touched by the one thread that runs the tasks and resumes them.
    private var jobs: [UnownedJob] = []
    private var waiting: [UnsafeContinuation<Void, Never>] = []
    private var isOver = false
    private var count = 0

    /// How often so many tasks are suspended and resumed, a second, as one of those at a point.
    static func entrant(tasks: Int) -> Entrant {
        Entrant(label: label) { sample(tasks: tasks, seconds: $0) }
    }

    private static func sample(tasks: Int, seconds: Double) -> Sample {
        let executor = Suspensions()
        let start = clockNanoseconds()
        for _ in 0..<tasks {
            Task(executorPreference: executor) { await executor.suspendUntilOver() }
        }
        executor.run(until: start + UInt64(seconds * 1e9))
        let elapsed = Double(clockNanoseconds() - start) / 1e9
        return Sample(figure: Double(executor.count) / elapsed)
    }

    func enqueue(_ job: consuming ExecutorJob) { jobs.append(UnownedJob(job)) }

    private func suspendUntilOver() async {
        while !isOver {
            await withUnsafeContinuation { waiting.append($0) }
            count += 1
        }
    }

    private func run(until end: UInt64) {
        var batch: [UnownedJob] = []
        var resumed: [UnsafeContinuation<Void, Never>] = []
        repeat {
            isOver = clockNanoseconds() >= end
            swap(&resumed, &waiting)
            for waiter in resumed { waiter.resume() }
            resumed.removeAll(keepingCapacity: true)
            swap(&batch, &jobs)
            for job in batch { job.runSynchronously(on: asUnownedTaskExecutor()) }
            batch.removeAll(keepingCapacity: true)
        } while !(isOver && jobs.isEmpty && waiting.isEmpty)
    }
}
