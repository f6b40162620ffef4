// The system's monotonic clocks, read without Foundation.

internal import Glibc

/// Times since an unspecified start, which no change of the wall clock moves.
public enum Clock {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    ///
    /// Cost: some 20 nanoseconds, no system call.
    public static var now: UInt64 { nanoseconds(CLOCK_MONOTONIC) }

    /// Nanoseconds of processor time that the calling thread has used.
    ///
    /// Cost: a system call.
    public static var threadTime: UInt64 { nanoseconds(CLOCK_THREAD_CPUTIME_ID) }

    /// Nanoseconds of `CLOCK_MONOTONIC_COARSE`, which is exact to some milliseconds, and costs a
    /// third.
    public static var coarse: UInt64 { nanoseconds(CLOCK_MONOTONIC_COARSE) }

    /// Nanoseconds since 1970, by the wall clock, to some milliseconds.
    public static var coarseWallTime: UInt64 { nanoseconds(CLOCK_REALTIME_COARSE) }

    private static func nanoseconds(_ clock: clockid_t) -> UInt64 {
        var now = timespec()
        clock_gettime(clock, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }
}
