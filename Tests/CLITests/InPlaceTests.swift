// Files that `get` and `read -o` can't replace, and those that they can't replace as they were.

import Foundation
import TestSupport
import Testing

@Suite("Files that the tool can't replace", .timed)
struct InPlaceTests {
    private static let tool = ProjectFolder.executable("smalloc-cli")

    /// Whether a script of the shell, as root, succeeds.
    private static func can(_ script: String) -> Bool {
        getuid() == 0 && (try? Spawn.run(["/bin/sh", "-c", script]))?.code == 0
    }

    private static let canDropRights = can("setpriv --bounding-set -chown --groups 5 true")

    @Test("the group stays where the owner can't", .enabled(if: canDropRights, "needs root"))
    func group() throws {
        let output = try Shell().output(
            """
            printf abc | cli put a
            echo old > f; chown 1:5 f; chmod 6664 f
            setpriv --bounding-set -chown --groups 5 '\(Self.tool)' get a f
            cat f; stat -c ' %u %g %a' f
            chown 1:6 f; chmod 6664 f
            setpriv --bounding-set -chown --groups 5 '\(Self.tool)' get a f; stat -c '%u %a' f
            """)
        #expect(output == "abc 0 5 2664\n0 664\n")
    }
}
