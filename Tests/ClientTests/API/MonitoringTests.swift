// What a client is told of clients, and of requests that took long.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Clients and the slow log", .timed)
struct MonitoringTests {
    @Test("both faces tell who is connected, this client among them")
    func clients() async throws {
        let daemon = try DaemonProcess()
        let smalloc = try Smalloc("unix:\(daemon.path)")
        let other = try await AsyncSmalloc("unix:\(daemon.path)")
        try await other.ping()
        let a = try smalloc.alloc(100, named: "a")
        let blocking = try smalloc.clients()
        #expect(blocking.count == 2)
        let own = try #require(blocking.first { $0.handles == 1 })
        #expect(own.user == getuid() && own.process == UInt32(getpid()))
        #expect(own.mode == "binary" && own.transport == "unix" && own.requests >= 2)
        #expect(own.readSize > 0 && own.writtenSize > 0 && !own.program.isEmpty)
        #expect(try await other.clients().map(\.id).sorted() == blocking.map(\.id).sorted())
        try a.dispose()
    }

    @Test("both faces tell the slow log")
    func slowLog() async throws {
        let daemon = try DaemonProcess(["--slowlog-threshold", "0", "--slowlog-length", "1000"])
        let smalloc = try Smalloc("unix:\(daemon.path)")
        let other = try await AsyncSmalloc("unix:\(daemon.path)")
        let a = try smalloc.alloc(4 << 20, named: "a")
        try a.fill(7)
        let log = try smalloc.slowlog()
        #expect(log.threshold == 0)
        let fill = try #require(log.entries.first { $0.operation == "fill" })
        #expect(fill.name == "a" && fill.size == 4 << 20 && fill.waited == "work")
        #expect(fill.duration > 0 && abs(fill.time - Date().timeIntervalSince1970) < 60)
        #expect(try await other.slowlog(1).entries.count == 1)
        #expect(try await other.slowlog().entries.contains(fill))
    }
}
