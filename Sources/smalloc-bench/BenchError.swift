import Glibc

/// Why a measurement can't go on.
enum BenchError: Error, CustomStringConvertible {
    /// A system call failed; the text says which.
    case system(String, errno: Int32)
    /// A reply differs from what must come back.
    case wrongReply(at: Int, expected: String, received: String)
    /// The server closed the connection.
    case closed
    /// Nothing came for too long.
    case timeout(String)
    /// Something is missing or makes no sense; the text says what.
    case setup(String)

    var description: String {
        switch self {
        case .system(let call, let number): "\(call): \(String(cString: strerror(number)))"
        case .wrongReply(let at, let expected, let received):
            "a wrong reply, \(at) bytes into it: expected \(expected), received \(received)"
        case .closed: "the server closed the connection"
        case .timeout(let what): "no answer in time: \(what)"
        case .setup(let text): text
        }
    }

    static func last(_ call: String) -> BenchError { .system(call, errno: errno) }
}

/// Nanoseconds of a clock that only goes on.
@inline(__always)
func clockNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(truncatingIfNeeded: now.tv_sec) &* 1_000_000_000
        &+ UInt64(truncatingIfNeeded: now.tv_nsec)
}
