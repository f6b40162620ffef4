// Leases: what counts as a use, that none ends too early, and that nothing is left of what has.

import Dispatch
import SmallocSystem
import SmallocWire
import Synchronization
import Testing
import TestSupport

@testable import SmallocCore

/// A clock that a test moves.
final class TestClock: Sendable {
    private let nanoseconds: Atomic<UInt64>

    init(_ start: UInt64 = 1_000_000_000) { nanoseconds = Atomic(start) }

    var now: UInt64 { nanoseconds.load(ordering: .relaxed) }

    func advance(milliseconds: UInt64) {
        nanoseconds.wrappingAdd(milliseconds * 1_000_000, ordering: .relaxed)
    }
}

/// A description as it follows the name of a leased alloc.
func leaseDescription(
    _ milliseconds: UInt64, shape: [UInt64]? = nil, metadata: [UInt8] = []
) -> [UInt8] {
    numbers(shape.map { UInt64($0.count) } ?? .max) + (shape ?? []).flatMap { numbers($0) }
        + numbers(milliseconds) + [UInt8(metadata.count), 0] + metadata
}

extension TestPeer {
    /// Makes an allocation with a lease, without a handle.
    @discardableResult
    func lease(_ name: String, _ milliseconds: UInt64, size: UInt64 = 8, flags: UInt8 = 2) -> Status
    {
        call(
            .alloc, flags: 48 | flags, type: 2, name: name, size: size,
            payload: leaseDescription(milliseconds)
        ).status
    }

    /// Whether there is one of that name; to ask is no use.
    func isThere(_ name: String) -> Bool { call(.stat, name: name).status == .ok }

    /// Lease and what is left of it, as stat tells them.
    func leaseNumbers(_ name: String) -> [UInt64] {
        let payload = call(.stat, name: name).payload.dropFirst(name.utf8.count)
        let reply = Reply(header: FrameHeader(magic: 0, operation: 0), payload: Array(payload))
        return [reply.number(5), reply.number(6)]
    }

    /// The connection ends.
    func end() {
        session.end(loop)
        isClosed = true
    }
}

@Suite("Leases", .timed(seconds: 120))
struct LeaseTests {
    private let daemon: TestDaemon
    private let clock: TestClock
    private let peer: TestPeer

    init() {
        daemon = TestDaemon()
        clock = TestClock()
        daemon.registry.leases.clock = { [clock] in clock.now }
        peer = daemon.greeted()
    }

    /// Time passes, and what is due ends.
    private func pass(_ milliseconds: UInt64) {
        clock.advance(milliseconds: milliseconds)
        while !daemon.registry.expireSome(atMost: 7) {}
        daemon.registry.checkInvariants()
    }

    private func checkEmpty() {
        #expect(daemon.registry.leases.checkInvariants() == (0, 0))
        #expect(daemon.registry.budget.allocationCount == 0)
        #expect(daemon.settledSize == 0)
    }

    @Test("one that is not used ends after its time, and not before")
    func ends() {
        #expect(peer.lease("a", 100) == .ok)
        #expect(peer.lease("b", 1, size: 100_000) == .ok)
        #expect(daemon.registry.nextLease == clock.now + 1_000_000)
        pass(1)
        #expect(!peer.isThere("b") && peer.isThere("a"))
        pass(98)
        #expect(peer.isThere("a"))
        #expect(peer.leaseNumbers("a") == [100, 1])
        pass(1)
        #expect(peer.call(.stat, name: "a").status == .noData)
        // The name is free.
        #expect(peer.lease("a", 5) == .ok)
        pass(5)
        #expect(daemon.registry.nextLease == nil)
        checkEmpty()
    }

