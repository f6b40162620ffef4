// A daemon that is given too few threads says so and ends, before anybody can connect.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct ThreadLimitTests {
    private static let user = "54321"

    /// Runs the daemon as a user of its own with a limit of threads, which root does not have.
    private static func limited(to count: Int) -> [String] {
        [
            "/usr/bin/setpriv", "--reuid=\(user)", "--regid=\(user)", "--clear-groups",
            "/usr/bin/prlimit", "--nproc=\(count):\(count)",
        ]
    }

    private static let canLimit: Bool =
        getuid() == 0 && !DaemonProcess.isSanitized
        && (try? Spawn.run(limited(to: 100) + [DaemonProcess.executable, "--version"]))??.code == 0

    /// The main thread, four of the pool, the one that reclaims memory, the one that ends a stop.
    private static let needed = 7

    @Test(
        "as many threads as it needs, or a message and exit code 71",
        .enabled(if: canLimit, "needs root, setpriv, and an executable that others may run"),
        arguments: 1...needed)
    func threads(_ count: Int) throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let user = uid_t(ThreadLimitTests.user) ?? 0
        #expect(chown(folder, user, user) == 0)
        let daemon = try DaemonProcess(
            ["--loops", "1"], folder: folder, waits: false,
            through: ThreadLimitTests.limited(to: count))
        if count == ThreadLimitTests.needed {
            try daemon.waitUntilReady()
            #expect(daemon.stop() == 0)
        } else {
            #expect(daemon.waitForExit() == 71, "\(daemon.log)")
            #expect(
                daemon.log.hasPrefix(
                    "smallocd: the system gives \(count - 1) threads, and 6 are needed: "),
                "\(daemon.log)")
            #expect(daemon.log.split(separator: "\n").count == 1, "\(daemon.log)")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["log"])
    }
}
