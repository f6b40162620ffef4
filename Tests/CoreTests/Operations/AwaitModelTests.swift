// Opens that wait among all that gives and takes names, against a model, and on several threads.

import Dispatch
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Random opens that wait", .timed(seconds: 120))
struct AwaitModelTests {
    private struct Asked: Hashable {
        var peer: Int
        var cookie: UInt64
        var name: String
        var isFrozen: Bool
        var hasTime: Bool
    }

    @Test("whatever happens to names, each open that waits is answered when it is to be")
    func model() {
        var random = SplitMix(for: "opens that wait")
        let daemon = TestDaemon()
        let other = daemon.greeted()
        var peers = (0..<4).map { _ in daemon.greeted() }
        /// Names, and whether what has them is frozen.
        var names: [String: Bool] = [:]
        var waiting: [Asked] = []
        var cookie: UInt64 = 0
        func told(_ index: Int) -> Set<String> {
            daemon.tellWaits()
            defer { peers[index].output = [] }
            return Set(
                (replies(in: peers[index].output) ?? []).map {
                    "\($0.header.cookie) \($0.status.name)"
                })
        }
        /// What has been answered must be just this.
        func check(_ expected: [(Asked, Status)], _ event: Int) {
            for index in peers.indices {
                let mine = expected.filter { $0.0.peer == index }
                let wanted = Set(mine.map { "\($0.0.cookie) \($0.1.name)" })
                let found = told(index)
                if found != wanted {
                    Issue.record(
                        "event \(event) of seed \(random.seed): \(found) and not \(wanted)")
                }
            }
        }
        func end(_ status: Status, where isEnded: (Asked) -> Bool) -> [(Asked, Status)] {
            let ended = waiting.filter(isEnded).map { ($0, status) }
            waiting.removeAll(where: isEnded)
            return ended
        }
        for event in 0..<Scale.count(20_000) {
            let name = ["a", "b", "c", "d/e"][Int(random.next() % 4)]
            var expected: [(Asked, Status)] = []
            func appeared(_ name: String, frozen: Bool) {
                names[name] = frozen
                expected += end(.ok) { $0.name == name && (frozen || !$0.isFrozen) }
            }
            switch random.next() % 16 {
            case 0...5:
                cookie += 1
                let asked = Asked(
                    peer: Int(random.next() % 4), cookie: cookie, name: name,
                    isFrozen: random.next() % 2 == 0, hasTime: random.next() % 3 == 0)
                let time = asked.hasTime ? random.next() % 2 * 1_000_000 : .max
                peers[asked.peer].feed(
                    frame(
                        .open, flags: asked.isFrozen ? 2 : 1, cookie: cookie, name: name,
                        size: time))
                if let isFrozen = names[name], isFrozen || !asked.isFrozen {
                    expected.append((asked, .ok))
                } else if time == 0 {
                    expected.append((asked, .noData))
                } else {
                    waiting.append(asked)
                }
            case 6...8:
                let size = random.next() % 4 == 0 ? 70_000 : 8
                let reply = other.call(
                    .alloc, flags: random.next() % 4 == 0 ? 6 : 2, type: 1, name: name,
                    size: UInt64(size))
                if names[name] == nil {
                    #expect(reply.status == .ok)
                    appeared(name, frozen: false)
                }
            case 9, 10:
                other.call(.dispose, name: name)
                names[name] = nil
            case 11, 12:
                let newName = ["a", "b", "c", "d/e"][Int(random.next() % 4)]
                let replaces = random.next() % 2 == 0
                other.call(
                    .rename, flags: replaces ? 1 : 0, name: name, payload: Array(newName.utf8))
                if let isFrozen = names[name], name != newName, replaces || names[newName] == nil {
                    names[name] = nil
                    appeared(newName, frozen: isFrozen)
                }
            case 13:
                other.call(.freeze, name: name)
                if names[name] != nil { appeared(name, frozen: true) }
            case 14:
                if random.next() % 4 == 0 {
                    daemon.expireWaits()
                    expected += end(.noData) { $0.hasTime }
                } else if let one = waiting.randomElement(using: &random) {
                    peers[one.peer].feed(frame(.cancel, cookie: 0, payload: numbers(one.cookie)))
                    var cancel = one
                    cancel.cookie = 0
                    expected += [(cancel, .ok)]
                    expected += end(.cancelled) { $0 == one }
                }
            default:
                let index = Int(random.next() % 4)
                if random.next() % 4 == 0 {
                    peers[index].session.end(daemon.loop)
                    peers[index].isClosed = true
                    peers[index] = daemon.greeted()
                    waiting.removeAll { $0.peer == index }
                }
            }
            check(expected, event)
            if event % 64 == 0 {
                #expect(daemon.registry.waits.checkInvariants() == waiting.count)
                daemon.registry.checkInvariants()
                daemon.loop.waits.deadlines.checkInvariants()
            }
        }
        for peer in peers + [other] {
            peer.session.end(daemon.loop)
            peer.isClosed = true
        }
        for name in names.keys { daemon.greeted().call(.dispose, name: name) }
        #expect(daemon.registry.waits.checkInvariants() == 0)
        #expect(daemon.settledSize == 0)
    }

