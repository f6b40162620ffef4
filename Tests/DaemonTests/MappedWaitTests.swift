// Waiting and notifying by mappings and by requests, in all combinations: no wake-up is lost, by real
// threads and processes, some of which are killed.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Waits by mappings", .timed(seconds: 120))
struct MappedWaitTests {
    /// How a client gets at a cell.
    enum Way: CaseIterable { case mapped, wire }

    /// A client with a connection of its own.
    private final class Client: Sendable {
        let way: Way
        let cells: Allocation
        let map: Smalloc.Mapping<Int32>

        init(_ daemon: DaemonProcess, _ way: Way) throws {
            self.way = way
            cells = try Smalloc("unix:\(daemon.path)").open("cells")
            map = try cells.map(Int32.self)
        }

        func load(_ index: Int) throws -> Int32 {
            way == .mapped ? map.atomicLoad(index) : try cells.atomicLoad(index)
        }

        func store(_ value: Int32, at index: Int) throws {
            if way == .mapped {
                map.atomicStore(value, at: index)
            } else {
                try cells.atomicStore(value, at: index)
            }
        }

        func add(_ value: Int32, at index: Int) throws {
            if way == .mapped {
                map.atomicAdd(value, at: index)
            } else {
                try cells.atomicAdd(value, at: index)
            }
        }

        /// Takes one away from an element that is more than 0.
        func take(_ index: Int, of value: Int32) throws -> Bool {
            way == .mapped
                ? map.atomicCompareExchange(at: index, expected: value, desired: value - 1)
                    .exchanged
                : try cells.atomicCompareExchange(at: index, expected: value, desired: value - 1)
                    .exchanged
        }

        func wait(_ index: Int, while value: Int32) throws -> Smalloc.WaitResult {
            way == .mapped
                ? try map.wait(at: index, while: value, timeout: .seconds(20))
                : try cells.wait(at: index, while: value, timeout: .seconds(20))
        }

        func notify(_ index: Int, count: Int? = nil) throws {
            if way == .mapped {
                try map.notify(at: index, count: count)
            } else {
                try cells.notify(at: index, count: count)
            }
        }

        /// Waits until an element is as wanted.
        func await(_ index: Int, until isWanted: (Int32) -> Bool) throws {
            while true {
                let value = try load(index)
                if isWanted(value) { return }
                if try wait(index, while: value) == .timeout { throw Lost(value: value) }
            }
        }
    }

    /// A wake-up was lost: nothing came for 20 seconds.
    private struct Lost: Error { let value: Int32 }

    private func daemon() throws -> DaemonProcess {
        let daemon = try DaemonProcess(["--loops", "2"])
        #expect(try daemon.frames().alloc("cells", size: 4096, type: 5).status == 0)
        return daemon
    }

    /// Runs bodies on threads of their own; what one throws is an issue.
    private func together(_ bodies: [@Sendable () throws -> Void]) {
        let group = DispatchGroup()
        for body in bodies {
            group.enter()
            Thread {
                do { try body() } catch { Issue.record("\(error)") }
                group.leave()
            }.start()
        }
        group.wait()
    }

    /// Lets some microseconds go by, so that the other side is now awake, now about to sleep, and
    /// now asleep.
    private static func dawdle(_ random: inout SplitMix) {
        let count = random.next() % 4 == 0 ? 0 : random.next() % 60
        let end = DispatchTime.now().uptimeNanoseconds + count * 1000
        while DispatchTime.now().uptimeNanoseconds < end {}
    }

    @Test("two clients take turns, and none waits for ever", arguments: Way.allCases, Way.allCases)
    func turns(first: Way, second: Way) throws {
        let daemon = try daemon()
        let random = SplitMix(for: "turns")
        let rounds = Int32(Scale.count(3000))
        let clients = [try Client(daemon, first), try Client(daemon, second)]
        together([
            {
                var random = random
                for round in 1...rounds {
                    MappedWaitTests.dawdle(&random)
                    try clients[0].store(round, at: 0)
                    try clients[0].notify(0)
                    try clients[0].await(1) { $0 == round }
                }
            },
            {
                var random = SplitMix(seed: random.seed &+ 1)
                for round in 1...rounds {
                    try clients[1].await(0) { $0 == round }
                    MappedWaitTests.dawdle(&random)
                    try clients[1].store(round, at: 1)
                    try clients[1].notify(1)
                }
            },
        ])
        #expect(clients[0].map[0] == rounds && clients[0].map[1] == rounds)
    }

