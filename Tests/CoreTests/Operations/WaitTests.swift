// wait, notify and cancel: results, their order, all short sequences of what can happen to a wait, and
// what is given back.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Waits", .timed)
struct WaitTests {
    /// A daemon, a connection with a cell of 16 elements (`cells`, handle 1), and another one.
    private final class World {
        let daemon: TestDaemon
        let peer: TestPeer
        let other: TestPeer

        init(_ change: (inout Limits) -> Void = { _ in }) {
            daemon = TestDaemon { change(&$0) }
            peer = daemon.greeted()
            other = daemon.greeted()
            peer.call(.alloc, type: 6, name: "cells", size: 64)
        }

        func wait(
            _ cookie: UInt64, offset: UInt64 = 0, value: UInt8 = 0, milliseconds: UInt64 = .max,
            on peer: TestPeer? = nil
        ) {
            (peer ?? self.peer).feed(
                frame(
                    .wait, cookie: cookie, name: "cells", offset: offset, size: milliseconds,
                    payload: [value, 0, 0, 0]))
        }

        /// What has been answered since the last call: cookies, and results or statuses.
        func told(_ peer: TestPeer? = nil) -> [String] {
            daemon.tellWaits()
            let peer = peer ?? self.peer
            defer { peer.output = [] }
            return (replies(in: peer.output) ?? []).map { reply in
                let result = WaitResult(rawValue: reply.header.size)?.name ?? "?"
                return "\(reply.header.cookie) "
                    + (reply.status == .ok ? result : reply.status.name)
            }
        }

        func checkEmpty() {
            #expect(daemon.registry.waits.checkInvariants() == 0)
            daemon.loop.waits.deadlines.checkInvariants()
            #expect(daemon.loop.waits.deadlines.count == 0)
        }
    }

    @Test("each result comes for its reason")
    func results() {
        let world = World()
        world.wait(1, value: 1)
        #expect(world.told() == ["1 differs"])
        world.wait(2, milliseconds: 0)
        #expect(world.told() == ["2 timeout"])
        world.wait(3, milliseconds: 5)
        world.wait(4, milliseconds: 1 << 40)
        #expect(world.told() == [])
        world.daemon.expireWaits()
        #expect(world.told() == ["3 timeout", "4 timeout"])
        world.wait(5)
        world.daemon.expireWaits()
        #expect(world.told() == [])
        #expect(world.other.call(.notify, name: "cells", size: 1).header.size == 1)
        #expect(world.told() == ["5 notified"])
        world.wait(6, offset: 60)
        world.wait(7)
        world.other.call(.truncate, name: "cells", size: 60)
        #expect(world.told() == ["6 disposed", "7 notified"])
        world.wait(8)
        world.other.call(.dispose, name: "cells")
        #expect(world.told() == ["8 disposed"])
        world.checkEmpty()
    }

    @Test("a change alone ends no wait, and those that come after it see it")
    func changes() {
        let world = World()
        world.wait(1)
        world.other.call(.atomic, name: "cells", payload: numbers(2, 9, 0))
        world.other.call(.write, name: "cells", size: 4, payload: [8, 0, 0, 0])
        #expect(world.told() == [])
        world.wait(2)
        #expect(world.told() == ["2 differs"])
        world.wait(3, value: 8)
        #expect(world.other.call(.notify, name: "cells", size: .max).header.size == 2)
        #expect(world.told() == ["1 notified", "3 notified"])
    }

    @Test("the oldest are notified first, as many as were asked for, of that cell alone")
    func order() {
        let world = World()
        for cookie in UInt64(1)...6 { world.wait(cookie, offset: cookie % 2 * 4) }
        let third = world.daemon.greeted()
        world.wait(7, on: third)
        func notify(_ offset: UInt64, _ count: UInt64) -> UInt64 {
            world.other.call(.notify, name: "cells", offset: offset, size: count).header.size
        }
        #expect(notify(0, 0) == 0)
        #expect(notify(0, 2) == 2)
        #expect(world.told() == ["2 notified", "4 notified"])
        #expect(notify(8, .max) == 0)
        #expect(notify(0, 5) == 2)
        #expect(world.told() == ["6 notified"])
        #expect(world.told(third) == ["7 notified"])
        #expect(notify(4, 3) == 3)
        #expect(world.told() == ["1 notified", "3 notified", "5 notified"])
        world.checkEmpty()
    }

