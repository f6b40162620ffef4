// Who comes first where loops and the threads that work for them share too few processors.

internal import Glibc

/// The niceness of threads.
public enum ThreadTurns {
    /// The daemon's own niceness, as every thread has it that has not given way yet.
    private static let ours = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
    /// Ten steps make a tenth of a loop's share: enough for who moves gigabytes, while a loop that
    /// wakes need not wait for the end of a turn of 3 ms.
    private static let step: Int32 = 10

    /// Has the calling thread give way to loops from now on.
    ///
    /// Cheap enough to be said again before each piece of work.
    public static func giveWay() {
        // On Linux, against POSIX, 0 means this thread and not the process: setpriority(2), Notes.
        _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, min(ours + step, 19))
    }
}
