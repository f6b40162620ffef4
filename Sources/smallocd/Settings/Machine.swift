// What the settings ask of the machine, in one value, so that tests can bring their own machine.

import CLibuv
import Glibc

/// The machine that the daemon runs on, as far as settings depend on it.
struct Machine: Sendable, Equatable {
    /// Bytes of memory this process may use: the machine's, or the cgroup's if that is less.
    var memorySize: UInt64
    /// Processors that this process may run on.
    ///
    /// At least 1.
    var cores: Int
    /// File descriptors that this process may open, once the soft limit is raised to the hard one.
    var descriptorsMax: UInt64

    /// This machine, read anew at each call (a handful of small files).
    static func current() -> Machine {
        var limit = rlimit()
        let known = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0
        return Machine(
            memorySize: MachineMemory.detect().size,
            cores: max(1, Int(uv_available_parallelism())),
            descriptorsMax: known ? UInt64(limit.rlim_max) : 1024)
    }

    /// Descriptors that the daemon takes for itself, and a few for connections.
    ///
    /// - Parameters:
    ///   - loops: Its loops: epoll, a wake-up, signals, a pipe.
    ///   - addresses: Where it listens: a socket and the lock of its file.
    static func descriptorsNeeded(loops: Int, addresses: Int) -> UInt64 {
        UInt64(16 + 6 * loops + 2 * addresses)
    }

    /// Raises the soft limit of descriptors to the hard one.
    ///
    /// The soft limit is kept low for programs that use `select`, which this one does not.
    ///
    /// - Returns: The limit now in force.
    @discardableResult
    static func raiseDescriptorLimit() -> UInt64 {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return 1024
        }
        if limit.rlim_cur < limit.rlim_max {
            var raised = limit
            raised.rlim_cur = limit.rlim_max
            if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 {
                limit = raised
            }
        }
        return UInt64(limit.rlim_cur)
    }
}
