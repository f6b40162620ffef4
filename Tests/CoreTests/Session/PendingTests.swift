// Requests that wait for events: those behind them go on, and their replies come in between.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Requests that wait", .timed)
struct PendingTests {
    /// A daemon with a cell: handle 1 of the first connection.
    private func world() -> (daemon: TestDaemon, peer: TestPeer, other: TestPeer) {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        peer.call(.alloc, type: 5, name: "cells", size: 64)
        return (daemon, peer, daemon.greeted())
    }

    private func wait(
        _ peer: TestPeer, cookie: UInt64, offset: UInt64 = 0, milliseconds: UInt64 = .max
    ) {
        peer.feed(
            frame(
                .wait, cookie: cookie, handle: 1, offset: offset, size: milliseconds,
                payload: [0, 0, 0, 0]))
        peer.session.checkInvariants()
    }

    private func notify(
        _ peer: TestPeer, offset: UInt64 = 0, count: UInt64 = .max
    ) -> UInt64 {
        peer.call(.notify, name: "cells", offset: offset, size: count).header.size
    }

    private func cookies(_ peer: TestPeer) -> [UInt64] {
        defer { peer.output = [] }
        return (replies(in: peer.output) ?? []).map(\.header.cookie)
    }

    @Test("what comes behind a request that waits is answered before it")
    func goesOn() {
        let (daemon, peer, other) = world()
        wait(peer, cookie: 100)
        wait(peer, cookie: 200, offset: 4)
        #expect(peer.pause == .none)
        #expect(peer.hasWaits && !peer.isBusy)
        peer.feed(frame(.ping, cookie: 1) + frame(.ping, cookie: 2))
        #expect(cookies(peer) == [1, 2])
        // Out of their order.
        #expect(notify(other, offset: 4) == 1)
        daemon.tellWaits()
        #expect(cookies(peer) == [200])
        #expect(notify(other) == 1)
        daemon.tellWaits()
        let reply = replies(in: peer.output)?.first
        #expect(reply?.status == .ok && reply?.header.cookie == 100 && reply?.header.size == 1)
        #expect(reply?.header.operation == Operation.wait.rawValue && reply?.payload == [])
        #expect(!peer.hasWaits)
        peer.session.checkInvariants()
    }

    @Test("a reply that comes while another one is half sent leaves behind it")
    func boundary() {
        let (daemon, peer, other) = world()
        let handle = peer.call(.alloc, type: 2, size: 500_000).header.handle
        wait(peer, cookie: 100)
        peer.moves = false
        peer.feed(frame(.read, cookie: 1, handle: handle, size: 500_000))
        #expect(peer.pause == .send)
        let before = peer.output.count
        #expect(notify(other) == 1)
        daemon.tellWaits()
        #expect(peer.output.count == before, "nothing is put into the data")
        peer.moves = true
        peer.run()
        peer.feed(frame(.ping, cookie: 2))
        #expect(cookies(peer) == [1, 100, 2])
        peer.session.checkInvariants()
    }

    @Test("a reply that comes while a large write arrives is put in at once")
    func whileReceiving() {
        let (daemon, peer, other) = world()
        let handle = peer.call(.alloc, type: 2, size: 500_000).header.handle
        wait(peer, cookie: 100)
        let write = frame(
            .write, cookie: 1, handle: handle, size: 500_000,
            payload: [UInt8](repeating: 7, count: 500_000))
        peer.feed(Array(write[..<100_000]))
        #expect(notify(other) == 1)
        daemon.tellWaits()
        #expect(cookies(peer) == [100])
        peer.feed(Array(write[100_000...]))
        #expect(cookies(peer) == [1])
    }

    @Test("lines are answered in their order, also where one waits")
    func text() {
        let (daemon, _, other) = world()
        let peer = daemon.connect()
        peer.feed("wait cells 0 0 -1\nping\n")
        #expect(peer.pause == .work)
        #expect(peer.hasWaits && peer.isHeldByWait)
        #expect(peer.output.isEmpty)
        #expect(notify(other) == 1)
        daemon.tellWaits()
        #expect(peer.output == Array("OK notified\nOK pong\n".utf8))
        #expect(!peer.hasWaits)
    }

    @Test("no more wait than may, and a session that ends forgets them")
    func limit() {
        let (daemon, peer, other) = world()
        let empty = daemon.registry.budget.usedSize
        for cookie in 0..<UInt64(Limits.waitsMax) {
            wait(peer, cookie: cookie, offset: cookie % 16 * 4, milliseconds: 1_000_000)
        }
        #expect(peer.output.isEmpty)
        wait(peer, cookie: 9999)
        let refused = replies(in: peer.output)?.first
        #expect(
            refused?.outcome == "waitLimit Error: the connection waits for as much as it may")
        // Those that need not wait are no more than before.
        #expect(
            peer.call(.wait, handle: 1, size: 5, payload: [1, 0, 0, 0]).header.size == 0)
        #expect(daemon.registry.waits.checkInvariants() == Limits.waitsMax)
        let charged = daemon.registry.budget.usedSize - empty
        #expect(
            charged >= UInt64(Limits.waitsMax * BlockPool.capacity(for: Wait.size(nameSize: 0))))
        #expect(notify(other, count: 1) == 1)
        peer.session.end(peer.loop)
        peer.isClosed = true
        #expect(!peer.hasWaits)
        daemon.tellWaits()
        #expect(daemon.registry.waits.checkInvariants() == 0)
        #expect(daemon.registry.budget.usedSize <= empty)
    }

    @Test(
        "an allocation belongs to the user who made it", arguments: [10, 65_535, 65_536, 3 << 20])
    func owners(size: UInt64) throws {
        let daemon = TestDaemon()
        for owner: UInt32 in [0, 1000, Session.noOwner] {
            let peer = TestPeer(daemon.loop, owner: owner)
            peer.feed(frame(.hello))
            peer.output = []
            let handle = peer.call(.alloc, type: 2, size: size).header.handle
            let allocation = try #require(peer.session.caller.handles[handle])
            #expect(allocation.owner == owner)
            #expect(allocation.size == size)
            #expect(peer.call(.truncate, handle: handle, size: size / 2).status == .ok)
            #expect(allocation.owner == owner)
            #expect(allocation.size == size / 2)
        }
    }
}
