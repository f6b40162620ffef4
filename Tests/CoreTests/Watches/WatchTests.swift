// watch: what it tells, when it is answered, and what is given back.

import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

/// An event of a reply.
struct ToldEvent: Equatable, CustomStringConvertible {
    var kind: EventKind
    var name: String
    var newName = ""

    var description: String { "\(kind) \(name)" + (newName.isEmpty ? "" : " \(newName)") }

    func matches(_ prefix: String) -> Bool {
        name.hasPrefix(prefix) || (!newName.isEmpty && newName.hasPrefix(prefix))
    }
}

extension Reply {
    /// The events of a reply to a watch; nil if it is none.
    var events: [ToldEvent]? {
        var events: [ToldEvent] = []
        var rest = payload[...]
        while !rest.isEmpty {
            let head = Array(rest.prefix(3))
            guard head.count == 3, let kind = EventKind(rawValue: head[0]) else { return nil }
            rest = rest.dropFirst(3)
            let (size, newSize) = (Int(head[1]), Int(head[2]))
            guard rest.count >= size + newSize else { return nil }
            let name = String(decoding: rest.prefix(size), as: UTF8.self)
            rest = rest.dropFirst(size)
            let newName = String(decoding: rest.prefix(newSize), as: UTF8.self)
            rest = rest.dropFirst(newSize)
            events.append(ToldEvent(kind: kind, name: name, newName: newName))
        }
        return events
    }
}

@Suite("Watches", .timed)
struct WatchTests {
    private final class World {
        let daemon: TestDaemon
        let peer: TestPeer
        let other: TestPeer

        init(_ change: (inout Limits) -> Void = { _ in }) {
            daemon = TestDaemon { change(&$0) }
            peer = daemon.greeted(mapping: true)
            other = daemon.greeted(mapping: true)
        }

        /// The cursor of now.
        var now: UInt64 { peer.call(.watch).header.offset }

        func watch(
            _ cookie: UInt64, _ prefix: String = "", from cursor: UInt64 = 0,
            milliseconds: UInt64 = .max, on peer: TestPeer? = nil
        ) {
            (peer ?? self.peer).feed(
                frame(.watch, cookie: cookie, name: prefix, offset: cursor, size: milliseconds))
        }

        /// What has been answered since the last call: cookies, and events or statuses.
        func told(_ peer: TestPeer? = nil) -> [String] {
            daemon.tellWaits()
            let peer = peer ?? self.peer
            defer { peer.output = [] }
            return (replies(in: peer.output) ?? []).map { reply in
                guard reply.status == .ok else {
                    return "\(reply.header.cookie) \(reply.status.name)"
                }
                let events = reply.events.map { $0.map(\.description).joined(separator: ", ") }
                return "\(reply.header.cookie) \(events ?? "?")"
            }
        }

        func checkEmpty() {
            #expect(daemon.loop.waits.watches.checkInvariants() == 0)
            daemon.loop.waits.deadlines.checkInvariants()
            #expect(daemon.loop.waits.deadlines.count == 0)
        }
    }

    @Test("a watch that has ended and can't be answered yet is not ended again by its time")
    func endedOnce() {
        for closes in [false, true] {
            let world = World()
            var peer: TestPeer? = world.daemon.greeted()
            world.other.call(.alloc, flags: 2, type: 2, name: "big", size: 4 << 20)
            world.watch(1, "a/", milliseconds: 2000, on: peer)
            world.watch(2, "z/", milliseconds: 1_000_000, on: peer)
            // Its reply stands in the way.
            peer?.moves = false
            peer?.feed(frame(.read, cookie: 3, name: "big", size: 4 << 20))
            world.other.call(.alloc, flags: 2, type: 2, name: "a/1", size: 8)
            world.daemon.tellWaits()
            while !world.daemon.loop.waits.expire(now: Clock.now + 3_000_000_000) {}
            #expect(world.daemon.loop.waits.watches.checkInvariants() == 1)
            world.daemon.tellWaits()
            if !closes {
                peer?.moves = true
                peer?.run()
                world.daemon.tellWaits()
                let told = replies(in: peer?.output ?? []) ?? []
                #expect(told.map(\.header.cookie) == [3, 1])
                peer?.output = []
                world.other.call(.alloc, flags: 2, type: 2, name: "z/1", size: 8)
                #expect(world.told(peer) == ["2 allocated z/1"])
            }
            peer = nil
            world.checkEmpty()
        }
    }

