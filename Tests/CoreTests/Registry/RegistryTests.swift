// Names, handles and lifetimes, as a client sees them.

import SmallocSystem
import SmallocWire
import Testing
import TestSupport

#if canImport(Glibc)
    import Glibc
#endif

@testable import SmallocCore

@Suite("Registry", .timed)
struct RegistryTests {
    /// All names of a listing by pages of about `count`, and how often each was told.
    private func list(
        _ peer: TestPeer, prefix: String = "", count: UInt64 = 0, between: () -> Void = {}
    ) -> [String: Int] {
        var found: [String: Int] = [:]
        var cursor: UInt64 = 0
        repeat {
            let page = peer.call(.list, name: prefix, offset: cursor, size: count)
            #expect(page.status == .ok)
            var rest = page.payload[...]
            for _ in 0..<page.header.size {
                let nameSize = Int(rest[rest.startIndex + 9])
                let name = String(decoding: rest.dropFirst(10).prefix(nameSize), as: UTF8.self)
                found[name, default: 0] += 1
                rest = rest.dropFirst(10 + nameSize)
            }
            #expect(rest.isEmpty)
            cursor = page.header.offset
            between()
        } while cursor != 0
        return found
    }

    @Test("a listing tells every name once, by pages of any size", arguments: [0, 1, 7, 1_000_000])
    func listing(_ count: UInt64) {
        let peer = TestDaemon().greeted()
        let names = (0..<300).map { "n/\($0)" } + (0..<20).map { "m\($0)" }
        for name in names { peer.call(.alloc, flags: 2, type: 2, name: name, size: 1) }
        peer.call(.alloc, type: 2, size: 1)
        let all = list(peer, count: count)
        #expect(Set(all.keys) == Set(names) && all.values.allSatisfy { $0 == 1 })
        let some = list(peer, prefix: "m", count: count)
        #expect(some.count == 20 && some.keys.allSatisfy { $0.hasPrefix("m") })
        #expect(list(peer, prefix: "m1", count: count).count == 11)
        #expect(list(peer, prefix: "x", count: count).isEmpty)
    }

    @Test("a name that exists during the whole listing is told once while others come and go")
    func listingUnderChange() {
        let peer = TestDaemon().greeted()
        var random = SplitMix(for: "listing under change")
        for number in 0..<200 {
            peer.call(.alloc, flags: 2, type: 2, name: "stays\(number)", size: 1)
            peer.call(.alloc, flags: 2, type: 2, name: "goes\(number)", size: 1)
        }
        let found = list(peer, count: 1) {
            for _ in 0..<3 {
                let number = random.next() % 200
                peer.call(.dispose, name: "goes\(number)")
                peer.call(.alloc, flags: 2, type: 2, name: "comes\(random.next() % 999)", size: 1)
            }
        }
        for number in 0..<200 { #expect(found["stays\(number)"] == 1) }
    }

    @Test("in text a listing is sorted while there are few, and whole when there are many")
    func textListing() {
        let daemon = TestDaemon { $0.outputSizeMax = 20_000 }
        let peer = daemon.greeted()
        let text = daemon.connect()
        for number in 0..<4096 {
            peer.call(.alloc, flags: 2, type: 8, name: "n\(number)", size: 16)
        }
        let few = text.line("list").split(separator: "\n")
        #expect(few.last == "OK 4096")
        #expect(
            few.dropLast().elementsEqual(
                (0..<4096).map { "ITEM n\($0) Double 2" }.sorted(), by: ==))
        for number in 4096..<9000 {
            peer.call(.alloc, flags: 2, type: 8, name: "n\(number)", size: 16)
        }
        let many = text.line("list n").split(separator: "\n")
        #expect(many.last == "OK 9000")
        #expect(Set(many.dropLast()) == Set((0..<9000).map { "ITEM n\($0) Double 2" }))
        #expect(text.line("list n899").split(separator: "\n").last == "OK 11")
        #expect(text.largestOutput < 20_000 + 100_000)
    }

