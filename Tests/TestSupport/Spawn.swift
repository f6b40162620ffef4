// Starting a process: posix_spawn, and nothing inherited but what is given.

public import Foundation

/// Starts processes.
public enum Spawn {
    /// Starts a program.
    ///
    /// - Parameters:
    ///   - words: Its path, and its arguments.
    ///   - input: Descriptor to be its standard input; nil: nothing.
    ///   - output: File that its standard output and errors are appended to; nil: lost.
    ///   - environment: Variables beside `PATH` and `HOME`.
    ///   - blocked: Signals that it finds blocked.
    ///   - isWatched: Whether it ends with this process at the latest.
    /// - Returns: Its process id. The caller waits for it.
    public static func start(
        _ words: [String], input: Int32?, output: String?, environment: [String: String],
        blocked: [Int32] = [], isWatched: Bool = true
    ) throws -> pid_t {
        if isWatched { Watchdog.start() }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input {
            posix_spawn_file_actions_adddup2(&actions, input, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_addopen(
            &actions, 1, output ?? "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // A pipe of a test that runs beside this one would never end.
        for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? [] {
            if let descriptor = Int32(name), descriptor > 2 {
                _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            }
        }
        // The runner of the tests may block signals; what it starts must not inherit that.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = sigset_t()
        sigemptyset(&mask)
        for signal in blocked { sigaddset(&mask, signal) }
        posix_spawnattr_setsigmask(&attributes, &mask)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var variables = environment
        if isWatched { variables[Watchdog.mark.name] = Watchdog.mark.value }
        for key in ["PATH", "HOME", "LD_LIBRARY_PATH", "TSAN_OPTIONS", "ASAN_OPTIONS"] {
            variables[key] = variables[key] ?? ProcessInfo.processInfo.environment[key]
        }
        let arguments = words.map { strdup($0) } + [nil]
        let settings = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { (arguments + settings).forEach { free($0) } }
        var pid: pid_t = 0
        let result = posix_spawn(&pid, words[0], &actions, &attributes, arguments, settings)
        guard result == 0 else {
            throw RawSocketError.system(call: "spawn \(words[0])", number: result)
        }
        return pid
    }

    /// Waits for a process to end.
    ///
    /// - Returns: Its exit code, or minus the signal that ended it; nil: it did not end in time.
    public static func wait(for pid: pid_t, seconds: Double) -> Int32? {
        var code: Int32?
        _ = eventually(within: seconds) {
            var status: Int32 = 0
            let result = waitpid(pid, &status, WNOHANG)
            if result == pid { code = status & 0x7F == 0 ? status >> 8 & 0xFF : -(status & 0x7F) }
            return result != 0
        }
        return code
    }

    /// Runs a program to its end.
    ///
    /// - Returns: Exit code and what it printed; nil if it did not end in time, and was killed.
    public static func run(
        _ words: [String], environment: [String: String] = [:], seconds: Double = 30
    ) throws -> (code: Int32, output: String)? {
        let file = NSTemporaryDirectory() + "smalloc-run-" + UUID().uuidString
        Watchdog.watch(file)
        defer {
            unlink(file)
            Watchdog.forget(file)
        }
        let pid = try start(words, input: nil, output: file, environment: environment)
        guard let code = wait(for: pid, seconds: seconds) else {
            kill(pid, SIGKILL)
            _ = wait(for: pid, seconds: 10)
            return nil
        }
        let output = (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
        return (code, output)
    }
}
