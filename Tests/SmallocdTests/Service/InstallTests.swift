// What `make install` puts into a system, and that `make uninstall` takes all of it away.

import Foundation
import Testing
import TestSupport

@testable import smallocd

@Suite("Installation", .timed, .serialized)
struct InstallTests {
    /// A folder that stands for a system, and one with what a release has, that is newer than all
    /// sources.
    private final class Place {
        let folder = TemporaryFolder()
        var root: String { folder.path + "/root" }
        var config: String { root + "/etc/smallocd/smallocd.yaml" }

        init() throws {
            let bin = folder.path + "/bin"
            for path in [bin, root, folder.path + "/path"] {
                try FileManager.default.createDirectory(
                    atPath: path, withIntermediateDirectories: true)
            }
            for program in ["smallocd", "smalloc-cli"] {
                try FileManager.default.createSymbolicLink(
                    atPath: bin + "/" + program,
                    withDestinationPath: ProjectFolder.executable(program))
            }
            let page = try ManualPage.ofTool().lines.joined(separator: "\n") + "\n"
            _ = folder.write(page, to: "bin/smalloc-cli.1")
            _ = folder.write("", to: "bin/all.built")
            // Installing what is built asks no toolchain: this one fails, and is the first.
            let swift = folder.write("#!/bin/sh\nexit 1\n", to: "path/swift")
            chmod(swift, 0o755)
        }

        /// Runs make, which has to succeed.
        func make(_ target: String, _ variables: [String] = []) throws -> String {
            let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
            let result = try Spawn.run(
                [
                    "/usr/bin/env", "make", "-s", "-C", ProjectFolder.root.path, target,
                    "DESTDIR=\(root)", "BIN=\(folder.path)/bin",
                ] + variables,
                environment: ["PATH": "\(folder.path)/path:\(path)"], seconds: 100)
            let made = try #require(result, "make \(target) did not end in time")
            try #require(made.code == 0, "\(made.output)")
            return made.output
        }

        /// All there is below the root: files, and folders, which end in a slash.
        func content() -> Set<String> {
            var content: Set<String> = []
            for path in FileManager.default.subpaths(atPath: root) ?? [] {
                var isFolder: ObjCBool = false
                _ = FileManager.default.fileExists(
                    atPath: root + "/" + path, isDirectory: &isFolder)
                content.insert(isFolder.boolValue ? path + "/" : path)
            }
            return content
        }
    }

    private static let hasTools = ["/usr/bin/make", "/usr/bin/python3"].allSatisfy {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    @Test(
        "what is installed, without a toolchain, is removed again, but for a changed configuration",
        .enabled(if: hasTools, "there is no make, or no python3"))
    func roundTrip() throws {
        let place = try Place()
        _ = try place.make("install")
        let files = place.content().filter { !$0.hasSuffix("/") }
        #expect(
            files == [
                "etc/smallocd/smallocd.yaml",
                "usr/local/bin/smallocd", "usr/local/bin/smalloc-cli",
                "usr/local/lib/systemd/system/smallocd.service",
                "usr/local/lib/systemd/system/smallocd.socket",
                "usr/local/lib/sysusers.d/smallocd.conf",
                "usr/local/lib/tmpfiles.d/smallocd.conf",
                "usr/local/share/man/man1/smalloc-cli.1",
                "usr/local/share/man/man5/smallocd.yaml.5",
                "usr/local/share/man/man7/smalloc.7",
                "usr/local/share/man/man8/smallocd.8",
                "usr/local/share/bash-completion/completions/smallocd",
                "usr/local/share/bash-completion/completions/smalloc-cli",
                "usr/local/share/zsh/site-functions/_smallocd",
                "usr/local/share/zsh/site-functions/_smalloc-cli",
                "usr/local/share/fish/vendor_completions.d/smallocd.fish",
                "usr/local/share/fish/vendor_completions.d/smalloc-cli.fish",
            ])
        for file in files {
            let attributes = try FileManager.default.attributesOfItem(
                atPath: place.root + "/" + file)
            let mode = attributes[.posixPermissions] as? Int
            if !file.hasPrefix("usr/local/share/") || file.contains("/man/") {
                #expect(mode == (file.contains("/bin/") ? 0o755 : 0o644), "\(file)")
            }
            #expect(attributes[.size] as? Int ?? 0 > 0, "\(file)")
        }
        let version = try Spawn.run([place.root + "/usr/local/bin/smallocd", "--version"])
        #expect(version?.output == "smallocd \(smallocd.version)\n")
        _ = try place.make("uninstall")
        #expect(place.content() == [])
    }

    @Test(
        "a configuration that was changed is neither overwritten nor removed",
        .enabled(if: hasTools, "there is no make, or no python3"))
    func configuration() throws {
        let place = try Place()
        _ = place.folder.write("loops: 1\n", to: "changed")
        try FileManager.default.createDirectory(
            atPath: place.root + "/etc/smallocd", withIntermediateDirectories: true)
        try FileManager.default.copyItem(
            atPath: place.folder.path + "/changed", toPath: place.config)
        _ = try place.make("install")
        #expect(try String(contentsOfFile: place.config, encoding: .utf8) == "loops: 1\n")
        let output = try place.make("uninstall")
        #expect(output.contains("smallocd.yaml was changed, and stays"))
        #expect(place.content() == ["etc/", "etc/smallocd/", "etc/smallocd/smallocd.yaml"])
    }

    @Test(
        "what is installed elsewhere names the places that it has been given",
        .enabled(if: hasTools, "there is no make, or no python3"))
    func elsewhere() throws {
        let place = try Place()
        let places = ["PREFIX=/opt/x", "SYSCONFDIR=/opt/x/etc"]
        _ = try place.make("install", places)
        #expect(place.content().contains("opt/x/etc/smallocd/smallocd.yaml"))
        let unit = try String(
            contentsOfFile: place.root + "/opt/x/lib/systemd/system/smallocd.service",
            encoding: .utf8)
        let command = "/opt/x/bin/smallocd --config /opt/x/etc/smallocd/smallocd.yaml"
        #expect(unit.contains("\nExecStart=\(command)\n"))
        // Nothing that people read leads to a file that is not there.
        for path in place.content() {
            let text = try? String(contentsOfFile: place.root + "/" + path, encoding: .utf8)
            let named = text?.replacing("/opt/x/etc/smallocd", with: "")
            #expect(named?.contains("/etc/smallocd/") != true, "\(path)")
        }
        _ = try place.make("uninstall", places)
        #expect(place.content() == [])
    }

    @Test("packages are built into no folder that has something else in it")
    func packages() throws {
        let place = try Place()
        let own = place.folder.write("mine\n", to: "root/own")
        let script = ProjectFolder.root.path + "/deploy/build-deb"
        let run = try Spawn.run([script, place.folder.path + "/bin", place.root])
        #expect(run?.code == 1)
        #expect(try String(contentsOfFile: own, encoding: .utf8) == "mine\n")
    }
}
