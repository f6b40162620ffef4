// The path of the Unix socket: who may have it, what is never removed.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct SocketPathTests {
    /// Test 18 of the reliability bar.
    @Test("a second daemon on a live path leaves with an error, and the first serves on")
    func secondInstance() throws {
        let folder = try Folder()
        let first = try DaemonProcess(folder: folder.path)
        #expect(try first.text().ask("alloc a 4") == "OK")
        let second = try DaemonProcess(folder: folder.path, waits: false)
        let code = try #require(second.waitForExit())
        #expect(code > 0)
        #expect(first.log.contains("already running"), "\(first.log)")
        #expect(try first.text().ask("read a") == "OK 0 0 0 0")
    }

    @Test("of many daemons started at once on one path exactly one serves")
    func manyAtOnce() throws {
        let folder = try Folder()
        let daemons = try (0..<Scale.count(12)).map { _ in
            try DaemonProcess(folder: folder.path, waits: false)
        }
        #expect(eventually(within: 60) { daemons.filter(\.isRunning).count == 1 })
        let winner = try #require(daemons.first { $0.isRunning })
        try winner.waitUntilReady()
        #expect(try winner.text().stats()["pid"] == "\(winner.pid)")
        for daemon in daemons where daemon !== winner { #expect((daemon.waitForExit() ?? 0) > 0) }
    }

    /// Test 19 of the reliability bar; there 100 times.
    @Test("after kill -9, also in the middle of its start, a daemon starts again")
    func killedAndStarted() throws {
        let folder = try Folder()
        var random = SplitMix(for: "killedAndStarted")
        for round in 0..<Scale.count(10) {
            let unlucky = try DaemonProcess(folder: folder.path, waits: false)
            usleep(UInt32.random(in: 0...40_000, using: &random))
            unlucky.kill()
            let daemon = try DaemonProcess(folder: folder.path)
            #expect(try daemon.text().ask("list") == "OK 0", "round \(round)")
            #expect(try daemon.text().ask("alloc a 4") == "OK")
            daemon.kill()
        }
    }

    /// Test 20 of the reliability bar.
    @Test("what is no socket of ours is never removed or followed")
    func foreignFiles() throws {
        let manager = FileManager.default
        typealias Setup = (_ folder: String, _ path: String) throws -> Void
        let cases: [(String, Setup)] = [
            ("regular file", { try "keep".write(toFile: $1, atomically: false, encoding: .utf8) }),
            (
                "directory",
                { try manager.createDirectory(atPath: $1, withIntermediateDirectories: false) }
            ),
            (
                "link to a file",
                {
                    try "keep".write(toFile: $0 + "/target", atomically: false, encoding: .utf8)
                    try manager.createSymbolicLink(atPath: $1, withDestinationPath: $0 + "/target")
                }
            ),
            (
                "dangling link",
                { try manager.createSymbolicLink(atPath: $1, withDestinationPath: $0 + "/none") }
            ),
            ("fifo", { _, path in #expect(mkfifo(path, 0o600) == 0) }),
        ]
        for (name, setup) in cases {
            let folder = try Folder()
            try setup(folder.path, folder.path + "/s")
            let before = try Folder.state(folder.path)
            let daemon = try DaemonProcess(folder: folder.path, waits: false)
            let code = try #require(daemon.waitForExit(), "\(name): started")
            #expect(code > 0, "\(name)")
            #expect(daemon.log.contains(folder.path + "/s"), "\(name): \(daemon.log)")
            #expect(try Folder.state(folder.path) == before, "\(name)")
        }
    }

    @Test("a link to a live socket is not followed and not removed")
    func linkToSocket() throws {
        let other = try DaemonProcess()
        let folder = try Folder()
        try FileManager.default.createSymbolicLink(
            atPath: folder.path + "/s", withDestinationPath: other.path)
        let daemon = try DaemonProcess(folder: folder.path, waits: false)
        #expect((daemon.waitForExit() ?? 0) > 0)
        let target = try FileManager.default.destinationOfSymbolicLink(atPath: folder.path + "/s")
        #expect(target == other.path)
        #expect(try other.text().ask("ping") == "OK pong")
    }

    @Test(
        "a socket of another user is left alone", .enabled(if: getuid() == 0, "needs root"))
    func otherUser() throws {
        let folder = try Folder()
        let killed = try DaemonProcess(folder: folder.path)
        killed.kill()
        #expect(chown(folder.path + "/s", 12345, 12345) == 0)
        let daemon = try DaemonProcess(folder: folder.path, waits: false)
        #expect((daemon.waitForExit() ?? 0) > 0)
        #expect(FileManager.default.fileExists(atPath: folder.path + "/s"))
    }

    @Test("a path of 107 bytes works, one of 108 is refused and nothing is made")
    func longPaths() throws {
        for size in [107, 108] {
            let folder = try Folder()
            let long =
                folder.path + "/" + String(repeating: "d", count: size - folder.path.utf8.count - 3)
            #expect((long + "/s").utf8.count == size)
            try FileManager.default.createDirectory(
                atPath: long, withIntermediateDirectories: false)
            let daemon = try DaemonProcess(folder: long, waits: false)
            if size == 107 {
                try daemon.waitUntilReady()
                #expect(daemon.stop() == 0)
            } else {
                #expect((daemon.waitForExit() ?? 0) > 0)
                #expect(daemon.log.contains("108"), "\(daemon.log)")
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: long) == ["log"])
        }
    }

    @Test("a daemon that stops removes its own socket only")
    func stoppingOlderOne() throws {
        let folder = try Folder()
        let daemon = try DaemonProcess(folder: folder.path)
        // Somebody moved it away and put something else there.
        #expect(rename(daemon.path, folder.path + "/moved") == 0)
        try "keep".write(toFile: daemon.path, atomically: false, encoding: .utf8)
        #expect(daemon.stop() == 0)
        #expect(try String(contentsOfFile: daemon.path, encoding: .utf8) == "keep")
    }

    @Test("the socket's mode is 0600, or what was asked for")
    func modes() throws {
        for (options, mode) in [([], 0o600), (["--socket-mode", "0666"], 0o666)]
            as [([String], Int)]
        {
            let daemon = try DaemonProcess(options)
            let attributes = try FileManager.default.attributesOfItem(atPath: daemon.path)
            #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == mode)
        }
    }
}

/// A folder that is removed with this object.
private final class Folder {
    let path: String

    init() throws { path = try DaemonProcess.newFolder() }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Names, kinds and contents of what is there; not the log.
    static func state(_ path: String) throws -> [String: String] {
        var state: [String: String] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: path) where name != "log" {
            let attributes = try FileManager.default.attributesOfItem(atPath: path + "/" + name)
            let type = (attributes[.type] as? FileAttributeType)?.rawValue ?? ""
            let isRegular = attributes[.type] as? FileAttributeType == .typeRegular
            let text =
                isRegular ? try String(contentsOfFile: path + "/" + name, encoding: .utf8) : ""
            state[name] = type + text
        }
        return state
    }
}