    @Test("a watch that begins behind an event keeps no other from being told of it")
    func behind() {
        let world = World()
        world.watch(1, "a/")
        #expect(world.told() == [])
        world.other.feed(
            frame(.alloc, flags: 2, type: 2, cookie: 2, name: "a/1", size: 8)
                + frame(.watch, cookie: 3, name: "b/", size: .max))
        #expect(world.told() == ["1 allocated a/1"])
    }

    @Test("each change of a name is an event, and nothing else is")
    func kinds() {
        let world = World()
        let start = world.now
        let peer = world.other
        peer.call(.alloc, type: 2, name: "a", size: 8)
        peer.call(.alloc, type: 2, name: "a", size: 8)
        peer.call(.write, name: "a", size: 1, payload: [1])
        peer.call(.rename, name: "a", payload: Array("b".utf8))
        peer.call(.rename, name: "b", payload: Array("b".utf8))
        peer.call(.truncate, name: "b", size: 4)
        peer.call(.truncate, name: "b", size: 4)
        peer.call(.truncate, name: "b", size: 5)
        peer.call(.freeze, name: "b")
        peer.call(.freeze, name: "b")
        let anonymous = peer.call(.alloc, type: 2, size: 8).header.handle
        peer.call(.truncate, handle: anonymous, size: 4)
        peer.call(.rename, handle: anonymous, payload: Array("b".utf8))
        peer.call(.rename, handle: anonymous, payload: Array("c".utf8))
        peer.call(.rename, flags: 1, name: "b", payload: Array("c".utf8))
        let second = peer.call(.alloc, type: 2, size: 8).header.handle
        peer.call(.rename, flags: 1, handle: second, payload: Array("c".utf8))
        peer.call(.rename, flags: 1, handle: second, payload: Array("d".utf8))
        peer.call(.dispose, handle: second)
        let third = peer.call(.alloc, type: 2, size: 8).header.handle
        peer.call(.close, handle: third)
        peer.call(.alloc, type: 2, size: 8)
        peer.session.end(world.daemon.loop)
        peer.isClosed = true
        let reply = world.peer.call(.watch, offset: start)
        #expect(
            reply.events?.map(\.description) == [
                "allocated a", "renamed a b", "truncated b", "frozen b", "allocated c",
                "replaced b c", "replaced c c", "renamed c d", "disposed d",
            ])
        #expect(reply.header.offset == start + 9 && reply.header.size == 0)
    }

    @Test(
        "memory that clients map is told of, too: truncated, frozen once it is sealed, disposed of")
    func shared() {
        let world = World()
        let start = world.now
        world.other.call(.alloc, flags: 4, type: 2, name: "s", size: 1 << 20)
        world.other.call(.map, handle: 1)
        world.other.call(.truncate, name: "s", size: 1 << 19)
        #expect(world.other.call(.freeze, name: "s").outcome == "ok")
        #expect(world.other.call(.freeze, name: "s").outcome == "ok")
        world.other.call(.dispose, handle: 1)
        #expect(
            world.peer.call(.watch, offset: start).events?.map(\.description) == [
                "allocated s", "truncated s", "frozen s", "disposed s",
            ])
    }

    @Test("what waits is told once a name with its prefix changes")
    func waits() {
        let world = World()
        world.watch(1, "cam/")
        world.watch(2)
        world.watch(3, "x")
        #expect(world.told() == [])
        world.other.call(.alloc, flags: 2, type: 2, name: "mic/1", size: 1)
        #expect(world.told() == ["2 allocated mic/1"])
        world.other.call(.rename, name: "mic/1", payload: Array("cam/1".utf8))
        #expect(world.told() == ["1 renamed mic/1 cam/1"])
        world.watch(4, "mic/", from: 0)
        world.other.call(.rename, name: "cam/1", payload: Array("mic/2".utf8))
        world.other.call(.dispose, name: "mic/2")
        #expect(world.told() == ["4 renamed cam/1 mic/2, disposed mic/2"])
        world.peer.feed(frame(.cancel, cookie: 9, payload: numbers(3)))
        #expect(Set(world.told()) == ["9 ", "3 cancelled"])
        world.checkEmpty()
    }

    @Test("a time ends a watch without events, with a cursor that goes on")
    func times() {
        let world = World()
        let start = world.now
        world.watch(1, "cam/", milliseconds: 5)
        world.watch(2, milliseconds: 0)
        #expect(world.told() == ["2 "])
        world.other.call(.alloc, flags: 2, type: 2, name: "mic/1", size: 1)
        #expect(world.told() == [])
        world.daemon.expireWaits()
        let reply = replies(in: world.peer.output)?.first
        #expect(reply?.header.cookie == 1 && reply?.payload == [])
        // The event that it passed over need not be looked at again.
        #expect(reply?.header.offset == start + 1)
        world.checkEmpty()
    }

    @Test("a foreign cursor is answered at once, whatever it may wait, and tells where now is")
    func foreign() {
        let world = World()
        let now = world.now
        for cursor in [1, now + 1, now ^ 1 << 63, .max] {
            let reply = world.peer.call(.watch, offset: cursor, size: .max)
            #expect(reply.header.size == .max && reply.header.offset == now)
            #expect(reply.payload == [])
        }
        #expect(world.peer.call(.watch, offset: now, size: 0).header.size == 0)
    }

    @Test("a reply has its bound, and the next one goes on behind it")
    func bounds() {
        let world = World()
        let start = world.now
        let long = String(repeating: "n", count: 250)
        for name in (0..<1500).map({ "s\($0)" }) + (0..<400).map({ "\(long)\($0)" }) {
            world.other.call(.alloc, flags: 2, type: 2, name: name, size: 1)
        }
        var cursor = start
        var counts: [Int] = []
        while let reply = Optional(world.peer.call(.watch, offset: cursor)), !reply.payload.isEmpty
        {
            #expect(reply.payload.count <= 65_536 && reply.header.size == 0)
            counts.append(reply.events?.count ?? 0)
            cursor = reply.header.offset
            #expect(cursor == start + UInt64(counts.reduce(0, +)))
        }
        #expect(counts.first == 1024 && counts.reduce(0, +) == 1900 && counts.count == 3)
    }

    @Test("thousands that end at once are answered in parts, and each once")
    func many() {
        let world = World()
        let long = String(repeating: "n", count: 255)
        let start = world.now
        for cookie in 1...UInt64(Limits.waitsMax) {
            world.watch(cookie, from: start)
        }
        world.watch(9999)
        #expect(world.told() == ["9999 waitLimit"])
        for index in 0..<300 {
            let name = String(long.dropLast(4)) + String(1000 + index)
            world.other.call(.alloc, flags: 2, type: 2, name: name, size: 1)
        }
        world.daemon.tellWaits()
        let found = replies(in: world.peer.output) ?? []
        #expect(Set(found.map(\.header.cookie)).count == Limits.waitsMax)
        #expect(found.count == Limits.waitsMax)
        #expect(world.peer.largestOutput <= Thresholds.batchSizeMax + 66_000)
        #expect(world.peer.pauses + world.peer.turns > 100)
        world.checkEmpty()
    }

    @Test("a text session waits by lines, which come in their order")
    func text() {
        let world = World()
        let peer = world.daemon.connect()
        let first = peer.line("watch 0")
        let start = first.split(separator: " ")[1]
        #expect(first == "OK \(start) 0")
        peer.feed("watch \(start) cam/ wait=-1\nping\n")
        world.daemon.tellWaits()
        #expect(peer.output == [] && peer.isHeldByWait)
        world.other.call(.alloc, flags: 2, type: 2, name: "cam/1", size: 1)
        world.daemon.tellWaits()
        let next = UInt64(start)! + 1
        #expect(
            String(decoding: peer.output, as: UTF8.self)
                == "EVENT allocated cam/1\nOK \(next) 0\nOK pong\n")
        #expect(
            peer.line("watch \(start)") == "EVENT allocated cam/1\nOK \(next) 0")
        #expect(peer.line("watch 1") == "OK \(next) \(UInt64.max)")
    }

    @Test("all that watches is charged, and given back with its connection")
    func charges() {
        let world = World()
        _ = world.now
        let before = world.daemon.registry.budget.usedSize
        #expect(before >= EventRing.charge)
        let peer = world.daemon.greeted()
        for cookie in 1...UInt64(100) {
            world.watch(
                cookie, String(repeating: "p", count: 200),
                milliseconds: cookie % 2 == 0 ? .max : 1 << 30, on: peer)
        }
        #expect(
            world.daemon.registry.budget.usedSize >= before + 100 * UInt64(Wait.size(nameSize: 200))
        )
        peer.session.end(world.daemon.loop)
        peer.isClosed = true
        #expect(world.daemon.registry.budget.usedSize == before)
        world.checkEmpty()
        // The loop is still to be woken: nothing comes of it.
        world.other.call(.alloc, flags: 2, type: 2, name: "a", size: 1)
        #expect(world.told() == [])
    }

    @Test("without memory for events a watch is refused, and all else goes on")
    func noMemory() {
        let world = World { $0.memorySizeMax = 1 << 20 }
        #expect(world.peer.call(.watch).status == .memoryLimit)
        #expect(world.peer.call(.watch, size: .max).status == .memoryLimit)
        #expect(world.peer.call(.alloc, flags: 2, type: 2, name: "a", size: 1).outcome == "ok")
    }
}