    @Test("stat counts handles of all connections, and transfers under way")
    func handleCount() {
        let daemon = TestDaemon()
        let one = daemon.greeted()
        let two = daemon.greeted()
        one.call(.alloc, flags: 2, type: 2, name: "a", size: 100_000)
        func handles() -> UInt64 { two.call(.stat, name: "a").number(1, afterName: 1) }
        #expect(handles() == 0)
        let first = one.call(.open, name: "a").header.handle
        let second = two.call(.open, name: "a").header.handle
        #expect(handles() == 2)
        #expect(two.call(.stat, handle: second).number(1, afterName: 1) == 2)
        one.moves = false
        one.feed(frame(.read, handle: first, size: 100_000))
        #expect(handles() == 3)
        one.moves = true
        one.run()
        #expect(handles() == 2)
        one.call(.close, handle: first)
        #expect(handles() == 1)
    }

    @Test("stat tells type, size, storage and a time of making that is now")
    func stat() {
        let peer = TestDaemon().greeted()
        let before = UInt64(time(nil)) * 1000
        for (size, storage) in [(UInt64(0), UInt64(0)), (65_535, 0), (65_536, 1), (1 << 24, 1)] {
            let name = "s\(size)"
            peer.call(.alloc, flags: 2, type: 9, name: name, size: size)
            let reply = peer.call(.stat, name: name)
            #expect(reply.header.size == size && reply.header.type == 9)
            #expect(Int(reply.header.nameSize) == name.utf8.count)
            #expect(reply.payload.starts(with: name.utf8))
            #expect(reply.number(2, afterName: name.utf8.count) == storage)
            let created = reply.number(0, afterName: name.utf8.count)
            #expect(created + 2000 >= before && created <= UInt64(time(nil)) * 1000 + 2000)
        }
        let anonymous = peer.call(.alloc, type: 2, size: 1).header.handle
        let reply = peer.call(.stat, handle: anonymous)
        #expect(reply.header.nameSize == 0 && reply.payload.count == 144)
    }