    @Test("a request by name is a use; to be told about or refused to is none")
    func uses() {
        let uses: [(String, (TestPeer) -> Status)] = [
            ("read", { $0.call(.read, name: "a", size: 1).status }),
            ("write", { $0.call(.write, name: "a", size: 1, payload: [1]).status }),
            ("fill", { $0.call(.fill, name: "a", size: 1, payload: [1]).status }),
            ("copy", { $0.call(.copy, name: "a", payload: copyDest(0, name: "a")).status }),
            ("truncate", { $0.call(.truncate, name: "a", size: 8).status }),
            ("rename", { $0.call(.rename, name: "a", payload: Array("a".utf8)).status }),
            ("freeze", { $0.call(.freeze, name: "a").status }),
        ]
        for (what, use) in uses {
            peer.lease("a", 100)
            pass(60)
            #expect(use(peer) == .ok, "\(what)")
            #expect(peer.leaseNumbers("a") == [100, 100], "\(what)")
            pass(99)
            #expect(peer.isThere("a"), "\(what)")
            pass(1)
            #expect(!peer.isThere("a"), "\(what)")
        }
        peer.lease("a", 100)
        pass(99)
        peer.call(.stat, name: "a")
        peer.call(.list)
        #expect(peer.lease("a", 1000) == .alreadyExists)
        #expect(peer.call(.alloc, type: 2, name: "a", size: 70_000).status == .alreadyExists)
        pass(1)
        #expect(!peer.isThere("a"))
        checkEmpty()
    }

    @Test("what is used between the look at its lease and its end stays")
    func lateUse() throws {
        let registry = daemon.registry
        #expect(peer.lease("a", 2000) == .ok)
        let found = try #require(Array("a".utf8).withUnsafeBytes { registry.find($0) })
        clock.advance(milliseconds: 2000)
        let handle = peer.call(.open, name: "a").header.handle
        #expect(!registry.disposeNow(found, ifUnusedAt: clock.now))
        // Its end is a use, too.
        peer.call(.close, handle: handle)
        #expect(!registry.disposeNow(found, ifUnusedAt: clock.now))
        clock.advance(milliseconds: 2000)
        #expect(registry.disposeNow(found, ifUnusedAt: clock.now))
        registry.releaseQuietly(found)
        #expect(!peer.isThere("a"))
        checkEmpty()
    }

    @Test("an open handle keeps it, and its time begins when the last one closes")
    func handles() {
        let other = daemon.greeted()
        #expect(peer.lease("a", 2000, flags: 0) == .ok)
        let second = other.call(.open, name: "a").header.handle
        pass(50_000)
        #expect(peer.leaseNumbers("a") == [2000, 2000])
        peer.call(.close, handle: 1)
        pass(50_000)
        #expect(peer.isThere("a"))
        other.call(.close, handle: second)
        pass(1999)
        #expect(peer.leaseNumbers("a") == [2000, 1])
        pass(1)
        #expect(!peer.isThere("a"))
        // The end of a connection closes, too, also of many handles, on another thread.
        for count in [1, 200] {
            let third = daemon.greeted()
            peer.lease("a", 2000)
            for _ in 0..<count { third.call(.open, name: "a") }
            pass(10_000)
            third.end()
            daemon.registry.mappings.drain()
            pass(1999)
            #expect(peer.isThere("a"))
            pass(1)
            #expect(!peer.isThere("a"))
        }
        checkEmpty()
    }

    @Test("a lease that is shorter than a second may be a second late after a use")
    func short() {
        peer.lease("a", 5, flags: 0)
        pass(5)
        peer.call(.close, handle: 1)
        pass(4)
        #expect(peer.isThere("a"))
        pass(1000)
        #expect(!peer.isThere("a"))
        checkEmpty()
    }