    @Test("cancel ends all that wait with a cookie, on its own connection, and nothing else")
    func cancel() {
        let world = World()
        world.wait(5)
        world.wait(6)
        world.wait(5, offset: 4, milliseconds: 1000)
        world.wait(5, on: world.other)
        let cancel = frame(.cancel, cookie: 9, payload: numbers(5))
        world.peer.feed(cancel)
        let found = replies(in: world.peer.output) ?? []
        #expect(Set(found.map(\.header.cookie)) == [5, 9] && found.count == 3)
        #expect(found.first { $0.header.cookie == 9 }?.header.size == 2)
        for reply in found where reply.header.cookie == 5 {
            #expect(reply.outcome == "cancelled Error: the request was cancelled")
            #expect(reply.header.operation == Operation.wait.rawValue)
        }
        world.peer.output = []
        world.peer.feed(cancel)
        #expect(world.told() == ["9 differs"])
        #expect(world.daemon.registry.waits.checkInvariants() == 2)
        world.other.feed(frame(.notify, cookie: 8, name: "cells", size: .max))
        #expect(world.told() == ["6 notified"])
        #expect(Set(world.told(world.other)) == ["8 timeout", "5 notified"])
        world.checkEmpty()
    }

    @Test("what was notified a moment ago is not cancelled")
    func lateCancel() {
        let world = World()
        world.wait(5)
        #expect(world.other.call(.notify, name: "cells", size: 1).header.size == 1)
        world.peer.feed(frame(.cancel, cookie: 9, payload: numbers(5)))
        #expect(world.told() == ["9 differs", "5 notified"])
    }

    @Test("an allocation that goes, whichever way, ends its waits")
    func ends() {
        for way in 0..<6 {
            let world = World()
            let own = world.peer.call(.alloc, type: 5, size: 100_000).header.handle
            world.peer.feed(
                frame(.wait, cookie: 2, handle: own, size: .max, payload: [0, 0, 0, 0]))
            world.wait(1)
            switch way {
            case 0: world.other.call(.dispose, name: "cells")
            case 1: world.peer.feed(frame(.dispose, cookie: 0, handle: 1))
            case 2:
                let made = world.other.call(.alloc, type: 1, size: 8).header.handle
                world.other.call(
                    .rename, flags: 1, handle: made, payload: Array("cells".utf8))
            case 3: world.peer.feed(frame(.close, cookie: 0, handle: own))
            case 4: world.peer.feed(frame(.dispose, cookie: 0, handle: own))
            default: world.other.feed(frame(.rename, name: "cells", payload: Array("c".utf8)))
            }
            let told = world.told().filter { !$0.hasPrefix("0 ") }
            #expect(told == (way < 3 ? ["1 disposed"] : way < 5 ? ["2 disposed"] : []), "\(way)")
            world.peer.session.end(world.peer.loop)
            world.peer.isClosed = true
            world.checkEmpty()
        }
    }

    @Test("thousands are notified in parts, and disposed of by another thread")
    func many() {
        let world = World()
        let waiters = (0..<3).map { _ in world.daemon.greeted() }
        func fill() {
            for peer in waiters {
                for cookie in UInt64(0)..<1500 { world.wait(cookie, on: peer) }
            }
        }
        fill()
        let turns = world.other.turns
        let reply = world.other.call(.notify, name: "cells", size: 4000)
        #expect(reply.header.size == 4000)
        #expect(world.other.turns > turns + 2)
        #expect(world.daemon.registry.waits.checkInvariants() == 500)
        let told = waiters.map { world.told($0).count }
        #expect(told == [1500, 1500, 1000])
        fill()
        world.other.call(.dispose, name: "cells")
        world.daemon.registry.mappings.drain()
        let disposed = waiters.map { world.told($0).filter { $0.hasSuffix("disposed") }.count }
        #expect(disposed == [1500, 1500, 2000])
        world.checkEmpty()
    }

