// Leases among all that makes, uses and ends allocations, against a model with a clock of the
// test's own, and on several threads with the machine's.

import Dispatch
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Random leases", .timed(seconds: 120))
struct LeaseModelTests {
    private struct Entry {
        var id: Int
        /// Nil: none.
        var lease: UInt64?
        var owner: Int
        /// Milliseconds of the test's clock.
        var lastUsed: UInt64
    }

    @Test("what is used stays, what is not ends after its time and soon, the rest stays for ever")
    func model() {
        var random = SplitMix(for: "leases")
        let daemon = TestDaemon()
        let clock = TestClock()
        daemon.registry.leases.clock = { clock.now }
        var now: UInt64 = 0
        var peers = (0..<3).map { _ in daemon.greeted() }
        var owners = [0, 1, 2]
        var entries: [String: Entry] = [:]
        /// By connection: the handles, and what they stand for.
        var handles: [[(handle: UInt32, id: Int)]] = [[], [], []]
        var nextID = 0
        let names = ["a", "b", "c", "d", "e"]
        let asker = daemon.greeted()
        func isOpen(_ id: Int) -> Bool { handles.contains { $0.contains { $0.id == id } } }
        func use(_ id: Int) {
            for (name, entry) in entries where entry.id == id { entries[name]?.lastUsed = now }
        }
        func list() -> Set<String> {
            Set(names.filter { asker.isThere($0) })
        }
        for event in 0..<Scale.count(8000) {
            let name = names[Int(random.next() % 5)]
            let index = Int(random.next() % 3)
            let peer = peers[index]
            switch random.next() % 16 {
            case 0...3:
                let lease = [nil, 0, 1, 50, 900, 1500, 7000][Int(random.next() % 7)] as UInt64?
                let opens = random.next() % 3 == 0
                let size: UInt64 = random.next() % 4 == 0 ? 70_000 : 8
                let reply = peer.call(
                    .alloc, flags: (lease == nil ? 0 : 48) | (opens ? 0 : 2), type: 2, name: name,
                    size: size, payload: lease.map { leaseDescription($0) } ?? [])
                #expect((reply.status == .ok) == (entries[name] == nil))
                guard reply.status == .ok else { break }
                nextID += 1
                entries[name] = Entry(
                    id: nextID, lease: lease, owner: owners[index], lastUsed: now)
                if opens { handles[index].append((reply.header.handle, nextID)) }
            case 4, 5:
                let reply = peer.call(.read, name: name, size: 1)
                if let entry = entries[name], reply.status == .ok { use(entry.id) }
            case 6, 7:
                let reply = peer.call(.open, name: name)
                if let entry = entries[name], reply.status == .ok {
                    handles[index].append((reply.header.handle, entry.id))
                }
            case 8, 9:
                guard !handles[index].isEmpty else { break }
                let at = Int(random.next() % UInt64(handles[index].count))
                let closed = handles[index].remove(at: at)
                #expect(peer.call(.close, handle: closed.handle).status == .ok)
                use(closed.id)
            case 10:
                let newName = names[Int(random.next() % 5)]
                let replaces = random.next() % 2 == 0
                let reply = peer.call(
                    .rename, flags: replaces ? 1 : 0, name: name, payload: Array(newName.utf8))
                guard let entry = entries[name] else { break }
                use(entry.id)
                guard reply.status == .ok, name != newName else { break }
                entries[newName] = entries.removeValue(forKey: name)
            case 11:
                peer.call(.dispose, name: name)
                entries[name] = nil
            case 12:
                guard random.next() % 3 == 0 else { break }
                peer.end()
                daemon.registry.mappings.drain()
                for closed in handles[index] { use(closed.id) }
                handles[index] = []
                entries = entries.filter { $0.value.lease != 0 || $0.value.owner != owners[index] }
                peers[index] = daemon.greeted()
                owners[index] = 3 + event
            default:
                let time = [0, 1, 40, 700, 1000, 2500][Int(random.next() % 6)] as UInt64
                now += time
                clock.advance(milliseconds: time)
                while !daemon.registry.expireSome(atMost: 3) {}
            }
            let there = list()
            for (name, entry) in entries {
                let isOver =
                    entry.lease.map { $0 > 0 && !isOpen(entry.id) && now >= entry.lastUsed + $0 }
                    ?? false
                let isLate = isOver && now >= entry.lastUsed + max(entry.lease ?? 0, 1000)
                if there.contains(name) ? false : !isOver {
                    Issue.record("event \(event) of seed \(random.seed): \(entry) ended too early")
                }
                if isLate, there.contains(name) {
                    Issue.record("event \(event) of seed \(random.seed): \(entry) is late")
                }
            }
            let after = list()
            #expect(after.isSubset(of: Set(entries.keys)))
            entries = entries.filter { after.contains($0.key) }
            if event % 50 == 0 { daemon.registry.checkInvariants() }
        }
        for peer in peers { peer.end() }
        for name in names { asker.call(.dispose, name: name) }
        asker.end()
        #expect(daemon.settledSize == 0)
        #expect(daemon.registry.leases.checkInvariants() == (0, 0))
    }

