// What the daemon allows at a time, what a slow daemon may cost, and what released handles cost it.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Limits and slow daemons", .timed)
struct LimitTests {
    /// A server that allows one request at a time, and notes whether it met two.
    private func strict(_ met: Guarded<Int>) throws -> FakeServer {
        try FakeServer { peer, _ in
            var limits = Smalloc.Limits()
            limits.requestsInFlightMax = 1
            guard peer.greet(limits) else { return }
            while let request = peer.receiveFrame() {
                // A second one would come now or never: it was asked for long ago.
                var byte: UInt8 = 0
                usleep(2000)
                if peer.peek(&byte) { met.withLock { $0 += 1 } }
                guard peer.answer(request) else { return }
            }
        }
    }

    @Test("tasks never have more requests in flight than the daemon allows")
    func inFlight() async throws {
        let met = Guarded(0)
        let server = try strict(met)
        let smalloc = try await AsyncSmalloc(
            server.address, options: impatient(asking: .seconds(20)))
        let a = try await smalloc.alloc(8)
        for place in Place.allCases {
            try await place.tasks(20, on: smalloc) { number in
                for _ in 0..<3 { try await a.set(1, at: number % 8) }
            }
        }
        #expect(met.withLock { $0 } == 0)
    }

    @Test("nor do the calls of threads, with what they release meanwhile")
    func inFlightOfThreads() throws {
        let met = Guarded(0)
        let server = try strict(met)
        let smalloc = try Smalloc(server.address, options: impatient(asking: .seconds(20)))
        for _ in 0..<10 {
            let a = try smalloc.alloc(8)
            try a.set(1, at: 0)
        }
        let b = try smalloc.alloc(20_000)
        try b.write([UInt8](repeating: 1, count: 20_000))
        _ = try smalloc.batch { batch in for index in 0..<20 { batch.set(1, at: index, of: b) } }
        #expect(met.withLock { $0 } == 0)
    }

    @Test("what is released while nothing more may be in flight is closed all the same")
    func released() async throws {
        let daemon = try DaemonProcess(["--requests-in-flight-max", "1"])
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        let watcher = try Smalloc("unix:\(daemon.path)")
        let busy = try await smalloc.alloc(64, named: "busy", .double)
        for place in Place.allCases {
            try await place.tasks(20, on: smalloc) { number in
                for _ in 0..<20 {
                    let a = try await smalloc.alloc(1)
                    let again = try await smalloc.open("busy")
                    try await again.set(1, at: number)
                    if number % 2 == 0 { try await a.dispose() }
                }
            }
        }
        #expect(eventually { (try? allocations(watcher)) == 1 })
        #expect(eventually { (try? watcher.stat("busy").handles) == 1 })
        try await busy.dispose()
    }

    @Test("the same of threads, and of a flood at once")
    func releasedByThreads() throws {
        let daemon = try DaemonProcess(["--requests-in-flight-max", "1"])
        let smalloc = try Smalloc("unix:\(daemon.path)")
        let watcher = try Smalloc("unix:\(daemon.path)")
        var held = try (0..<500).map { _ in try smalloc.alloc(1) }
        held = []
        #expect(eventually { (try? allocations(watcher)) == 0 })
        #expect(held.isEmpty)
        try smalloc.ping()
    }

