// Threads that do what would hold up a loop, and give way to loops while they do it.

internal import Glibc

/// A thread of its own for something rare and long.
public enum BackgroundThread {
    private final class Job {
        let body: () -> Void

        init(_ body: @escaping () -> Void) { self.body = body }
    }

    /// Starts a thread that ends with `body`.
    ///
    /// - Returns: False if there is no thread to be had; `body` is not called then.
    public static func start(_ body: @escaping @Sendable () -> Void) -> Bool {
        let job = Unmanaged.passRetained(Job(body))
        var thread = pthread_t()
        guard pthread_create(&thread, nil, runBackgroundJob, job.toOpaque()) == 0 else {
            job.release()
            return false
        }
        pthread_detach(thread)
        return true
    }

    fileprivate static func run(_ context: UnsafeMutableRawPointer) {
        Yielding.giveWay()
        Unmanaged<Job>.fromOpaque(context).takeRetainedValue().body()
    }
}

private func runBackgroundJob(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let context { BackgroundThread.run(context) }
    return nil
}
