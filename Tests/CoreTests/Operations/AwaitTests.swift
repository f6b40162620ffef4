// Opens that wait: what ends them, in which order, what they open, and that nothing is left.

import Dispatch
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Opens that wait", .timed(seconds: 120))
struct AwaitTests {
    private let daemon: TestDaemon
    private let other: TestPeer

    init() {
        daemon = TestDaemon()
        other = daemon.greeted()
    }

    private func open(
        _ peer: TestPeer, _ cookie: UInt64, _ name: String = "a", flags: UInt8 = 1,
        milliseconds: UInt64 = .max
    ) {
        peer.feed(frame(.open, flags: flags, cookie: cookie, name: name, size: milliseconds))
    }

    /// What has been answered since the last call: cookies, and handles or statuses.
    private func told(_ peer: TestPeer) -> [String] {
        daemon.tellWaits()
        defer { peer.output = [] }
        return (replies(in: peer.output) ?? []).map { reply in
            let isOpen = reply.header.operation == Operation.open.rawValue
            let answer = reply.status == .ok ? "\(reply.header.handle)" : reply.status.name
            return (isOpen ? "" : "op\(reply.header.operation) ")
                + "\(reply.header.cookie) \(answer)"
        }
    }

    private func alloc(_ name: String = "a", size: UInt64 = 8) {
        #expect(other.call(.alloc, flags: 2, type: 5, name: name, size: size).outcome == "ok")
    }

    private func close(_ peer: TestPeer) {
        peer.session.end(peer.loop)
        peer.isClosed = true
    }

    private func checkEmpty() {
        #expect(daemon.registry.waits.checkInvariants() == 0)
        daemon.registry.checkInvariants()
        #expect(daemon.loop.waits.deadlines.count == 0)
    }

    @Test("a name that is there is opened at once, one that is not when it is given")
    func appears() {
        let peer = daemon.greeted()
        alloc("b")
        open(peer, 1, "b")
        #expect(told(peer) == ["1 1"])
        open(peer, 2)
        open(peer, 3)
        peer.feed(frame(.ping, cookie: 9))
        #expect(told(peer) == ["op2 9 0"])
        alloc("aa")
        #expect(told(peer) == [])
        alloc()
        #expect(told(peer) == ["2 2", "3 3"])
        #expect(peer.call(.write, handle: 2, size: 4, payload: [1, 2, 3, 4]).outcome == "ok")
        #expect(other.call(.read, name: "a", size: 4).payload == [1, 2, 3, 4])
        open(peer, 4, "c")
        other.call(.rename, name: "a", payload: Array("c".utf8))
        #expect(told(peer) == ["4 4"])
        // Under its new name it is there already; `a` is not.
        open(peer, 5, "a")
        open(peer, 6, "c")
        #expect(told(peer) == ["6 5"])
        other.call(.rename, flags: 1, name: "b", payload: Array("a".utf8))
        #expect(told(peer) == ["5 6"])
        checkEmpty()
    }

    @Test("the reply tells type and size, and a wait ends by its time, a cancel or a stop")
    func ends() {
        let peer = daemon.greeted()
        open(peer, 1, milliseconds: 0)
        #expect(told(peer) == ["1 noData"])
        open(peer, 2, milliseconds: 5)
        open(peer, 3)
        open(peer, 4, milliseconds: .max >> 1)
        #expect(told(peer) == [])
        daemon.expireWaits()
        // What is beyond the clock's end is for ever.
        #expect(told(peer) == ["2 noData"])
        peer.feed(frame(.cancel, cookie: 8, payload: numbers(3)))
        #expect(Set(told(peer)) == ["op17 8 0", "3 cancelled"])
        open(peer, 5)
        #expect(peer.cancelWaits())
        #expect(Set(told(peer)) == ["4 cancelled", "5 cancelled"])
        open(peer, 6)
        alloc(size: 12)
        daemon.tellWaits()
        let reply = (replies(in: peer.output) ?? []).first
        #expect(reply?.header.type == 5 && reply?.header.size == 12)
        peer.output = []
        checkEmpty()
    }

    @Test("a name with a bad byte is refused, and is not waited for")
    func names() {
        let peer = daemon.greeted()
        for name in ["a b", "\u{7f}", String(repeating: "x", count: 254) + "\n"] {
            open(peer, 1, name)
            #expect(told(peer) == ["1 invalidName"])
        }
        let long = String(repeating: "x", count: 255)
        open(peer, 2, long)
        alloc(long)
        #expect(told(peer) == ["2 1"])
        checkEmpty()
    }

    @Test("a name that goes again before the reply is opened all the same, and has no data")
    func gone() {
        let peer = daemon.greeted()
        open(peer, 1)
        open(peer, 2, "t")
        alloc()
        #expect(other.call(.dispose, name: "a").outcome == "ok")
        alloc()
        alloc("t", size: 8)
        other.call(.rename, name: "t", payload: Array("u".utf8))
        #expect(told(peer) == ["1 1", "2 2"])
        #expect(peer.call(.read, handle: 1, size: 4).status == .noData)
        #expect(peer.call(.close, handle: 1).outcome == "ok")
        #expect(other.call(.write, name: "u", size: 1, payload: [7]).outcome == "ok")
        #expect(peer.call(.read, handle: 2, size: 1).payload == [7])
        checkEmpty()
    }

