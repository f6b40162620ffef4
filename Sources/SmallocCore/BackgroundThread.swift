// Threads that move gigabytes give way to those that answer.

internal import Glibc

/// What threads that reclaim memory do first.
enum BackgroundThread {
    /// Niceness of such a thread: where cores are scarce a loop that wakes runs at once, and the
    /// rest still gets a tenth of a core.
    private static let niceness: Int32 = 10

    /// Lowers the calling thread's priority.
    ///
    /// Costs a system call of a fraction of a microsecond.
    static func yieldToLoops() {
        // On Linux, against POSIX, 0 means this thread and not the process: setpriority(2), Notes.
        _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, niceness)
    }
}
