// No test leaves a process behind, not even one that crashed: a shell holds the other end of a
// socket pair and kills what is still registered when the test process has gone, however it went.

import Foundation
import Synchronization

/// Processes that must not outlive this one.
enum Watchdog {
    private static let pipe = Mutex<Int32?>(nil)

    private static let script = """
        trap '' INT TERM HUP; live=
        while read -r verb entry; do
          if [ "$verb" = + ]; then live="$live $entry"; continue; fi
          rest=; for one in $live; do [ "${one%%:*}" = "$entry" ] || rest="$rest $one"; done
          live=$rest
        done
        for one in $live; do kill -9 "${one%%:*}"; done
        for one in $live; do [ -z "${one#*:}" ] || rm -rf "${one#*:}"; done
        """

    /// Registers a process that was just started, and the folder that should go with it.
    ///
    /// - Parameter folder: One that the tests made; without blanks in its path.
    static func watch(_ pid: pid_t, folder: String = "") { tell("+ \(pid):\(folder)\n") }

    /// Forgets a process. To be called before it is waited for: then its number is free again.
    static func forget(_ pid: pid_t) { tell("- \(pid)\n") }

    private static func tell(_ line: String) {
        pipe.withLock { pipe in
            if pipe == nil { pipe = start() }
            guard let pipe else { return }
            _ = Array(line.utf8).withUnsafeBytes {
                send(pipe, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
        }
    }

    private static func start() -> Int32? {
        var ends: [Int32] = [0, 0]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { return nil }
        defer { close(ends[0]) }
        let spawned = try? Spawn.start(
            ["/bin/sh", "-c", script], input: ends[0], output: nil, environment: [:])
        return spawned == nil ? nil : ends[1]
    }
}