    @Test("an anonymous allocation goes with its handle, or with its connection")
    func anonymous() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let first = peer.call(.alloc, type: 2, size: 100).header.handle
        let second = peer.call(.alloc, type: 2, size: 100_000).header.handle
        peer.call(.alloc, type: 2, size: 0)
        #expect(daemon.registry.budget.allocationCount == 3)
        #expect(peer.call(.close, handle: first).outcome == "ok")
        #expect(peer.call(.dispose, handle: second).outcome == "ok")
        #expect(daemon.registry.budget.allocationCount == 1)
        peer.session.end(daemon.loop)
        #expect(daemon.registry.budget.allocationCount == 0)
        #expect(daemon.settledSize == 0)
    }

    @Test("an anonymous allocation that was given a name stays when its connection ends")
    func published() {
        let daemon = TestDaemon()
        let other = daemon.greeted()
        for name in ["p", String(repeating: "long", count: 60)] {
            let peer = daemon.greeted()
            let handle = peer.call(.alloc, type: 2, size: 4).header.handle
            peer.call(.write, handle: handle, size: 4, payload: [1, 2, 3, 4])
            #expect(peer.call(.rename, handle: handle, payload: Array(name.utf8)).outcome == "ok")
            #expect(other.call(.stat, name: name).number(1, afterName: name.utf8.count) == 1)
            peer.session.end(daemon.loop)
            #expect(other.call(.read, name: name, size: 4).payload == [1, 2, 3, 4])
            #expect(other.call(.dispose, name: name).outcome == "ok")
        }
        #expect(daemon.settledSize == 0)
    }

    @Test("a renamed allocation is found under its new name alone, its handles go on")
    func renamed() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let handle = peer.call(.alloc, type: 2, name: "a", size: 4).header.handle
        peer.call(.write, handle: handle, size: 4, payload: [1, 2, 3, 4])
        var old = "a"
        for length in [1, 255, 8, 9, 2, 254, 100] {
            let name = String(repeating: "r", count: length) + (length < 255 ? "\(length)" : "")
            guard name.utf8.count <= 255 else { continue }
            #expect(peer.call(.rename, name: old, payload: Array(name.utf8)).outcome == "ok")
            #expect(peer.call(.rename, name: name, payload: Array(name.utf8)).outcome == "ok")
            #expect(peer.call(.read, name: old, size: 4).status == .noData)
            #expect(peer.call(.read, name: name, size: 4).payload == [1, 2, 3, 4])
            #expect(peer.call(.read, handle: handle, size: 4).payload == [1, 2, 3, 4])
            #expect(list(peer).keys.elementsEqual([name]))
            old = name
        }
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "a", size: 9).outcome == "ok")
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
        #expect(peer.call(.dispose, name: old).outcome == "ok")
        peer.call(.close, handle: handle)
        #expect(daemon.settledSize == 0)
    }

    @Test("after a dispose old handles are dead, also when the name is allocated again")
    func deadHandles() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let other = daemon.greeted()
        let old = peer.call(.alloc, type: 2, name: "a", size: 100).header.handle
        let theirs = other.call(.open, name: "a").header.handle
        #expect(peer.call(.dispose, handle: old).outcome == "ok")
        #expect(peer.call(.close, handle: old).status == .noData, "closed by its dispose")
        #expect(other.call(.alloc, flags: 2, type: 8, name: "a", size: 8).outcome == "ok")
        for operation: Operation in [.read, .stat, .truncate, .dispose] {
            #expect(other.call(operation, handle: theirs).status == .noData)
        }
        #expect(other.call(.close, handle: theirs).outcome == "ok")
        #expect(other.call(.read, name: "a", size: 8).payload == [UInt8](repeating: 0, count: 8))
    }

    @Test("each limit is reached exactly, and room is made by giving back")
    func limits() {
        let daemon = TestDaemon {
            $0.handlesMax = 3
            $0.allocationsMax = 5
        }
        let peer = daemon.greeted()
        for number in 0..<3 {
            #expect(peer.call(.alloc, type: 2, name: "h\(number)").status == .ok)
        }
        #expect(peer.call(.open, name: "h0").status == .handleLimit)
        #expect(peer.call(.alloc, type: 2).status == .handleLimit)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "x").status == .ok)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "y").status == .ok)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "z").status == .allocationLimit)
        #expect(peer.call(.close, handle: 2).status == .ok)
        #expect(peer.call(.open, name: "x").header.handle == 2)
        #expect(peer.call(.dispose, name: "y").status == .ok)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "z").status == .ok)
    }

    @Test(
        "the memory limit holds for small and large ones, and all comes back",
        arguments: [100, 5000, 65_536, 1 << 20])
    func memoryLimit(_ size: UInt64) {
        let daemon = TestDaemon(warmSizeMax: 4 << 20) { $0.memorySizeMax = 16 << 20 }
        let peer = daemon.greeted()
        for round in 0..<2 {
            var count = 0
            while true {
                let reply = peer.call(.alloc, flags: 2, type: 2, name: "m\(count)", size: size)
                if reply.status != .ok {
                    #expect(reply.status == .memoryLimit)
                    break
                }
                count += 1
                guard count < 200_000 else { break }
            }
            let used = daemon.registry.budget.usedSize
            #expect(used <= 16 << 20 && used > (16 << 20) - size - 4096 - 300, "round \(round)")
            #expect(UInt64(count) * size <= 16 << 20)
            for number in 0..<count { peer.call(.dispose, name: "m\(number)") }
            #expect(daemon.settledSize == 0)
        }
    }

    @Test("tables of handles count against the memory limit, and are given back with the handles")
    func handleMemory() {
        let daemon = TestDaemon(warmSizeMax: 1 << 20) { $0.memorySizeMax = 2 << 20 }
        let peer = daemon.greeted()
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "a").status == .ok)
        let before = daemon.settledSize
        var peers: [TestPeer] = []
        var count = 0
        // Of two connections, the second is refused to double its table of 1 MiB.
        while peers.count < 3 {
            peers.append(daemon.greeted())
            while peers.last?.call(.open, name: "a").status == .ok { count += 1 }
            guard count < 1 << 20 else { break }
        }
        #expect(daemon.registry.budget.usedSize <= 2 << 20)
        // Doubled tables are at least half full.
        #expect(count >= 65_536 && count * 8 <= 2 << 20, "\(count)")
        let last = peers[2]
        #expect(peers[0].call(.open, name: "a").status == .memoryLimit)
        // What is missing, or there already, is told of first.
        #expect(peers[0].call(.open, name: "none").status == .noData)
        #expect(peers[0].call(.alloc, type: 2, name: "b").status == .memoryLimit)
        #expect(peers[0].call(.alloc, type: 2, name: "a").status == .alreadyExists)
        #expect(peers[0].call(.stat, name: "b").status == .noData)
        #expect(peers[0].call(.close, handle: 5).status == .ok)
        #expect(peers[0].call(.open, name: "a").header.handle == 5)
        for peer in peers where peer !== last {
            peer.session.end(daemon.loop)
            peer.isClosed = true
        }
        #expect(
            eventually {
                peer.call(.stat, name: "a").number(1, afterName: 1) == UInt64(last.openHandles)
            })
        #expect(last.call(.open, name: "a").status == .ok)
        last.session.end(daemon.loop)
        last.isClosed = true
        #expect(eventually { daemon.registry.budget.usedSize == before })
    }

    @Test("a handle waits for memory that is on its way back, as an allocation does")
    func handleWaits() {
        let daemon = TestDaemon(warmSizeMax: 8 << 20) { $0.memorySizeMax = 1 << 20 }
        let peer = daemon.greeted()
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "a").status == .ok)
        let warm = UInt64((1 << 20) - 8192)
        for request in [frame(.open, name: "a"), frame(.alloc, type: 2, name: "b")] {
            #expect(peer.call(.alloc, flags: 2, type: 2, name: "w", size: warm).status == .ok)
            // Memory comes with the first touch.
            #expect(peer.call(.write, name: "w", size: 1, payload: [1]).status == .ok)
            #expect(peer.call(.dispose, name: "w").status == .ok)
            #expect(daemon.registry.mappings.warmSize > 0)
            let other = daemon.greeted()
            // The first few are free.
            for _ in 0..<HandleTable.freeCount { other.call(.open, name: "a") }
            var taken: UInt64 = 0
            // To the last byte.
            for step: UInt64 in [4096, 1] {
                while daemon.registry.budget.charge(step) { taken += step }
            }
            #expect(other.call(request).status == .ok)
            #expect(daemon.registry.mappings.warmSize == 0)
            daemon.registry.budget.uncharge(taken)
        }
    }

    @Test("what is there can be opened, read and made less when the memory limit is reached")
    func full() {
        let daemon = TestDaemon { $0.memorySizeMax = 1 << 20 }
        let peer = daemon.greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 200_000)
        while daemon.registry.budget.charge(1) {}
        let other = daemon.greeted()
        #expect(other.call(.alloc, flags: 2, type: 2, name: "b", size: 1).status == .memoryLimit)
        #expect(other.call(.open, name: "a").header.handle == 1)
        #expect(other.call(.read, handle: 1, size: 10).payload.count == 10)
        #expect(other.call(.truncate, handle: 1, size: 100_000).status == .ok)
        #expect(eventually { daemon.registry.mappings.pendingSize == 0 })
        #expect(other.call(.alloc, flags: 2, type: 2, name: "b", size: 1).status == .ok)
    }

    @Test("no allocation is told to be made in a second that is to come")
    func createdInTime() {
        // The registry is made at the end of a second of the monotonic clock, the allocation after.
        while Clock.now % 1_000_000_000 < 960_000_000 { usleep(1000) }
        let peer = TestDaemon().greeted()
        while Clock.now % 1_000_000_000 > 500_000_000 { usleep(1000) }
        usleep(10_000)
        let before = UInt64(time(nil)) * 1000
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 1)
        let created = peer.call(.stat, name: "a").number(0, afterName: 1)
        #expect(created <= UInt64(time(nil)) * 1000 && created + 1000 >= before)
    }
}
