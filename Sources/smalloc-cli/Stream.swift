// Which of standard input and output a command needs, and which of them the tool was started
// without.

import Glibc
import SmallocSystem

/// Standard input or output.
enum Stream: Int32 {
    case input = 0
    case output = 1

    /// Standard descriptors that were closed when the tool started.
    ///
    /// `/dev/null` is there instead, so that no file and no socket takes their numbers: what is
    /// printed would go to the daemon as a request.
    static var missing: [Int32] { absent }

    // Set once, before anything else runs.
    nonisolated(unsafe) private static var absent: [Int32] = []

    /// Puts `/dev/null` where a standard descriptor is closed.
    ///
    /// To be called first of all.
    static func openMissing() throws(StandardDescriptors.Failure) {
        absent = try StandardDescriptors.ensureOpen()
    }

    /// Checks that it was open when the tool started.
    func require() throws {
        guard Stream.missing.contains(rawValue) else { return }
        switch self {
        case .input: throw Failure("standard input", FileError(call: "read", number: EBADF))
        case .output: throw Failure("standard output", FileError(call: "write", number: EBADF))
        }
    }
}
