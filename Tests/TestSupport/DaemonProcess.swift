// The built daemon, run as users run it.

public import Foundation

/// A running `smallocd` with a folder of its own. Stops when it is released, at the latest.
///
/// Any number may run at once. Not to be shared by threads, but for `pid`, `path` and `port`.
public final class DaemonProcess: @unchecked Sendable {
    /// Its process id; it may have ended.
    public let pid: pid_t
    /// Its Unix socket.
    public let path: String
    /// Its TCP port on 127.0.0.1, if it was asked to listen there.
    public let port: UInt16?
    private let folder: String
    private var exitCode: Int32?
    private let ownsFolder: Bool

    /// Why a daemon could not be used.
    public struct Failure: Error, CustomStringConvertible, Sendable {
        public let description: String
    }

    /// The daemon's executable.
    public static let executable = ProjectFolder.executable("smallocd")

    /// Whether the daemon was built with a sanitizer, which takes memory of its own.
    public static let isSanitized: Bool = {
        guard let file = FileManager.default.contents(atPath: executable) else { return false }
        return ["__asan_init", "__tsan_init"].contains { file.range(of: Data($0.utf8)) != nil }
    }()

    /// A limit of growth in bytes, as it is; none where a sanitizer takes memory too.
    public static func growth(_ size: Int) -> Int { isSanitized ? .max : size }

    /// Starts a daemon and waits until it answers.
    ///
    /// - Parameters:
    ///   - options: Further options: `["--frame-size-max", "65536"]`.
    ///   - tcp: Listen on a free port of 127.0.0.1 as well.
    ///   - descriptors: Limit of open descriptors, if any.
    ///   - virtualSize: Limit of virtual memory in bytes, if any.
    ///   - folder: Where the socket `s` is to be; a new one if nil.
    ///   - blocked: Signals that it finds blocked.
    ///   - through: A program, and its arguments, that runs the daemon in its own place.
    ///   - waits: Whether to wait; if not, only the process has been started.
    public init(
        _ options: [String] = [], tcp: Bool = false, descriptors: Int? = nil,
        virtualSize: Int? = nil, folder: String? = nil, waits: Bool = true,
        environment: [String: String] = [:], blocked: [Int32] = [], through: [String] = []
    ) throws {
        ownsFolder = folder == nil
        self.folder = try folder ?? DaemonProcess.newFolder()
        path = self.folder + "/s"
        port = tcp ? try RawSocket.freePort() : nil
        var words = [DaemonProcess.executable, "--listen", "unix:\(path)"]
        if let port { words += ["--listen", "tcp:127.0.0.1:\(port)"] }
        words += options
        var limits: [String] = []
        if let descriptors { limits.append("ulimit -n \(descriptors)") }
        if let virtualSize { limits.append("ulimit -v \(virtualSize / 1024)") }
        if !limits.isEmpty {
            words =
                ["/bin/sh", "-c", limits.joined(separator: "; ") + "; exec \"$0\" \"$@\""] + words
        }
        words = through + words
        // A crash must be a crash at once, not a backtrace that takes minutes.
        let settings = environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { given, _ in given }
        pid = try Spawn.start(
            words, input: nil, output: self.folder + "/log", environment: settings,
            blocked: blocked)
        if waits { try waitUntilReady() }
    }

    deinit {
        kill()
        guard ownsFolder else { return }
        try? FileManager.default.removeItem(atPath: folder)
        Watchdog.forget(folder)
    }

    /// A new folder with a short path, which goes with this process at the latest.
    public static func newFolder() throws -> String {
        var template = Array("/tmp/smalloc-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else {
            throw RawSocketError.system(call: "mkdtemp", number: errno)
        }
        let path = String(cString: made)
        Watchdog.watch(path)
        return path
    }

    /// Waits until a ping is answered at every address.
    public func waitUntilReady(seconds: Double = 60) throws {
        let ready = eventually(within: seconds) {
            guard isRunning else { return true }
            guard let socket = try? connect() else { return false }
            guard (try? TextClient(socket).ask("ping")) == "OK pong" else { return false }
            return port == nil || (try? connectTCP()) != nil
        }
        guard ready, isRunning else {
            throw Failure(
                description: "smallocd does not answer (exit \(exitCode ?? -999)): \(log)")
        }
    }

    /// What it has logged so far.
    public var log: String {
        (try? String(contentsOfFile: folder + "/log", encoding: .utf8)) ?? "(no log)"
    }

    /// The log's lines as bytes, for tests of what it must not hold.
    public var logBytes: [UInt8] {
        FileManager.default.contents(atPath: folder + "/log").map(Array.init) ?? []
    }

    /// A new connection to the Unix socket.
    public func connect(seconds: Double = 20) throws -> RawSocket {
        try RawSocket(unix: path, seconds: seconds)
    }

    /// A new connection to the TCP port.
    public func connectTCP(seconds: Double = 20) throws -> RawSocket {
        try RawSocket(port: port ?? 0, seconds: seconds)
    }

    /// A new binary connection that has said hello.
    public func frames() throws -> FrameClient { try FrameClient(connect()) }

    /// A new text connection.
    public func text() throws -> TextClient { TextClient(try connect()) }

    /// What the kernel says of it now.
    public func figures() throws -> ProcessFigures {
        guard let figures = ProcessFigures(pid: pid) else {
            throw Failure(description: "smallocd has gone: \(log)")
        }
        return figures
    }

    /// Whether it has not ended yet.
    public var isRunning: Bool {
        guard exitCode == nil else { return false }
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return true }
        ended(status)
        return false
    }

    private func ended(_ status: Int32) {
        exitCode = status & 0x7F == 0 ? status >> 8 & 0xFF : -(status & 0x7F)
    }

    /// Sends it a signal.
    public func signal(_ number: Int32) {
        if exitCode == nil { Glibc.kill(pid, number) }
    }

    /// Waits for its end.
    ///
    /// - Returns: Its exit code, or minus the signal that ended it; nil: it did not end in time.
    public func waitForExit(seconds: Double = 20) -> Int32? {
        _ = eventually(within: seconds) { !isRunning }
        return exitCode
    }

    /// Ends it by SIGTERM.
    ///
    /// - Returns: Its exit code, as `waitForExit`.
    public func stop(seconds: Double = 20) -> Int32? {
        signal(SIGTERM)
        return waitForExit(seconds: seconds)
    }

    /// Ends it by SIGKILL, and waits.
    public func kill() {
        guard exitCode == nil else { return }
        Glibc.kill(pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        ended(status)
    }
}
