// No test leaves a process behind, not even one that crashed: a shell holds the other end of a
// socket pair, and when the test process has gone, however it went, kills all that it started.

import Foundation
import Synchronization

/// Processes, folders and files that must not outlive this process.
enum Watchdog {
    /// What every process that the tests start has in its environment from its first moment on, so
    /// that it is found even if the tests ended before they knew its number.
    static let mark = (name: "SMALLOC_TESTS", value: "\(getpid())-\(UInt32.random(in: 0...(.max)))")

    private static let pipe = Mutex<Int32?>(nil)

    /// Looks twice, as a process that is about to begin has no environment yet.
    private static var script: String {
        """
        trap '' INT TERM HUP; live=
        while read -r verb entry; do
          if [ "$verb" = + ]; then live="$live $entry"; continue; fi
          rest=; for one in $live; do [ "$one" = "$entry" ] || rest="$rest $one"; done
          live=$rest
        done
        for round in 1 2; do
          for one in $(grep -slz '^\(mark.name)=\(mark.value)$' /proc/[0-9]*/environ); do
            one=${one#/proc/}; kill -9 "${one%/environ}"
          done
          sleep 0.2
        done
        for one in $live; do rm -rf "$one"; done
        """
    }

    /// Has the shell run.
    ///
    /// To be called before a process is started.
    static func start() { tell("") }

    /// Registers a folder or a file that the tests made, without blanks in its path.
    static func watch(_ path: String) { tell("+ \(path)\n") }

    /// Forgets what has been removed.
    static func forget(_ path: String) { tell("- \(path)\n") }

    private static func tell(_ line: String) {
        pipe.withLock { pipe in
            if pipe == nil { pipe = run() }
            guard let pipe, !line.isEmpty else { return }
            _ = Array(line.utf8).withUnsafeBytes {
                send(pipe, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
        }
    }

    private static func run() -> Int32? {
        var ends: [Int32] = [0, 0]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { return nil }
        defer { close(ends[0]) }
        let spawned = try? Spawn.start(
            ["/bin/sh", "-c", script], input: ends[0], output: nil, environment: [:],
            isWatched: false)
        return spawned == nil ? nil : ends[1]
    }
}
