// How the daemon is started: with standard descriptors missing, with a socket handed over, with
// settings at their bounds.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct StartTests {
    /// A started daemon, stopped at the end of the test.
    private final class Started {
        let pid: pid_t
        let folder: String
        private var hasEnded = false
        var path: String { folder + "/s" }
        var log: String { (try? String(contentsOfFile: folder + "/log", encoding: .utf8)) ?? "" }

        /// - Parameter shell: What the shell does to start "$0" "$@".
        init(
            shell: String, _ options: [String], folder: String, input: Int32? = nil
        ) throws {
            self.folder = folder
            pid = try Spawn.start(
                ["/bin/sh", "-c", shell, DaemonProcess.executable] + options, input: input,
                output: folder + "/log", environment: ["SWIFT_BACKTRACE": "enable=no"])
        }

        deinit {
            guard !hasEnded else { return }
            kill(pid, SIGKILL)
            _ = Spawn.wait(for: pid, seconds: 10)
        }

        func answers() -> Bool {
            eventually {
                guard let socket = try? RawSocket(unix: path, seconds: 20) else { return false }
                return (try? TextClient(socket).ask("ping")) == "OK pong"
            }
        }

        func stop() -> Int32? {
            kill(pid, SIGTERM)
            let code = Spawn.wait(for: pid, seconds: 20)
            hasEnded = code != nil
            return code
        }
    }

    private final class Folder {
        let path: String
        init() throws { path = try DaemonProcess.newFolder() }
        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    /// A listening Unix socket, as the service manager makes one.
    private func listening(at path: String) throws -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let result = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0 && listen(descriptor, 10) == 0)
        return descriptor
    }

    @Test("a daemon started without standard descriptors has /dev/null there", arguments: 0..<8)
    func missingDescriptors(missing: Int) throws {
        let folder = try Folder()
        let closing = (0...2).filter { missing & 1 << $0 != 0 }.map { "\($0)>&-" }
        let daemon = try Started(
            shell: "exec \"$0\" \"$@\" \(closing.joined(separator: " "))",
            ["--listen", "unix:\(folder.path)/s", "--log-level", "trace"], folder: folder.path)
        #expect(daemon.answers(), "\(daemon.log)")
        for descriptor in 0...2 {
            let place = try FileManager.default.destinationOfSymbolicLink(
                atPath: "/proc/\(daemon.pid)/fd/\(descriptor)")
            let isNull = missing & 1 << descriptor != 0 || descriptor == 0
            #expect(place == (isNull ? "/dev/null" : folder.path + "/log"), "\(descriptor)")
        }
        let lock = try #require(FileManager.default.contents(atPath: daemon.path + ".lock"))
        #expect(lock.isEmpty, "\(String(decoding: lock, as: UTF8.self))")
        #expect(daemon.log.contains("smallocd") == (missing & 4 == 0))
        #expect(daemon.stop() == 0)
    }

    @Test("an address that was handed over and is configured too is served once")
    func activatedAndConfigured() throws {
        let folder = try Folder()
        let path = folder.path + "/s"
        let socket = try listening(at: path)
        defer { close(socket) }
        let port = try RawSocket.freePort()
        let file = folder.path + "/c.yaml"
        try "listen: [\"unix:\(path)\", \"tcp:127.0.0.1:\(port)\"]\n".write(
            toFile: file, atomically: false, encoding: .utf8)
        let daemon = try Started(
            shell: "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 0</dev/null",
            ["--config", file], folder: folder.path, input: socket)
        #expect(daemon.answers(), "\(daemon.log)")
        let other = TextClient(try RawSocket(port: port, seconds: 20))
        #expect(try other.ask("ping") == "OK pong")
        #expect(!FileManager.default.fileExists(atPath: path + ".lock"))
        #expect(daemon.stop() == 0)
        // It belongs to the service manager.
        #expect(FileManager.default.fileExists(atPath: path))
    }

    @Test("with settings at their bounds that --check-config passes, the daemon starts")
    func bounds() throws {
        let bounds: [(String, [String])] = [
            ("memory-max", ["1", "8191P", "9223372036854775807", "1%", "100%"]),
            ("length-max", ["1", "9223372036854775807", "1%", "100%"]),
            ("allocations-max", ["1", "67108864", "4294967295"]),
            ("connections-max", ["1", "16777216"]), ("frame-size-max", ["4096", "4294967295"]),
            ("requests-in-flight-max", ["1", "1048576"]), ("handles-max", ["1", "4294967295"]),
            ("output-size-max", ["4096", "4294967295"]),
            ("line-size-max", ["512", "4294967295"]), ("name-size-max", ["1", "255"]),
            ("idle-timeout", ["1", "366d"]), ("request-timeout", ["1", "366d"]),
            ("loops", ["1", "256", "auto"]), ("busy-poll", ["0", "10ms"]),
            ("zero-copy", ["off", "same-user", "on"]), ("log-level", ["critical"]),
        ]
        for (key, values) in bounds {
            for value in values {
                let options = ["--\(key)", value]
                let checked = try #require(
                    try Spawn.run([DaemonProcess.executable, "--check-config"] + options))
                guard checked.code == 0 else {
                    #expect(checked.code == 78, "\(options): \(checked.output)")
                    continue
                }
                let daemon = try DaemonProcess(options, waits: false)
                let answers = eventually {
                    (try? RawSocket(unix: daemon.path, seconds: 5)).map {
                        (try? TextClient($0).ask("ping")) == "OK pong"
                    } ?? !daemon.isRunning
                }
                #expect(answers && daemon.isRunning, "\(options): \(daemon.log)")
                #expect(daemon.stop() == 0, "\(options): \(daemon.log)")
            }
        }
    }
}
