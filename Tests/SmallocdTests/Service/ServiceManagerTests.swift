import Glibc
import Testing
import TestSupport

import SmallocSystem
@testable import smallocd

/// The manager's end: a datagram socket at a path or an abstract name.
private final class NotifyProbe {
    private let descriptor: Int32

    init(_ name: String) throws {
        var address = try #require(UnixAddress(name, allowsAbstract: true))
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        try #require(address.withSocketAddress { bind(descriptor, $0, $1) } == 0)
    }

    deinit { close(descriptor) }

    func next() -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        return count < 0 ? "nothing" : String(decoding: buffer[..<count], as: UTF8.self)
    }
}

@Suite("Service manager", .timed)
struct ServiceManagerTests {
    @Test("what happens is told at a path", arguments: [false, true])
    func states(isAbstract: Bool) throws {
        let folder = TemporaryFolder()
        let name = (isAbstract ? "@" : "") + folder.path + "/notify"
        let probe = try NotifyProbe(name)
        let manager = ServiceManager(environment: ["NOTIFY_SOCKET": name])
        manager.ready(status: "serving\nSTOPPING=1")
        #expect(probe.next() == "READY=1\nSTATUS=serving\\x0aSTOPPING=1")
        manager.reloading()
        let reloading = probe.next()
        #expect(reloading.hasPrefix("RELOADING=1\nMONOTONIC_USEC="))
        manager.watchdog()
        #expect(probe.next() == "WATCHDOG=1")
        manager.status("3 connections")
        #expect(probe.next() == "STATUS=3 connections")
        manager.stopping()
        #expect(probe.next() == "STOPPING=1\nSTATUS=stopping")
    }

    @Test("without a manager, or with one that is gone, nothing happens")
    func absent() {
        #expect(!ServiceManager(environment: [:]).notify("READY=1"))
        #expect(!ServiceManager(environment: ["NOTIFY_SOCKET": "relative"]).notify("READY=1"))
        #expect(
            !ServiceManager(environment: ["NOTIFY_SOCKET": "/nonexistent/x"]).notify("READY=1"))
    }

    @Test("the watchdog's time counts only for the process it is meant for")
    func watchdog() {
        func milliseconds(_ environment: [String: String]) -> UInt64? {
            ServiceManager(environment: environment, process: 42).watchdogMilliseconds
        }
        #expect(milliseconds(["WATCHDOG_USEC": "10000000"]) == 10_000)
        #expect(milliseconds(["WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "42"]) == 10_000)
        #expect(milliseconds(["WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "43"]) == nil)
        #expect(milliseconds(["WATCHDOG_USEC": "soon"]) == nil)
        #expect(milliseconds([:]) == nil)
    }

    @Test("a handed-over socket is taken, named, and made close-on-exec and non-blocking")
    func activation() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s"
        var address = try #require(UnixAddress(path))
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        #expect(address.withSocketAddress { bind(descriptor, $0, $1) } == 0)
        let environment = [
            "LISTEN_PID": "42", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smallocd.socket",
        ]
        // Bound but not listening: a unit with Accept=yes, or something else altogether.
        #expect(throws: StartFailure.self) {
            try ServiceManager.activatedSockets(
                environment: environment, process: 42, first: descriptor)
        }
        #expect(listen(descriptor, 1) == 0)
        let sockets = try ServiceManager.activatedSockets(
            environment: environment, process: 42, first: descriptor)
        let taken = try #require(sockets.first)
        #expect(sockets.count == 1)
        #expect(taken.descriptor == descriptor)
        #expect(taken.kind == .unix)
        #expect(taken.description == "unix:\(path) (activated as smallocd.socket)")
        #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0)
        #expect(fcntl(descriptor, F_GETFL) & O_NONBLOCK != 0)
        taken.close()
        // The manager's socket file is not ours to remove.
        #expect(access(path, F_OK) == 0)
    }

    @Test("sockets meant for another process are left alone, what is no socket is an error")
    func wrongActivation() throws {
        let others = ["LISTEN_PID": "41", "LISTEN_FDS": "1"]
        #expect(
            try ServiceManager.activatedSockets(environment: others, process: 42).isEmpty)
        #expect(try ServiceManager.activatedSockets(environment: [:]).isEmpty)
        let folder = TemporaryFolder()
        let file = open(folder.write("x", to: "file"), O_RDONLY)
        defer { close(file) }
        let environment = ["LISTEN_PID": "42", "LISTEN_FDS": "1"]
        #expect(
            throws: StartFailure.configuration(
                "activated descriptor \(file): not a stream socket")
        ) {
            try ServiceManager.activatedSockets(
                environment: environment, process: 42, first: file)
        }
    }
}
