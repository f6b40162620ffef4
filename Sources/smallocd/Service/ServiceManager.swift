// Talking to systemd: readiness, status, watchdog, and the sockets it hands over. The protocols are
// a datagram and three variables, and frozen; a library for them would be one more dependency of a
// process that holds other people's data.
//
// sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

import CLibuv
import Glibc
import SmallocSystem

/// The service manager that started the daemon, or none: then everything here does nothing.
struct ServiceManager: Sendable {
    /// How often the watchdog wants to hear from us, in milliseconds; nil: there is none.
    ///
    /// It is to be told twice as often.
    let watchdogMilliseconds: UInt64?
    private let notifyPath: String?

    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    ///
    /// - Parameters:
    ///   - environment: All variables.
    ///   - process: This process.
    init(environment: [String: String], process: Int32 = getpid()) {
        notifyPath = environment["NOTIFY_SOCKET"].flatMap { path in
            path.hasPrefix("/") || path.hasPrefix("@") ? path : nil
        }
        let isForUs = environment["WATCHDOG_PID"].map { Int32($0) == process } ?? true
        if isForUs, let microseconds = environment["WATCHDOG_USEC"].flatMap(UInt64.init),
            microseconds >= 1000
        {
            watchdogMilliseconds = microseconds / 1000
        } else {
            watchdogMilliseconds = nil
        }
    }

    /// Says that clients are served from now on, after the start or after a reread.
    func ready(status: String) {
        notify("READY=1\nSTATUS=\(singleLine(status))")
    }

    /// Says that the settings are being reread; `ready` must follow.
    func reloading() {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        let microseconds = UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1000
        notify("RELOADING=1\nMONOTONIC_USEC=\(microseconds)")
    }

    /// Says that the daemon is on its way out.
    func stopping() {
        notify("STOPPING=1\nSTATUS=stopping")
    }

    /// Says that the loops still turn.
    func watchdog() {
        notify("WATCHDOG=1")
    }

    /// Shows a line in `systemctl status`.
    func status(_ text: String) {
        notify("STATUS=\(singleLine(text))")
    }

    /// Sends one datagram.
    ///
    /// - Parameter state: Lines of `NAME=value`.
    /// - Returns: Whether it was sent. A manager that doesn't listen is no reason to stop serving.
    @discardableResult
    func notify(_ state: String) -> Bool {
        guard let notifyPath, var address = UnixAddress(notifyPath, allowsAbstract: true) else {
            return false
        }
        let flags = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(AF_UNIX, flags, 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var state = state
        return state.withUTF8 { bytes in
            address.withSocketAddress { pointer, size in
                sendto(
                    descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL),
                    pointer, size) == bytes.count
            }
        }
    }
}

// MARK: - Sockets handed over

extension ServiceManager {
    /// Takes over the sockets of socket activation: `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`.
    ///
    /// - Parameters:
    ///   - environment: All variables.
    ///   - process: This process; sockets meant for another one are left alone.
    ///   - first: The first descriptor; 3 by the protocol.
    /// - Returns: The listening sockets, close-on-exec and non-blocking. Empty without activation.
    /// - Throws: A `StartFailure` if a descriptor is no listening stream socket of a known family.
    static func activatedSockets(
        environment: [String: String], process: Int32 = getpid(), first: Int32 = 3
    ) throws(StartFailure) -> [ListeningSocket] {
        guard let owner = environment["LISTEN_PID"].flatMap({ Int32($0) }), owner == process,
            let count = environment["LISTEN_FDS"].flatMap({ Int32($0) }), count > 0
        else { return [] }
        guard count <= 1024 else { throw .configuration("LISTEN_FDS: \(count) is too many") }
        let names = (environment["LISTEN_FDNAMES"] ?? "")
            .split(separator: ":", omittingEmptySubsequences: false)
        var sockets: [ListeningSocket] = []
        for index in 0..<count {
            let name = Int(index) < names.count ? String(names[Int(index)]) : ""
            sockets.append(try ListeningSocket(activated: first + index, name: name))
        }
        return sockets
    }
}