    @Test("a notify ends what waited when it began, and not what waits again between its parts")
    func again() {
        let world = World()
        let waiters = (0..<2).map { _ in world.daemon.greeted() }
        for peer in waiters {
            for cookie in UInt64(0)..<1500 { world.wait(cookie, on: peer) }
        }
        world.other.moves = false
        world.other.feed(frame(.notify, cookie: 9, name: "cells", size: .max))
        var rounds = 0
        while world.other.pause == .turn, rounds < 20 {
            rounds += 1
            for peer in waiters {
                for (cookie, _) in world.told(peer).enumerated() {
                    world.wait(UInt64(cookie), on: peer)
                }
            }
            world.other.run()
        }
        #expect(rounds > 1 && rounds < 5, "\(rounds) parts")
        #expect(replies(in: world.other.output)?.first?.header.size == 3000)
        // The next one begins anew.
        world.other.moves = true
        let left = UInt64(world.daemon.registry.waits.checkInvariants())
        #expect(left > 1000)
        #expect(world.other.call(.notify, name: "cells", size: .max).header.size == left)
        #expect(waiters.reduce(0) { $0 + world.told($1).count } == 3000)
        world.checkEmpty()
    }

    @Test("waits are charged, refused over the memory limit, and given back to the last byte")
    func memory() {
        let world = World { $0.memorySizeMax = 1 << 19 }
        let base = world.daemon.settledSize
        var refused = 0
        for cookie in UInt64(0)..<4096 {
            world.wait(cookie, offset: cookie % 16 * 4, milliseconds: 1 << 30)
            refused += world.told().filter { $0.hasSuffix("memoryLimit") }.count
        }
        #expect(refused > 100 && refused < 4000)
        // What is held can be ended at the limit.
        #expect(world.other.call(.notify, name: "cells", size: .max).status == .ok)
        world.peer.session.end(world.peer.loop)
        world.peer.isClosed = true
        world.daemon.tellWaits()
        world.checkEmpty()
        let handles = world.daemon.settledSize
        #expect(handles <= base)
    }

    @Test("a connection that ends lets others' waits be, and a stop cancels all")
    func sessions() {
        let world = World()
        let third = world.daemon.greeted()
        world.wait(1)
        world.wait(2, on: third)
        world.wait(3, on: world.other)
        // Ended, and not told of yet: in the mailbox when its connection goes.
        world.peer.call(.notify, name: "cells", size: 2)
        third.session.end(third.loop)
        third.isClosed = true
        #expect(world.daemon.registry.waits.checkInvariants() == 1)
        #expect(world.told(third) == [])
        #expect(world.other.cancelWaits())
        #expect(world.told(world.other) == ["3 cancelled"])
        let line = world.daemon.connect()
        line.feed("wait cells 0 0 -1\n")
        #expect(line.cancelWaits())
        #expect(line.output == Array("ERR cancelled Error: the request was cancelled\n".utf8))
    }

    @Test("deadlines come in their order, whatever is taken out in between")
    func deadlines() {
        var random = SplitMix(for: "deadlines")
        let world = World()
        var cookies: [(cookie: UInt64, due: UInt64)] = []
        for cookie in UInt64(0)..<500 {
            let time = 1000 + random.next() % 1_000_000
            world.wait(cookie, offset: cookie % 16 * 4, milliseconds: time * 1000)
            cookies.append((cookie, time))
            world.daemon.loop.waits.deadlines.checkInvariants()
            if random.next() % 3 == 0 {
                let taken = cookies.remove(at: Int(random.next() % UInt64(cookies.count)))
                world.peer.feed(
                    frame(.cancel, cookie: 9999, payload: numbers(taken.cookie)))
                world.daemon.loop.waits.deadlines.checkInvariants()
            }
        }
        world.peer.output = []
        world.daemon.expireWaits()
        let expected = cookies.sorted { $0.due < $1.due }.map { "\($0.cookie) timeout" }
        #expect(world.told().count == expected.count)
        world.checkEmpty()
    }
}
