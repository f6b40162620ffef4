// The time that a command may wait for the daemon: one limit for connecting, the greeting and the
// answers together, whatever calls of the library they are.

import Glibc
import Smalloc

/// The limit of `--timeout`, kept by a timer of the system.
///
/// When it is over, the tool says so and ends, wherever it is. What waits for the other programs of
/// a pipeline, or sleeps, does not count.
enum TimeLimit {
    /// What is printed at the end of the time, made ready before: little may be done in a handler
    /// of a signal.
    nonisolated(unsafe) private static var message = UnsafeRawBufferPointer(start: nil, count: 0)
    nonisolated(unsafe) private static var exitCode: Int32 = 69
    nonisolated(unsafe) private static var whole = itimerval()

    /// Begins.
    ///
    /// - Parameters:
    ///   - seconds: More than 0.
    ///   - message: One line for standard error.
    ///   - exitCode: That of the tool when the time is over.
    static func start(seconds: Double, message text: String, exitCode code: Int32 = 69) {
        exitCode = code
        let copy = UnsafeMutableRawBufferPointer.allocate(
            byteCount: text.utf8.count, alignment: 1)
        copy.copyBytes(from: text.utf8)
        message = UnsafeRawBufferPointer(copy)
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in
            Screen.leave()
            Leftover.remove()
            _ = write(2, TimeLimit.message.baseAddress, TimeLimit.message.count)
            _exit(TimeLimit.exitCode)
        }
        sigaction(SIGALRM, &action, nil)
        // No timer runs for 0: a microsecond is the shortest time.
        let microseconds = max(1, Int(seconds * 1e6))
        whole.it_value.tv_sec = microseconds / 1_000_000
        whole.it_value.tv_usec = microseconds % 1_000_000
        restart()
    }

    /// The daemon has done a part of the work, so all of the time begins anew; nothing without a
    /// limit.
    static func restart() { resume(whole) }

    /// The same for what takes so many seconds by itself; nothing without a limit.
    static func restart(adding seconds: Double) {
        guard whole.it_value.tv_sec > 0 || whole.it_value.tv_usec > 0 else { return }
        var longer = whole
        longer.it_value.tv_sec += Int(seconds.rounded(.up))
        resume(longer)
    }

    /// The same after a pause between two rounds.
    static func restart(afterSleeping seconds: Double) {
        _ = pause()
        var left = timespec(
            tv_sec: Int(seconds), tv_nsec: Int(seconds.truncatingRemainder(dividingBy: 1) * 1e9))
        var rest = timespec()
        while nanosleep(&left, &rest) != 0, errno == EINTR { left = rest }
        restart()
    }

    /// Does what no daemon is to blame for, with the clock stopped.
    static func paused<Result, Problem>(
        _ work: () throws(Problem) -> Result
    ) throws(Problem) -> Result {
        let left = pause()
        defer { resume(left) }
        return try work()
    }

    /// Stops the clock.
    ///
    /// - Returns: What is left, for `resume`.
    static func pause() -> itimerval {
        var none = itimerval()
        var left = itimerval()
        setitimer(__itimer_which_t(ITIMER_REAL.rawValue), &none, &left)
        return left
    }

    /// Lets it go on.
    static func resume(_ left: itimerval) {
        var left = left
        setitimer(__itimer_which_t(ITIMER_REAL.rawValue), &left, nil)
    }
}
