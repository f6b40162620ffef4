import Foundation
import Testing
import TestSupport

/// A shell that has a daemon of its own, in which `cli` is the tool.
final class Shell {
    let daemon: DaemonProcess
    /// For files; gone with the shell.
    let folder: String

    init(_ options: [String] = []) throws {
        daemon = try DaemonProcess(options)
        folder = try DaemonProcess.newFolder()
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    /// What a script did.
    struct Result: Equatable {
        var code: Int32
        var output: String
        var errors: String
    }

    /// Runs a script of the shell in the folder.
    ///
    /// - Parameters:
    ///   - script: May call `cli`, and anything that a machine has.
    ///   - program: `/bin/sh` or another shell that knows `cli() { …; }`.
    /// - Returns: Its exit code and what it printed.
    /// - Throws: If it can't be started or does not end within two minutes.
    func run(_ script: String, in program: String = "/bin/sh") throws -> Result {
        let tool = ProjectFolder.executable("smalloc-cli")
        let errors = folder + "/.errors"
        let text = "exec 2>'\(errors)'; cd '\(folder)'; cli() { '\(tool)' \"$@\"; }\n\(script)"
        let result = try Spawn.run(
            [program, "-c", text],
            environment: [
                "SMALLOC_ADDRESS": "unix:\(daemon.path)", "SWIFT_BACKTRACE": "enable=no",
            ],
            seconds: 120)
        let found = try #require(result, "did not end in time: \(script)")
        return Result(
            code: found.code, output: found.output,
            errors: (try? String(contentsOfFile: errors, encoding: .utf8)) ?? "")
    }

    /// Runs a script that has to succeed, and gives what it printed.
    func output(_ script: String) throws -> String {
        let result = try run(script)
        #expect(result.code == 0, "\(script): \(result.errors)")
        return result.output
    }
}