    private struct Shared: @unchecked Sendable { let registry: Registry }

    @Test("names that come and go on one thread, waits and ends of connections on others")
    func races() {
        let seed = SplitMix(for: "races of opens that wait").seed
        let registry = Registry(limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 0)!
        let shared = Shared(registry: registry)
        let faults = Locked<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            var random = SplitMix(seed: seed &+ UInt64(thread) &* 1_000_003)
            let context = LoopContext(registry: shared.registry, index: thread)
            var peers = (0..<3).map { _ in TestPeer(context) }
            for peer in peers { peer.feed(frame(.hello)) }
            var asked = [0, 0, 0]
            func answered(_ index: Int) {
                context.tellWaits()
                for peer in peers.indices {
                    for reply in replies(in: peers[peer].output) ?? [] {
                        let isOpen = reply.header.operation == Operation.open.rawValue
                        if isOpen { asked[peer] -= 1 }
                        if isOpen, reply.status == .ok {
                            peers[peer].feed(frame(.close, handle: reply.header.handle))
                        }
                    }
                    peers[peer].output = []
                }
            }
            for _ in 0..<Scale.count(6000) {
                let name = ["a", "b"][Int(random.next() % 2)]
                let index = Int(random.next() % 3)
                switch random.next() % 8 {
                case 0...2:
                    asked[index] += 1
                    peers[index].feed(
                        frame(
                            .open, flags: random.next() % 4 == 0 ? 2 : 1, cookie: 1, name: name,
                            size: random.next() % 3 == 0 ? 1 : .max))
                case 3: peers[index].feed(frame(.alloc, flags: 2, type: 1, name: name, size: 4))
                case 4: peers[index].feed(frame(.dispose, name: name))
                case 5:
                    peers[index].feed(
                        frame(.rename, flags: 1, name: name, payload: Array("a".utf8)))
                case 6: peers[index].feed(frame(.freeze, name: name))
                default:
                    if random.next() % 8 == 0 {
                        peers[index].session.end(context)
                        peers[index].isClosed = true
                        peers[index] = TestPeer(context)
                        peers[index].feed(frame(.hello))
                        asked[index] = 0
                    } else {
                        context.waits.expire(now: Clock.now)
                    }
                }
                answered(index)
            }
            for index in peers.indices {
                _ = peers[index].cancelWaits()
                answered(index)
                peers[index].session.end(context)
                peers[index].isClosed = true
            }
            if asked != [0, 0, 0] { faults.withLock { $0.append("\(asked) have no answer") } }
        }
        #expect(faults.withLock { $0 } == [])
        let context = LoopContext(registry: registry, index: 0)
        let peer = TestPeer(context)
        peer.feed(frame(.hello))
        for name in ["a", "b"] { peer.call(.dispose, name: name) }
        peer.session.end(context)
        peer.isClosed = true
        registry.mappings.drain()
        #expect(registry.waits.checkInvariants() == 0)
        #expect(registry.budget.allocationCount == 0)
        #expect(registry.budget.usedSize == 0)
        registry.checkInvariants()
    }
}