    @Test("both kinds of waiters are woken by either kind of notifier, each time")
    func crowd() throws {
        let daemon = try daemon()
        let random = SplitMix(for: "crowd")
        let rounds = Int32(Scale.count(1500))
        let waiters = try [Way.mapped, .wire, .mapped, .wire].map { try Client(daemon, $0) }
        let notifiers = try Way.allCases.map { try Client(daemon, $0) }
        var bodies: [@Sendable () throws -> Void] = waiters.map { client in
            {
                for round in 1...rounds {
                    try client.await(0) { $0 >= round }
                    try client.add(1, at: 1)
                    try client.notify(1)
                }
            }
        }
        bodies.append {
            var random = random
            for round in 1...rounds {
                let client = notifiers[Int(random.next() % 2)]
                MappedWaitTests.dawdle(&random)
                try client.store(round, at: 0)
                try client.notify(0)
                try client.await(1) { $0 == round * 4 }
            }
        }
        together(bodies)
        #expect(notifiers[0].map[1] == rounds * 4)
    }

    @Test("one wake for each thing to do is enough")
    func tokens() throws {
        let daemon = try daemon()
        let random = SplitMix(for: "tokens")
        let count = Int32(Scale.count(4000))
        let takers = try [Way.mapped, .wire, .mapped, .wire].map { try Client(daemon, $0) }
        let makers = try Way.allCases.map { try Client(daemon, $0) }
        var bodies: [@Sendable () throws -> Void] = takers.map { client in
            {
                while true {
                    let value = try client.load(0)
                    if value < 0 { return }
                    if value == 0 {
                        if try client.wait(0, while: 0) == .timeout { throw Lost(value: 0) }
                    } else if try client.take(0, of: value) {
                        try client.add(1, at: 1)
                        try client.notify(1)
                    }
                }
            }
        }
        bodies.append {
            var random = random
            for _ in 0..<count {
                let client = makers[Int(random.next() % 2)]
                MappedWaitTests.dawdle(&random)
                try client.add(1, at: 0)
                try client.notify(0, count: 1)
            }
            try makers[0].await(1) { $0 == count }
            try makers[0].store(-1, at: 0)
            try makers[0].notify(0)
        }
        together(bodies)
        #expect(makers[0].map[1] == count)
    }

    @Test("what two mapped and two other clients add at once is all there")
    func sums() throws {
        let daemon = try daemon()
        let clients = try [Way.mapped, .wire, .mapped, .wire].map { try Client(daemon, $0) }
        let count = Scale.count(4000)
        together(
            clients.map { client in
                {
                    // A mapping is that much faster.
                    for _ in 0..<(client.way == .mapped ? count * 50 : count) {
                        try client.add(3, at: 7)
                    }
                }
            })
        #expect(clients[0].map[7] == Int32(3 * (2 * count + 2 * count * 50)))
        #expect(clients[0].map[6] == 0 && clients[0].map[8] == 0)
    }

