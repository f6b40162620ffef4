// What a lost connection must not do to the next one.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Reconnecting", .timed)
struct ReconnectTests {
    /// Counts what a server is asked, by operation.
    private final class Tally: Sendable {
        private let counts = Guarded<[UInt8: Int]>([:])
        func add(_ operation: UInt8) { counts.withLock { $0[operation, default: 0] += 1 } }
        func count(_ operation: UInt8) -> Int { counts.withLock { $0[operation] ?? 0 } }
    }

    /// Takes one request on each connection, and closes without an answer.
    private func taking(_ tally: Tally) throws -> FakeServer {
        try FakeServer { peer, _ in
            guard peer.greet(), let request = peer.receiveFrame() else { return }
            tally.add(request.operation)
        }
    }

    @Test("a request that the daemon may have seen is never sent again", arguments: [3, 12, 14, 2])
    func once(_ operation: UInt8) throws {
        let tally = Tally()
        let server = try taking(tally)
        let smalloc = try Smalloc(server.address, options: impatient(asking: .seconds(20)))
        let error = failure { () throws(SmallocError) in
            switch operation {
            case 3: _ = try smalloc.alloc(1, named: "a")
            case 12: try smalloc.dispose(named: "a")
            case 14: try smalloc.rename("a", to: "b")
            default: try smalloc.ping()
            }
        }
        #expect(error?.status == .connectionLost)
        #expect(tally.count(operation) == 1)
        #expect(server.accepted == 1)
    }

    @Test("the same by tasks", arguments: [3, 12, 2])
    func onceByTasks(_ operation: UInt8) async throws {
        let tally = Tally()
        let server = try taking(tally)
        let smalloc = try await AsyncSmalloc(
            server.address, options: impatient(asking: .seconds(20)))
        let error = await failure { () async throws(SmallocError) in
            switch operation {
            case 3: _ = try await smalloc.alloc(1, named: "a")
            case 12: try await smalloc.dispose(named: "a")
            default: try await smalloc.ping()
            }
        }
        #expect(error?.status == .connectionLost)
        #expect(tally.count(operation) == 1)
        #expect(server.accepted == 1)
    }

    @Test("what was not sent at all is sent on the next connection")
    func unsent() throws {
        let tally = Tally()
        let server = try FakeServer { peer, number in
            guard peer.greet() else { return }
            if number == 0 { return }
            while let request = peer.receiveFrame() {
                tally.add(request.operation)
                guard peer.answer(request) else { return }
            }
        }
        let smalloc = try Smalloc(server.address, options: impatient())
        #expect(eventually { !smalloc.isConnected || server.accepted == 1 })
        usleep(50_000)  // The server has closed by now.
        try smalloc.dispose(named: "a")
        #expect(tally.count(12) == 1)
        #expect(server.accepted == 2)
    }

    @Test("an allocation of an earlier session closes nothing of the present one")
    func stale() throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let first = try DaemonProcess(folder: folder)
        let smalloc = try Smalloc("unix:\(first.path)", options: impatient(asking: .seconds(20)))
        var old: Allocation? = try smalloc.alloc(4)
        first.kill()
        #expect(failure { () throws(SmallocError) in _ = try old?.get(0) } != nil)
        let second = try DaemonProcess(folder: folder)
        // It gets the number that the old one had.
        let new = try smalloc.alloc(4)
        try new.set(7, at: 1)
        old = nil
        try smalloc.ping()
        #expect(new.isLive)
        #expect(try new.get(1) == 7)
        #expect(try allocations(smalloc) == 1)
        withExtendedLifetime((old, second)) {}
    }

    @Test("the same by tasks")
    func staleByTasks() async throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let first = try DaemonProcess(folder: folder)
        let smalloc = try await AsyncSmalloc(
            "unix:\(first.path)", options: impatient(asking: .seconds(20)))
        var old: AsyncAllocation? = try await smalloc.alloc(4)
        first.kill()
        let lost = await failure { () async throws(SmallocError) in _ = try await old?.get(0) }
        #expect(lost != nil)
        let second = try DaemonProcess(folder: folder)
        let new = try await smalloc.alloc(4)
        try await new.set(7, at: 1)
        old = nil
        try await smalloc.ping()
        #expect(await new.isLive)
        #expect(try await new.get(1) == 7)
        withExtendedLifetime((old, second)) {}
    }

    @Test("tasks do not connect again either where it is not allowed")
    func notAllowed() async throws {
        let server = try Misbehaviour.closes.server()
        var options = impatient(asking: .seconds(20))
        options.reconnects = false
        let smalloc = try await AsyncSmalloc(server.address, options: options)
        let a = try await smalloc.alloc(1)
        let first = await failure { () async throws(SmallocError) in _ = try await a.get(0) }
        #expect(first?.status == .connectionLost)
        for _ in 0..<2 {
            let next = await failure { () async throws(SmallocError) in try await smalloc.ping() }
            #expect(next?.status == .connectionLost)
        }
        #expect(server.accepted == 1)
        #expect(!smalloc.isConnected)
    }
}