    private struct Shared: @unchecked Sendable { let registry: Registry }

    @Test(
        "short leases end beside opens, renames and disposes of other threads, and none too early")
    func races() {
        let seed = SplitMix(for: "races of leases").seed
        let registry = Registry(limits: SharedLimits(Limits()), loops: 4, warmSizeMax: 0)!
        let shared = Shared(registry: registry)
        let faults = Locked<[String]>([])
        let isOver = Locked(false)
        let expiring = DispatchQueue(label: "expiring")
        let done = DispatchSemaphore(value: 0)
        expiring.async {
            while !isOver.withLock({ $0 }) {
                shared.registry.expireLeases()
                shared.registry.mappings.drain()
            }
            done.signal()
        }
        DispatchQueue.concurrentPerform(iterations: 3) { thread in
            var random = SplitMix(seed: seed &+ UInt64(thread) &* 1_000_003)
            let context = LoopContext(registry: shared.registry, index: thread)
            func connect() -> TestPeer {
                let peer = TestPeer(context)
                peer.feed(frame(.hello))
                peer.output = []
                return peer
            }
            var peer = connect()
            for round in 0..<Scale.count(4000) {
                let name = ["a", "b", "own\(thread)"][Int(random.next() % 3)]
                switch random.next() % 8 {
                case 0...2: peer.lease(name, random.next() % 3)
                case 3:
                    // What is open and only this thread's does not end.
                    let mine = "own\(thread)/\(round)"
                    guard peer.lease(mine, 1, flags: 0) == .ok else { break }
                    let handle = peer.call(.open, name: mine)
                    if handle.status != .ok
                        || peer.call(.read, handle: handle.header.handle, size: 8).status != .ok
                    {
                        faults.withLock { $0.append("\(mine) ended while it was open") }
                    }
                case 4: peer.call(.read, name: name, size: 8)
                case 5:
                    peer.call(.rename, flags: 1, name: name, payload: Array("a".utf8))
                case 6: peer.call(.dispose, name: name)
                default:
                    if random.next() % 8 == 0 {
                        peer.end()
                        peer = connect()
                    }
                }
            }
            peer.end()
        }
        isOver.withLock { $0 = true }
        done.wait()
        #expect(faults.withLock { $0 } == [])
        registry.mappings.drain()
        // Those that were in use are looked at a second later.
        registry.leases.clock = { Clock.now + 10_000_000_000 }
        while !registry.expireSome(atMost: 100) {}
        registry.mappings.drain()
        registry.checkInvariants()
        #expect(registry.leases.checkInvariants() == (0, 0))
        #expect(registry.budget.allocationCount == 0)
        #expect(registry.budget.usedSize == 0)
    }
}