    @Test("processes that are killed while they wait take no wake-up of others with them")
    func kills() throws {
        let daemon = try daemon()
        var random = SplitMix(for: "kills")
        let clients = try Way.allCases.map { try Client(daemon, $0) }
        func start(_ own: Int) throws -> pid_t {
            try Spawn.start(
                [
                    ProjectFolder.executable("mapped-worker"), "follow", "unix:\(daemon.path)",
                    "cells", "\(own)",
                ],
                input: nil, output: nil, environment: [:])
        }
        // They say what they have seen in elements 10 and up.
        var workers = try (10..<13).map { try start($0) }
        var wires: [RawSocket] = []
        let rounds = Int32(Scale.count(150))
        var killed = 0
        for round in 1...rounds {
            let client = clients[Int(random.next() % 2)]
            if random.next() % 4 == 0 {
                let victim = Int(random.next() % 3)
                kill(workers[victim], SIGKILL)
                #expect(Spawn.wait(for: workers[victim], seconds: 10) == -SIGKILL)
                workers[victim] = try start(10 + victim)
                killed += 1
            }
            if random.next() % 3 == 0 {
                // A request that waits, and ends with its connection.
                let text = try daemon.text()
                try text.socket.send(line: "wait cells 0 \(round - 1) -1")
                wires.append(text.socket)
                if wires.count > 3 { wires.removeFirst().close() }
            }
            MappedWaitTests.dawdle(&random)
            try client.store(round, at: 0)
            try client.notify(0)
            for own in 10..<13 { try client.await(own) { $0 == round } }
        }
        for socket in wires { socket.close() }
        #expect(killed > 0)
        // The workers are told, and end by themselves.
        try Smalloc("unix:\(daemon.path)").dispose(named: "cells")
        for worker in workers { #expect(Spawn.wait(for: worker, seconds: 10) == 0) }
    }

    @Test(
        "a wait ends when another client disposes of the allocation, or truncates it",
        arguments: 0..<3)
    func ends(way: Int) throws {
        let daemon = try DaemonProcess()
        var random = SplitMix(for: "ends")
        let smalloc = try Smalloc("unix:\(daemon.path)")
        let other = try Smalloc("unix:\(daemon.path)")
        for round in 0..<Scale.count(300) {
            let a = try smalloc.alloc(100, named: "a", .int32)
            let map = try a.map(Int32.self)
            let remote = try other.open("a")
            let group = DispatchGroup()
            group.enter()
            Thread {
                let start = ContinuousClock.now
                do {
                    #expect(try map.wait(at: 50, while: 0) == .disposed, "round \(round)")
                } catch { Issue.record("\(error)") }
                // And not when it looks after its connection.
                #expect(ContinuousClock.now - start < .milliseconds(900), "round \(round)")
                group.leave()
            }.start()
            MappedWaitTests.dawdle(&random)
            switch way {
            case 0: try other.dispose(named: "a")
            case 1: try remote.truncate(50)
            default:
                _ = try other.alloc(100, named: "b", .int32)
                try other.open("b").rename(to: "a", replacing: true)
            }
            group.wait()
            if way != 0 { try other.dispose(named: "a") }
        }
    }

    @Test("a time is kept, values that differ are told at once, other types are refused")
    func results() throws {
        let daemon = try daemon()
        let client = try Client(daemon, .mapped)
        let start = ContinuousClock.now
        #expect(try client.map.wait(at: 0, while: 0, timeout: .milliseconds(50)) == .timeout)
        #expect(ContinuousClock.now - start >= .milliseconds(50))
        #expect(try client.map.wait(at: 0, while: 0, timeout: .zero) == .timeout)
        #expect(try client.map.wait(at: 0, while: 1) == .differs)
        #expect(try client.map.notify(at: 0) == 0)
        #expect(try client.map.notify(at: 0, count: 0) == 0)
        let longs = try Smalloc("unix:\(daemon.path)").alloc(4, .int64).map(Int64.self)
        #expect(throws: SmallocError.self) { try longs.wait(at: 0, while: 0) }
        #expect(throws: SmallocError.self) { try longs.notify(at: 0) }
        #expect(longs.atomicAdd(5, at: 1) == 0 && longs.atomicSubtract(7, at: 1) == 5)
        #expect(longs.atomicLoad(1) == -2)
    }

    @Test("a request ends a sleep, and tells so; also of what is frozen")
    func byRequest() throws {
        let daemon = try daemon()
        let name = "cells"
        let text = try daemon.text()
        for isFrozen in [false, true] {
            let cells = try Smalloc("unix:\(daemon.path)").open(name)
            let map = try cells.map(Int32.self, writable: false)
            if isFrozen { try cells.freeze() }
            let group = DispatchGroup()
            group.enter()
            Thread {
                #expect((try? map.wait(at: 3, while: 0, timeout: .seconds(20))) == .notified)
                group.leave()
            }.start()
            // Until it sleeps.
            #expect(try eventually { try text.ask("notify \(name) 3 1") == "OK 1" })
            group.wait()
            #expect(try text.ask("notify \(name) 3") == "OK 0")
            #expect(try text.ask("notify \(name) 3 0") == "OK 0")
        }
    }

    @Test("a freeze wakes those that sleep, who find nothing changed")
    func freeze() throws {
        let daemon = try daemon()
        let cells = try Smalloc("unix:\(daemon.path)").open("cells")
        let map = try cells.map(Int32.self, writable: false)
        let group = DispatchGroup()
        group.enter()
        Thread {
            #expect((try? map.wait(at: 3, while: 0, timeout: .seconds(20))) == .notified)
            group.leave()
        }.start()
        usleep(50_000)
        try cells.freeze()
        group.wait()
        #expect(map[3] == 0)
    }

    @Test("the daemon is asked only while requests wait in it")
    func asksRarely() throws {
        let daemon = try daemon()
        let client = try Client(daemon, .mapped)
        let text = try daemon.text()
        func asked() throws -> String { try text.stats()["requests_notify"] ?? "0" }
        let before = try asked()
        for _ in 0..<10 { #expect(try client.map.notify(at: 0) == 0) }
        #expect(try asked() == before)
        let waiting = try daemon.text()
        try waiting.socket.send(line: "wait cells 0 0 -1")
        #expect(try eventually { try client.map.notify(at: 0) == 1 })
        #expect(try waiting.socket.receiveLine() == "OK notified")
        let after = try asked()
        #expect(after != before)
        for _ in 0..<10 { #expect(try client.map.notify(at: 0) == 0) }
        #expect(try asked() == after)
    }

    @Test(
        "a request that waits already is found by those that map the allocation later",
        arguments: [16, 100_000, 5 << 20])
    func promoted(size: Int) throws {
        let daemon = try DaemonProcess()
        #expect(try daemon.frames().alloc("a", size: UInt64(size), type: 6).status == 0)
        let waiting = try daemon.text()
        try waiting.socket.send(line: "wait a 1 0 -1")
        #expect(try eventually { try daemon.text().stats()["requests_wait"] == "1" })
        let map = try Smalloc("unix:\(daemon.path)").open("a").map(UInt32.self)
        map[1] = 5
        #expect(try map.notify(at: 1) == 1)
        #expect(try waiting.socket.receiveLine() == "OK notified")
    }

    @Test("a daemon that is gone is found out, by tasks' mappings, too")
    func lost() async throws {
        let daemon = try DaemonProcess()
        let smalloc = try Smalloc("unix:\(daemon.path)")
        let a = try smalloc.alloc(10, named: "a", .int32)
        let map = try a.map(Int32.self)
        let tasks = try await AsyncSmalloc("unix:\(daemon.path)")
        let other = try await tasks.open("a").map(Int32.self)
        // By a task's mapping those that wait by requests are notified, too.
        let waiting = try daemon.text()
        try waiting.socket.send(line: "wait a 2 0 -1")
        let line = try await withCheckedThrowingContinuation {
            (done: CheckedContinuation<String, any Error>) in
            Thread {
                usleep(100_000)
                do {
                    try other.notify(at: 2)
                    done.resume(returning: try waiting.socket.receiveLine())
                } catch { done.resume(throwing: error) }
            }.start()
        }
        #expect(line == "OK notified")
        daemon.kill()
        for map in [map, other] {
            let status = await withCheckedContinuation {
                (done: CheckedContinuation<Smalloc.Status?, Never>) in
                Thread {
                    do throws(SmallocError) {
                        try map.wait(at: 0, while: 0, timeout: .seconds(20))
                        done.resume(returning: nil)
                    } catch { done.resume(returning: error.status) }
                }.start()
            }
            #expect(status == .connectionLost)
        }
        // What needs no daemon goes on.
        #expect(map.atomicAdd(1, at: 0) == 0)
        #expect(try map.notify(at: 0) == 0)
    }
}