    /// Reads what a client sends, a byte at a time, for as long as it lasts.
    private func drip(_ pause: UInt32) throws -> FakeServer {
        try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            peer.shrinkReceiveBuffer()
            while peer.receive(1) != nil { usleep(pause) }
        }
    }

    @Test("a daemon that takes a byte now and then holds nobody beyond the timeout")
    func drip() throws {
        let server = try drip(50_000)
        let smalloc = try Smalloc(server.address, options: impatient(asking: .milliseconds(800)))
        let a = try smalloc.alloc(64 << 20)
        let start = ContinuousClock.now
        let error = failure { () throws(SmallocError) in
            try a.write([UInt8](repeating: 1, count: 3 << 20))
        }
        #expect(error?.status == .timedOut)
        let taken = ContinuousClock.now - start
        #expect(taken > .milliseconds(700) && taken < .seconds(5), "\(taken)")
    }

    @Test("the same by tasks, of which the connection outlives it")
    func dripByTasks() async throws {
        let server = try drip(50_000)
        let smalloc = try await AsyncSmalloc(
            server.address, options: impatient(asking: .milliseconds(800)))
        let a = try await smalloc.alloc(64 << 20)
        let start = ContinuousClock.now
        let error = await failure { () async throws(SmallocError) in
            try await a.write([UInt8](repeating: 1, count: 3 << 20))
        }
        #expect(error?.status == .timedOut)
        #expect(ContinuousClock.now - start < .seconds(5))
        #expect(smalloc.isConnected)
    }

    @Test("a timeout of small steps is the daemon's at each answer of a batch, not of all of them")
    func slowBatch() throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            while let request = peer.receiveFrame() {
                usleep(200_000)
                guard peer.answer(request) else { return }
            }
        }
        let smalloc = try Smalloc(server.address, options: impatient(asking: .milliseconds(900)))
        let a = try smalloc.alloc(8)
        let replies = try smalloc.batch { batch in
            for index in 0..<8 { batch.get(index, of: a) }
        }
        try replies.check()
    }

    @Test("answers come to the blocking face in any order")
    func disorder() throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            var requests: [TestFrame] = []
            while requests.count < 5, let request = peer.receiveFrame() { requests.append(request) }
            for request in requests.reversed() {
                let number = UInt8(truncatingIfNeeded: request.offset)
                peer.send(peer.reply(request, type: 2, size: 1, payload: [number]).bytes)
            }
            // A bulk read in parts.
            requests = []
            while requests.count < 3, let request = peer.receiveFrame() { requests.append(request) }
            for request in [requests[2], requests[0], requests[1]] {
                let bytes = (0..<request.size).map {
                    UInt8(truncatingIfNeeded: request.offset + $0)
                }
                peer.send(peer.reply(request, type: 2, size: request.size, payload: bytes).bytes)
            }
            peer.waitForEnd()
        }
        var options = impatient()
        options.chunkSize = 4096
        let smalloc = try Smalloc(server.address, options: options)
        let a = try smalloc.alloc(12_288)
        var tickets: [Smalloc.Batch.Ticket] = []
        let replies = try smalloc.batch { batch in
            for index in 0..<5 { tickets.append(batch.get(index, of: a)) }
        }
        for index in 0..<5 {
            let number = try replies.number(tickets[index])
            #expect(number == Double(index))
        }
        let read = try a.read(UInt8.self)
        #expect(read == (0..<12_288).map { UInt8(truncatingIfNeeded: $0) })
    }

    @Test("receivers that are gone give up their allocations, however many there are")
    func receivers() throws {
        final class Plain {}
        let daemon = try DaemonProcess()
        let smalloc = try Smalloc("unix:\(daemon.path)")
        var held = (0..<500).map { _ in Plain() }
        for object in held { try smalloc.alloc(1, object) }
        #expect(try allocations(smalloc) == 500)
        held = []
        #expect(held.isEmpty)
        let last = Plain()
        try smalloc.alloc(1, last)
        #expect(try allocations(smalloc) == 1)
        withExtendedLifetime(last) {}
    }

    @Test("slices of what was shortened tell what is left of them")
    func windows() async throws {
        let smalloc = try SharedDaemon.connect()
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(10, named: name, .double)
        let b = try a.slice(2, 8)
        let c = try b.slice(1)
        #expect((b.length, c.length) == (6, 5))
        try a.truncate(6)
        #expect((a.length, b.length, c.length) == (6, 4, 3))
        #expect((b.size, c.size) == (32, 24))
        #expect(
            failure { () throws(SmallocError) in _ = try b.get(4) }?.status == .outOfRange)
        // Another client shortens it: `stat` finds out.
        try SharedDaemon.connect().open(name).truncate(3)
        #expect(b.length == 4)
        #expect(try a.stat().length == 3)
        #expect((a.length, b.length, c.length) == (3, 1, 0))
        #expect(try b.numbers() == [0])
        let tasks = try await SharedDaemon.connectAsync()
        let d = try await tasks.open(name)
        let e = try d.slice(1)
        try await d.truncate(2)
        #expect((d.length, e.length, e.size) == (2, 1, 8))
        try a.truncate(1)
        #expect(try await d.stat().length == 1)
        #expect(e.length == 0)
        try a.dispose()
    }
}
