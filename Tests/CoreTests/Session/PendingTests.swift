// Requests that wait for events: those behind them go on, and their replies come in between.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Requests that wait", .timed)
struct PendingTests {
    /// Has a session wait as an operation would that waits for an event.
    private func wait(_ peer: TestPeer, cookie: UInt64) -> Pending {
        let pending = Pending(.event)
        let taken = peer.session.accept(
            .later(pending), Operation.read.rawValue, cookie, size: 40, peer.loop)
        #expect(taken == 40)
        peer.session.checkInvariants()
        return pending
    }

    private func cookies(_ peer: TestPeer) -> [UInt64] {
        defer { peer.output = [] }
        return (replies(in: peer.output) ?? []).map(\.header.cookie)
    }

    @Test("what comes behind a request that waits is answered before it")
    func goesOn() {
        let peer = TestDaemon().greeted()
        let first = wait(peer, cookie: 100)
        let second = wait(peer, cookie: 200)
        #expect(peer.pause == .none)
        #expect(peer.hasWaits && !peer.isBusy)
        peer.feed(frame(.ping, cookie: 1) + frame(.ping, cookie: 2))
        #expect(cookies(peer) == [1, 2])
        // Out of their order.
        peer.session.complete(second, .done(size: 8), peer.loop)
        peer.take()
        #expect(cookies(peer) == [200])
        peer.session.complete(first, .failed(.noData), peer.loop)
        peer.take()
        let reply = replies(in: peer.output)?.first
        #expect(reply?.status == .noData && reply?.header.cookie == 100)
        #expect(!peer.hasWaits)
        peer.session.checkInvariants()
    }

    @Test("a reply that comes while another one is half sent leaves behind it")
    func boundary() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let handle = peer.call(.alloc, type: 2, size: 500_000).header.handle
        let pending = wait(peer, cookie: 100)
        peer.moves = false
        peer.feed(frame(.read, cookie: 1, handle: handle, size: 500_000))
        #expect(peer.pause == .send)
        let before = peer.output.count
        peer.session.complete(pending, .done(size: 0), peer.loop)
        peer.take()
        #expect(peer.output.count == before, "nothing is put into the data")
        peer.moves = true
        peer.run()
        peer.feed(frame(.ping, cookie: 2))
        #expect(cookies(peer) == [1, 100, 2])
        peer.session.checkInvariants()
    }

    @Test("lines are answered in their order, also where one waits")
    func text() {
        let peer = TestDaemon().connect()
        #expect(peer.line("ping") == "OK pong")
        let pending = Pending(.event)
        let taken = peer.session.accept(.later(pending), 0, 0, size: 5, peer.loop)
        #expect(taken == 5)
        #expect(peer.pause == .work)
        peer.session.checkInvariants()
        peer.moves = false
        peer.feed("ping\n")
        #expect(peer.output.isEmpty)
        peer.session.complete(pending, .done(size: 0), peer.loop)
        peer.take()
        #expect(peer.output == Array("OK\n".utf8))
        peer.output = []
        peer.run()
        #expect(peer.output == Array("OK pong\n".utf8))
    }

    @Test("no more wait than may, and a session that ends forgets them")
    func limit() {
        let peer = TestDaemon().greeted()
        for cookie in 0..<UInt64(Session.waitsMax) {
            #expect(peer.canWait)
            _ = wait(peer, cookie: cookie)
        }
        #expect(!peer.canWait)
        peer.session.end(peer.loop)
        peer.isClosed = true
        #expect(!peer.hasWaits)
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

extension TestPeer {
    fileprivate var hasWaits: Bool { session.hasWaits }
    fileprivate var canWait: Bool { session.canWait }
}