@Suite("Watches against a model", .timed(seconds: 120))
struct WatchModelTests {
    /// What a daemon should tell, as the specification has it.
    private struct Model {
        var names: [String: (size: UInt64, isFrozen: Bool)] = [:]
        var events: [ToldEvent] = []

        var oldest: Int { max(0, events.count - EventRing.capacity) }

        mutating func add(_ kind: EventKind, _ name: String, _ newName: String = "") {
            events.append(ToldEvent(kind: kind, name: name, newName: newName))
        }

        /// What a reply tells from an event on.
        func told(_ prefix: String, from number: Int) -> (missed: Int, [ToldEvent], next: Int) {
            let first = max(number, oldest)
            var told: [ToldEvent] = []
            var next = first
            while next < events.count {
                if events[next].matches(prefix) {
                    guard told.count < Limits.eventsMax else { break }
                    told.append(events[next])
                }
                next += 1
            }
            return (first - number, told, next)
        }
    }

    @Test("random changes and watches: each is told exactly what it should be, and what it missed")
    func random() {
        var random = SplitMix(for: "watches against a model")
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let other = daemon.greeted()
        let start = peer.call(.watch).header.offset
        var model = Model()
        let prefixes = ["", "a", "ab", "a/", "b", "zz", "a/long-name/"]
        var numbers = [Int](repeating: 0, count: prefixes.count)
        var missed = 0
        for round in 0..<Scale.count(12_000) {
            // Now and then so many that some are missed.
            let changes = round % 4000 == 3000 ? 45_000 : Int(random.next() % 4)
            for _ in 0..<changes { change(&model, other, &random) }
            let index = Int(random.next() % UInt64(prefixes.count))
            guard random.next() % 3 == 0 else { continue }
            let reply = peer.call(
                .watch, name: prefixes[index], offset: start + UInt64(numbers[index]))
            let told = model.told(prefixes[index], from: numbers[index])
            #expect(reply.header.size == UInt64(told.missed))
            #expect(reply.events == told.1)
            #expect(reply.header.offset == start + UInt64(told.next))
            missed += told.missed
            numbers[index] = told.next
        }
        #expect(missed > 0 || Scale.factor < 1)
    }

