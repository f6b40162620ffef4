// Threads that do what would hold up a loop, and give way to loops while they do it.

internal import CSmalloc
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
        guard smalloc_start_thread(runBackgroundJob, job.toOpaque()) else {
            job.release()
            return false
        }
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
