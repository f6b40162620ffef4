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
    private static let canMount = can("cd / && unshare -m mount --bind /bin/sh /bin/sh")
    private static let canBeAnother = can(
        "setpriv --reuid 65534 --clear-groups '\(tool)' --version")

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

    @Test(
        "in a folder that takes no new file a file is written where it is",
        .enabled(if: canDropRights, "needs root"))
    func folder() throws {
        let result = try Shell().run(
            """
            printf abc | cli put a; head -c 300000 /dev/zero | cli put zeros
            mkdir -m 755 d; echo older > d/f; ln d/f other; chown 1 d
            get() { setpriv --bounding-set -dac_override '\(Self.tool)' get "$@"; echo $?; }
            get a d/f; cat other; echo; get zeros d/f; stat -c %s other; get a d/new
            # What does not open does not lose anything either.
            chown 1 other; get a d/f; stat -c %s other; ls d
            """)
        #expect(result.output == "0\nabc\n0\n300000\n74\n74\n300000\nf\n", "\(result)")
        #expect(
            result.errors == """
                smalloc-cli: d/new: can't make a file in its folder: Permission denied
                smalloc-cli: d/f: can't open: Permission denied

                """)
    }

    @Test("a file that is a mount point is written", .enabled(if: canMount, "needs root"))
    func mountPoint() throws {
        let output = try Shell().output(
            """
            printf abc | cli put a; echo older > source; mkdir d; echo under > d/f; ln -s d/f link
            unshare -m sh -e -c "
                mount --bind source d/f
                '\(Self.tool)' get a link; cat d/f; echo; ls -A d
                '\(Self.tool)' read a -o d/f"
            cat source d/f
            """)
        #expect(output == "abc\nf\n97 98 99\nunder\n")
    }

    @Test(
        "in a folder where files of others must stay, they are written where they are",
        .enabled(if: canBeAnother, "needs root, and a tool that others can run"))
    func sticky() throws {
        let shell = try Shell(["--socket-mode", "0666"])
        let output = try shell.output(
            """
            printf abc | cli put a; chmod 755 . "$(dirname '\(shell.daemon.path)')"
            mkdir -m 1777 d; echo older > d/f; chmod 666 d/f; chown 1 d d/f
            setpriv --reuid 65534 --clear-groups '\(Self.tool)' get a d/f; echo $?
            cat d/f; stat -c ' %u' d/f
            """)
        #expect(output == "0\nabc 1\n")
    }

    @Test("a path that there can't be is refused before anything is moved")
    func paths() throws {
        let shell = try Shell()
        // Each sign is four bytes: a name of 248, which leaves little for one beside it.
        let long = String(repeating: "\u{1F600}", count: 62)
        let result = try shell.run(
            """
            cli alloc a 3; cli get a ''; echo $?; cli read a -o ''; echo $?
            cli get a \(long); echo $?; stat -c %s \(long)
            """)
        #expect(result.output == "74\n74\n0\n3\n")
        let line = "smalloc-cli: : can't open: No such file or directory\n"
        #expect(result.errors == line + line)
    }
}