    @Test("one that waits for a frozen one is ended by a freeze, or by a rename of what is frozen")
    func frozen() {
        let peer = daemon.greeted()
        open(peer, 1, flags: 2)
        open(peer, 2, flags: 3)
        alloc()
        #expect(told(peer) == [])
        open(peer, 3, flags: 2)
        open(peer, 4, flags: 2, milliseconds: 0)
        #expect(told(peer) == ["4 noData"])
        #expect(other.call(.freeze, name: "a").outcome == "ok")
        #expect(told(peer) == ["1 1", "2 2", "3 3"])
        open(peer, 5, flags: 2)
        #expect(told(peer) == ["5 4"])
        alloc("b")
        open(peer, 6, "b", flags: 2)
        open(peer, 7, "c", flags: 1)
        open(peer, 8, "c", flags: 2)
        other.call(.rename, name: "b", payload: Array("d".utf8))
        other.call(.freeze, name: "d")
        #expect(told(peer) == [])
        other.call(.rename, name: "d", payload: Array("c".utf8))
        #expect(told(peer) == ["7 5", "8 6"])
        other.call(.rename, flags: 1, name: "a", payload: Array("b".utf8))
        #expect(told(peer) == ["6 7"])
        checkEmpty()
    }

    @Test("one that is frozen off the loop, and mapped, is told of when that is done")
    func frozenMapped() throws {
        let mapper = daemon.greeted(mapping: true)
        let peer = daemon.greeted()
        #expect(other.call(.alloc, flags: 6, type: 5, name: "m", size: 8192).outcome == "ok")
        #expect(mapper.call(.map, name: "m").outcome == "ok")
        open(peer, 1, "m", flags: 2)
        other.moves = false
        other.feed(frame(.freeze, cookie: 2, name: "m"))
        let pending = other.session.work
        let work = try #require(pending)
        open(peer, 3, "m", flags: 2, milliseconds: 0)
        #expect(told(peer) == ["3 noData"], "it may fail yet")
        while !work.run() {}
        other.session.finish(daemon.loop)
        other.take()
        #expect(told(peer) == ["1 1"])
        other.moves = true
        checkEmpty()
    }

    @Test("a connection that ends takes its waits along, told of or not")
    func closes() {
        let base = daemon.settledSize
        for isTold in [false, true] {
            let peer = daemon.greeted()
            let second = daemon.greeted()
            for cookie in UInt64(1)...3 {
                open(peer, cookie)
                open(second, cookie)
            }
            close(peer)
            #expect(daemon.registry.waits.checkInvariants() == 3)
            alloc()
            // Ended, and in the mailbox when the connection goes.
            if isTold { daemon.loop.waits.collect() }
            close(second)
            daemon.tellWaits()
            #expect(other.call(.dispose, name: "a").outcome == "ok")
            checkEmpty()
        }
        close(other)
        #expect(daemon.settledSize <= base)
        #expect(daemon.settledSize == 0)
    }

    @Test("limits: waits of a connection, handles when it is over, memory for both")
    func limits() {
        let small = TestDaemon {
            $0.memorySizeMax = 1 << 20
            $0.handlesMax = 2
        }
        let (peer, maker) = (small.greeted(), small.greeted())
        for cookie in UInt64(0)..<4 { open(peer, cookie) }
        maker.call(.alloc, flags: 2, type: 1, name: "a", size: 1)
        small.tellWaits()
        let found = (replies(in: peer.output) ?? []).map(\.status)
        #expect(found == [.ok, .ok, .handleLimit, .handleLimit])
        peer.output = []
        let third = small.greeted()
        var refused: [Status: Int] = [:]
        let long = String(repeating: "n", count: 250)
        for cookie in UInt64(0)..<5000 {
            open(third, cookie, long)
            for reply in replies(in: third.output) ?? [] { refused[reply.status, default: 0] += 1 }
            third.output = []
        }
        #expect(refused[.memoryLimit, default: 0] > 1000, "\(refused)")
        #expect(refused.count == 1)
        close(third)
        small.registry.checkInvariants()
        let many = daemon.greeted()
        for cookie in UInt64(0)..<UInt64(Limits.waitsMax) { open(many, cookie) }
        #expect(told(many) == [])
        open(many, 9999)
        #expect(told(many) == ["9999 waitLimit"])
        close(many)
        checkEmpty()
    }

    @Test("thousands that wait for one name are ended in parts, the oldest first")
    func many() {
        let peers = (0..<3).map { _ in daemon.greeted() }
        for cookie in UInt64(1)...1500 {
            for peer in peers { open(peer, cookie) }
        }
        #expect(daemon.registry.waits.checkInvariants() == 4500)
        alloc()
        daemon.registry.mappings.drain()
        for peer in peers {
            #expect(told(peer) == (1...1500).map { "\($0) \($0)" })
        }
        #expect(other.call(.dispose, name: "a").outcome == "ok")
        checkEmpty()
    }

    @Test("a line that waits holds those behind it, and opens nothing")
    func lines() {
        let line = daemon.connect()
        line.feed("await a -1\nping\n")
        #expect(line.output == [] && line.isHeldByWait)
        alloc()
        daemon.tellWaits()
        #expect(String(decoding: line.output, as: UTF8.self) == "OK\nOK pong\n")
        #expect(line.openHandles == 0)
        line.output = []
        line.feed("await b -1\n")
        #expect(line.cancelWaits())
        #expect(line.output == Array("ERR cancelled Error: the request was cancelled\n".utf8))
        line.feed("await b 5\nping\n")
        line.output = []
        daemon.expireWaits()
        #expect(
            String(decoding: line.output, as: UTF8.self)
                == "ERR noData Error: object has no external array data\nOK pong\n")
        checkEmpty()
    }
}
