// A shell at a terminal: what a user types, and what becomes of it.

import Foundation

/// A program that has a terminal, as if a user sat there.
public final class Terminal {
    private let controller: Int32
    private let pid: pid_t
    /// All that it printed so far.
    public private(set) var output = ""

    /// Starts a program in a session of its own, with a terminal of 200 columns.
    public init(_ words: [String], environment: [String: String]) throws {
        controller = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var number: Int32 = 0
        var isLocked: Int32 = 0
        // The C library's calls for this are not declared to Swift.
        guard controller >= 0, ioctl(controller, 0x8004_5430, &number) == 0,
            ioctl(controller, 0x4004_5431, &isLocked) == 0
        else { throw RawSocketError.system(call: "open /dev/ptmx", number: errno) }
        let name = "/dev/pts/\(number)"
        var size = winsize(ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0)
        _ = ioctl(controller, UInt(TIOCSWINSZ), &size)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // The first terminal that the leader of a session opens is the one of the session.
        posix_spawn_file_actions_addopen(&actions, 0, name, O_RDWR, 0)
        posix_spawn_file_actions_adddup2(&actions, 0, 1)
        posix_spawn_file_actions_adddup2(&actions, 0, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = sigset_t()
        sigemptyset(&mask)
        posix_spawnattr_setsigmask(&attributes, &mask)
        let newSession: Int16 = 0x80  // POSIX_SPAWN_SETSID
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK) | newSession)
        let arguments = words.map { strdup($0) } + [nil]
        Watchdog.start()
        let marked = environment.merging([Watchdog.mark.name: Watchdog.mark.value]) { $1 }
        let settings = marked.map { strdup("\($0)=\($1)") } + [nil]
        defer { (arguments + settings).forEach { free($0) } }
        var pid: pid_t = 0
        let result = posix_spawn(&pid, words[0], &actions, &attributes, arguments, settings)
        guard result == 0 else {
            throw RawSocketError.system(call: "spawn \(words[0])", number: result)
        }
        self.pid = pid
    }

    deinit {
        kill(pid, SIGKILL)
        _ = Spawn.wait(for: pid, seconds: 10)
        close(controller)
    }

    /// Types some keys.
    public func type(_ keys: String) {
        var rest = Array(keys.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(controller, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    /// Takes what is printed until a condition holds.
    ///
    /// - Returns: Whether it did in time.
    public func wait(seconds: Double = 20, until isDone: () -> Bool) -> Bool {
        let end = Date(timeIntervalSinceNow: seconds)
        while !isDone() {
            guard Date() < end else { return false }
            read(milliseconds: 20)
        }
        return true
    }

    /// Takes what is printed until nothing is for a while.
    public func settle() {
        let end = Date(timeIntervalSinceNow: 10)
        while read(milliseconds: 150), Date() < end {}
    }

    @discardableResult
    private func read(milliseconds: Int32) -> Bool {
        var waiting = pollfd(fd: controller, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, milliseconds) > 0, waiting.revents & Int16(POLLIN) != 0 else {
            return false
        }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = bytes.withUnsafeMutableBytes {
            Foundation.read(controller, $0.baseAddress, $0.count)
        }
        guard count > 0 else { return false }
        output += String(decoding: bytes[..<count], as: UTF8.self)
        return true
    }
}