    private func change(_ model: inout Model, _ peer: TestPeer, _ random: inout SplitMix) {
        let names = ["a", "ab", "a/1", "a/long-name/2", "b", "b/1", "c"]
        let name = names[Int(random.next() % 7)]
        let other = names[Int(random.next() % 7)]
        switch random.next() % 8 {
        case 0...2:
            peer.call(.alloc, flags: 2, type: 2, name: name, size: 8)
            guard model.names[name] == nil else { return }
            model.names[name] = (8, false)
            model.add(.allocated, name)
        case 3, 4:
            peer.call(.dispose, name: name)
            if model.names.removeValue(forKey: name) != nil { model.add(.disposed, name) }
        case 5:
            let replaces = random.next() % 2 == 0
            peer.call(.rename, flags: replaces ? 1 : 0, name: name, payload: Array(other.utf8))
            guard let moved = model.names[name], name != other else { return }
            let isFree = model.names[other] == nil
            guard isFree || replaces else { return }
            model.names[name] = nil
            model.names[other] = moved
            model.add(isFree ? .renamed : .replaced, name, other)
        case 6:
            let size = random.next() % 9
            peer.call(.truncate, name: name, size: size)
            guard let old = model.names[name], !old.isFrozen, size < old.size else { return }
            model.names[name]?.size = size
            model.add(.truncated, name)
        default:
            peer.call(.freeze, name: name)
            guard let old = model.names[name], !old.isFrozen else { return }
            model.names[name]?.isFrozen = true
            model.add(.frozen, name)
        }
    }
}
