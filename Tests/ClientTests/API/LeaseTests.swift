// Leases through the library, on both faces.

import Smalloc
import Testing
import TestSupport

@Suite("Leases of the library", .timed)
struct LeaseTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("stat tells a lease and what is left of it, however it was made")
    func told() async throws {
        let tasks = try await SharedDaemon.connectAsync()
        let hour = Smalloc.Lease.idle(.seconds(3600))
        let makers: [(String) async throws -> Any] = [
            { try smalloc.alloc(4, named: $0, lease: hour) },
            { try smalloc.alloc(shape: [2, 2], named: $0, metadata: [1], lease: hour) },
            { try smalloc.alloc(4, named: $0, metadata: [2], lease: hour) },
            { try smalloc.create($0, 4, lease: hour) },
            { try smalloc.openOrAlloc(4, named: $0, lease: hour) },
            { try await tasks.alloc(4, named: $0, lease: hour) },
            { try await tasks.alloc(shape: [4], named: $0, lease: hour) },
            { try await tasks.alloc(4, named: $0, metadata: [2], lease: hour) },
            { try await tasks.openOrAlloc(shape: [4], named: $0, lease: hour) },
        ]
        for make in makers {
            let name = SharedDaemon.name()
            let made = try await make(name)
            let stat = try smalloc.stat(name)
            #expect(stat.lease == hour)
            let left = try #require(stat.leaseLeft)
            #expect(left > .seconds(3500) && left <= .seconds(3600))
            #expect(try await tasks.stat(name).lease == hour)
            withExtendedLifetime(made) {}
            try smalloc.dispose(named: name)
        }
        let name = SharedDaemon.name()
        try smalloc.create(name, 1)
        #expect(try smalloc.stat(name).lease == nil)
        #expect(try smalloc.stat(name).leaseLeft == nil)
        #expect(try smalloc.stat(name).isDescribed == false)
        try smalloc.dispose(named: name)
    }

    @Test("times are rounded up, and what no clock reaches is as told")
    func times() throws {
        let name = SharedDaemon.name()
        let times: [(Duration, Smalloc.Lease?)] = [
            (.microseconds(3_600_000_001), .idle(.milliseconds(3_600_001))),
            (.seconds(Int64.max), .idle(.milliseconds(Int64.max))),
        ]
        for (time, told) in times {
            try smalloc.create(name, 1, lease: .idle(time))
            #expect(try smalloc.stat(name).lease == told)
            try smalloc.dispose(named: name)
        }
        // At least a millisecond, and not that of the connection.
        for time in [Duration.zero, .nanoseconds(1), .seconds(-5)] {
            try smalloc.create(name, 1, lease: .idle(time))
            #expect(try eventually { try !smalloc.exists(name) })
        }
    }

    @Test("one that is open stays, and ends when it is not used any more")
    func ends() throws {
        let name = SharedDaemon.name()
        var open: Allocation? = try smalloc.alloc(
            4, named: name, .int32, lease: .idle(.milliseconds(20)))
        try smalloc.create(name + "/idle", 1, lease: .idle(.milliseconds(20)))
        #expect(try eventually { try !smalloc.exists(name + "/idle") })
        try open?.set(3, at: 0)
        #expect(try smalloc.exists(name))
        open = nil
        #expect(try eventually { try !smalloc.exists(name) })
    }

    @Test("that of a connection ends with it")
    func connections() async throws {
        let name = SharedDaemon.name()
        let first = try SharedDaemon.connect()
        let made = try first.alloc(1, named: name, lease: .connection)
        #expect(try smalloc.stat(name).lease == .connection)
        #expect(try smalloc.stat(name).leaseLeft == nil)
        let opened = try smalloc.open(name)
        first.close()
        withExtendedLifetime(made) {}
        #expect(try eventually { try !smalloc.exists(name) })
        #expect(failure { () throws(SmallocError) in _ = try opened.get(0) }?.status == .noData)
        let tasks = try await SharedDaemon.connectAsync()
        let other = try await tasks.alloc(1, named: name, lease: .connection)
        #expect(try smalloc.exists(name))
        tasks.close()
        withExtendedLifetime(other) {}
        #expect(try eventually { try !smalloc.exists(name) })
    }
}
