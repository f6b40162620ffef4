// Sleeping on words of memory that several processes have mapped, by the kernel's futexes.

internal import CSmalloc
internal import Glibc
internal import Synchronization

/// Threads that sleep on words of shared memory, and waking them.
public enum SharedFutex {
    /// Why a sleep is over.
    public enum End: Sendable {
        /// Another thread has woken this one; rarely, none has.
        case woken
        /// One of the words was not what it should be: there was no sleep.
        case differs
        /// The time was up, a signal came, or it is time to look at the words.
        case over
    }

    /// Whether the system can sleep on two words at once, as far as is known (Linux 5.16).
    static let sleepsOnTwo = Atomic<Bool>(true)

    /// The longest sleep where it can't, in nanoseconds: so late is a change of the second word
    /// seen.
    static var slice: UInt64 { 100_000_000 }

    /// Sleeps while two words are what they are expected to be.
    ///
    /// - Parameters:
    ///   - deadline: Nanoseconds of `Clock.now`.
    public static func sleep(
        on word: UnsafeRawPointer, while expected: UInt32, and other: UnsafeRawPointer,
        is known: UInt32, until deadline: UInt64
    ) -> End {
        if sleepsOnTwo.load(ordering: .relaxed) {
            switch smalloc_futex_sleep(word, expected, other, known, deadline) {
            case 0: return .woken
            case EAGAIN: return .differs
            case ETIMEDOUT, EINTR: return .over
            // An old system, or a sandbox that does not know the call.
            case ENOSYS, EPERM: sleepsOnTwo.store(false, ordering: .relaxed)
            // Refused this time: no memory, or a word that is not there.
            default: break
            }
        }
        let end = min(deadline, Clock.now + slice)
        switch smalloc_futex_sleep_one(word, expected, end) {
        case 0: return .woken
        case EAGAIN: return .differs
        default: return .over
        }
    }

    /// Wakes threads of all processes that sleep on a word.
    ///
    /// - Parameter count: How many at the most, from 1.
    /// - Returns: How many.
    public static func wake(_ word: UnsafeMutableRawPointer, count: Int) -> Int {
        Int(smalloc_futex_wake_shared(word, Int32(clamping: count)))
    }

    /// Tells the processor that this thread asks a word again and again.
    @inline(__always)
    public static func pause() { smalloc_spin_hint() }
}
