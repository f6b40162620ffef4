// A wait for memory that is on its way back, for a thread that may sleep.

internal import Glibc
internal import SmallocSystem

/// Waits until all is free that was on its way back, or warm, when it was made.
final class DrainWait: @unchecked Sendable {
    private let done: UnsafeMutablePointer<sem_t>

    init(_ pool: MappingPool) {
        done = .allocate(capacity: 1)
        sem_init(done, 0, 0)
        // The pool keeps this until it calls back.
        pool.onDrained(pool.beginDrain()) { [self] in sem_post(done) }
    }

    deinit {
        sem_destroy(done)
        done.deallocate()
    }

    /// Sleeps until it is over, for `milliseconds` at most, and tells whether it is.
    ///
    /// True is told once.
    func isOver(within milliseconds: Int) -> Bool {
        var end = timespec()
        clock_gettime(CLOCK_REALTIME, &end)
        let nanoseconds = end.tv_nsec + milliseconds * 1_000_000
        end.tv_sec += nanoseconds / 1_000_000_000
        end.tv_nsec = nanoseconds % 1_000_000_000
        return sem_timedwait(done, &end) == 0
    }
}
