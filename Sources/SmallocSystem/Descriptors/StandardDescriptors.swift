// Descriptors 0 to 2, which a program may be started without. What it opens next takes their
// numbers: its log lines would go into a lock file, its output into a socket.

internal import Glibc

/// Standard input, output and error: descriptors 0, 1 and 2.
public enum StandardDescriptors {
    /// Why a standard descriptor could not be opened.
    public struct Failure: Error, Sendable, Equatable {
        /// The system's error number.
        public let number: Int32
    }

    /// Opens `/dev/null` for reading and writing at each of 0, 1 and 2 that is closed.
    ///
    /// To be called first in `main`, before anything else opens a descriptor, and on the only
    /// thread. What was missing stays open from then on, also in programs that this one starts.
    ///
    /// - Returns: Those that were closed, in ascending order; nearly always none.
    /// - Throws: `Failure` if `/dev/null` can't be opened; those after it may still be closed.
    /// - Complexity: Three system calls where nothing is missing.
    @discardableResult
    public static func ensureOpen() throws(Failure) -> [Int32] {
        var missing: [Int32] = []
        for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
            // The lowest free number is given, and all below this one are taken.
            guard open("/dev/null", O_RDWR | O_NOCTTY) == descriptor else {
                throw Failure(number: errno)
            }
            missing.append(descriptor)
        }
        return missing
    }
}