    @Test("waits and transfers that are under way are uses")
    func underWay() {
        let other = daemon.greeted()
        #expect(
            peer.call(
                .alloc, flags: 50, type: 5, name: "a", size: 200_000,
                payload: leaseDescription(3000)
            ).status == .ok)
        other.feed(frame(.wait, cookie: 1, name: "a", size: .max, payload: [0, 0, 0, 0]))
        pass(10_000)
        #expect(peer.isThere("a"))
        other.feed(frame(.cancel, payload: numbers(1)))
        pass(2999)
        #expect(peer.isThere("a"))
        other.moves = false
        other.feed(frame(.read, name: "a", size: 200_000))
        pass(10_000)
        #expect(peer.isThere("a"))
        other.moves = true
        other.run()
        pass(2999)
        #expect(peer.isThere("a"))
        pass(1)
        #expect(!peer.isThere("a"))
        // An open that waits has it as it appears.
        other.feed(frame(.open, flags: 1, cookie: 3, name: "a", size: .max))
        peer.lease("a", 3000)
        pass(10_000)
        #expect(peer.isThere("a"))
        daemon.tellWaits()
        other.end()
        pass(3000)
        #expect(!peer.isThere("a"))
        checkEmpty()
    }

    @Test("a map keeps it, and its time begins when that is seen to be gone")
    func maps() {
        let mapper = daemon.greeted(mapping: true)
        #expect(peer.lease("m", 500, size: 8192, flags: 6) == .ok)
        var map = TestMap(mapper, "m")
        #expect(map != nil)
        for _ in 0..<5 {
            pass(1000)
            #expect(peer.leaseNumbers("m") == [500, 500])
        }
        map = nil
        pass(499)
        #expect(peer.isThere("m"))
        // Seen within a second, and over after its time.
        pass(501)
        #expect(peer.isThere("m"))
        pass(500)
        #expect(!peer.isThere("m"))
        checkEmpty()
    }

    @Test("a lease stays over renames, and goes with the memory that takes a place")
    func renames() {
        let long = String(repeating: "l", count: 200)
        peer.lease("a", 1000)
        peer.lease("b", 5000)
        peer.call(.alloc, flags: 2, type: 2, name: "c", size: 8)
        peer.call(.rename, name: "a", payload: Array(long.utf8))
        #expect(peer.leaseNumbers(long) == [1000, 1000])
        peer.call(.rename, flags: 1, name: long, payload: Array("b".utf8))
        #expect(peer.leaseNumbers("b") == [1000, 1000])
        peer.call(.rename, flags: 1, name: "c", payload: Array("b".utf8))
        #expect(peer.leaseNumbers("b") == [.max, .max])
        pass(100_000)
        #expect(peer.isThere("b"))
        peer.lease("d", 1000)
        peer.call(.rename, flags: 1, name: "d", payload: Array("b".utf8))
        pass(1000)
        #expect(!peer.isThere("b"))
        checkEmpty()
    }

    @Test("a lease of a connection ends with it, whatever its name, and whoever has it open")
    func connections() {
        let other = daemon.greeted()
        for count in [1, 64, 65, 300] {
            let owner = daemon.greeted()
            for index in 0..<count {
                #expect(owner.lease("o/\(index)", 0, flags: index % 2 == 0 ? 2 : 0) == .ok)
            }
            #expect(owner.call(.alloc, flags: 18, type: 2, name: "plain", size: 8).status == .ok)
            #expect(peer.leaseNumbers("plain") == [0, .max])
            #expect(other.lease("theirs", 0) == .ok)
            other.call(.rename, name: "o/0", payload: Array("renamed".utf8))
            let handle = other.call(.open, name: "renamed").header.handle
            if count > 1 { other.call(.dispose, name: "o/1") }
            pass(1_000_000)
            #expect(peer.isThere("renamed") && peer.isThere("plain"))
            owner.end()
            daemon.registry.mappings.drain()
            #expect(other.call(.read, handle: handle, size: 1).status == .noData)
            #expect(daemon.registry.budget.allocationCount == 1)
            #expect(other.call(.dispose, name: "theirs").status == .ok)
            #expect(daemon.registry.leases.checkInvariants() == (0, 0))
            other.call(.close, handle: handle)
        }
        other.end()
        peer.end()
        checkEmpty()
    }

    @Test("a shape and metadata stand beside a lease")
    func described() {
        for metadata in [[], [7], [UInt8](repeating: 9, count: 255)] {
            let reply = peer.call(
                .alloc, flags: 50, type: 10, name: "d", size: 48,
                payload: leaseDescription(9000, shape: [2, 3], metadata: metadata))
            #expect(reply.status == .ok)
            let stat = peer.call(.stat, name: "d").payload
            #expect(Array(stat.suffix(metadata.count)) == metadata)
            #expect(peer.leaseNumbers("d") == [9000, 9000])
            // 16, leased, and 32, described.
            #expect(stat[1 + 24] == 48)
            let data = (0..<48).map { UInt8($0) }
            peer.call(.write, name: "d", size: 48, payload: data)
            #expect(peer.call(.read, name: "d", size: 48).payload == data)
            pass(9000)
            #expect(!peer.isThere("d"))
        }
        peer.lease("plain", 10)
        #expect(peer.call(.stat, name: "plain").payload[5 + 24] == 16)
        peer.call(.dispose, name: "plain")
        checkEmpty()
    }

    @Test("times beyond all clocks are no end, and overflow nothing")
    func hostile() {
        let late = TestDaemon()
        let clock = TestClock(.max - 5_000_000)
        late.registry.leases.clock = { clock.now }
        for daemon in [daemon, late] {
            let peer = daemon.greeted()
            let times: [UInt64] = [1 << 63, .max - 1, .max / 1_000_000, 1 << 44]
            for (index, time) in times.enumerated() {
                #expect(peer.lease("h\(index)", time) == .ok)
                #expect(peer.leaseNumbers("h\(index)") == [time, time])
            }
            #expect(peer.lease("forever", .max) == .ok)
            #expect(peer.leaseNumbers("forever") == [.max, .max])
            while !daemon.registry.expireSome(atMost: 7) {}
            daemon.registry.checkInvariants()
            #expect(daemon.registry.budget.allocationCount == 5)
            for index in 0..<4 { #expect(peer.call(.dispose, name: "h\(index)").status == .ok) }
            peer.call(.dispose, name: "forever")
            #expect(daemon.settledSize == 0)
        }
    }

    @Test("a clock at its end ends nothing too early")
    func lastMoment() {
        let daemon = TestDaemon()
        let clock = TestClock(.max - 5_000_000)
        daemon.registry.leases.clock = { clock.now }
        let peer = daemon.greeted()
        #expect(peer.lease("a", 4) == .ok)
        #expect(peer.lease("b", 4, flags: 0) == .ok)
        clock.advance(milliseconds: 4)
        while !daemon.registry.expireSome(atMost: 7) {}
        #expect(!peer.isThere("a") && peer.isThere("b"))
        daemon.registry.checkInvariants()
    }

    @Test("leases are charged, and refused at the memory limit with nothing left")
    func memory() {
        let small = TestDaemon { $0.memorySizeMax = 1 << 20 }
        let peer = small.greeted()
        var made = 0
        var refused = 0
        for index in 0..<20_000 {
            switch peer.lease("m\(index)", UInt64(1000 + index)) {
            case .ok: made += 1
            case .memoryLimit: refused += 1
            default: Issue.record("another error")
            }
        }
        #expect(made > 1000 && refused > 1000)
        #expect(small.registry.leases.checkInvariants().timed == made)
        for index in 0..<20_000 { peer.call(.dispose, name: "m\(index)") }
        small.registry.checkInvariants()
        for index in 0..<20_000 where peer.lease("c\(index)", 0) == .ok { made += 1 }
        peer.end()
        small.registry.mappings.drain()
        #expect(small.registry.leases.checkInvariants() == (0, 0))
        #expect(small.settledSize == 0)
    }

    @Test("many that are over at once end in slices on another thread, which then tells the next")
    func many() {
        let told = Atomic<Int>(0)
        daemon.registry.onLease { told.add(1, ordering: .relaxed) }
        let count = Scale.count(20_000)
        for index in 0..<count { peer.lease("n\(index)", 1000) }
        peer.lease("last", 60_000)
        // Once for the first: all others are later.
        #expect(told.load(ordering: .relaxed) == 1)
        daemon.registry.expireLeases()
        daemon.registry.mappings.drain()
        #expect(daemon.registry.budget.allocationCount == UInt64(count + 1))
        #expect(told.load(ordering: .relaxed) == 2, "it was too early")
        clock.advance(milliseconds: 1000)
        daemon.registry.expireLeases()
        daemon.registry.mappings.drain()
        #expect(daemon.registry.budget.allocationCount == 1)
        #expect(told.load(ordering: .relaxed) == 3)
        #expect(daemon.registry.nextLease == clock.now + 59_000_000_000)
        pass(59_000)
        checkEmpty()
    }

    @Test("an anonymous one goes with its handle, and has its lease once it is named")
    func anonymous() {
        let handle = peer.call(
            .alloc, flags: 48, type: 2, size: 8, payload: leaseDescription(100)
        ).header.handle
        pass(10_000)
        #expect(peer.call(.read, handle: handle, size: 8).status == .ok)
        peer.call(.close, handle: handle)
        checkEmpty()
        let second = peer.call(
            .alloc, flags: 48, type: 2, size: 8, payload: leaseDescription(2000)
        ).header.handle
        peer.call(.rename, handle: second, payload: Array("named".utf8))
        peer.call(.close, handle: second)
        pass(1999)
        #expect(peer.isThere("named"))
        pass(1)
        #expect(!peer.isThere("named"))
        checkEmpty()
    }
}
