// What a freeze does when the kernel refuses its seal: because a client has the memory mapped for
// writing, or because somebody has a page in hand for a moment.

import CFaults
import CSmalloc
import Foundation
import Glibc
import SmallocSystem
import Synchronization
import Testing
import TestSupport

@testable import SmallocCore
@testable import SmallocWire

@Suite("Freezing", .timed)
struct FreezingTests {
    private let daemon = TestDaemon { $0.memorySizeMax = 64 << 20 }

    private func greeted() -> TestPeer { daemon.greeted(mapping: true) }

    /// An allocation, a map of it for reading, and a pipe that has its first page in hand.
    private func pinned(_ peer: TestPeer) throws -> (map: TestMap, pipe: [Int32]) {
        peer.call(.alloc, flags: 6, type: 2, name: "a", size: 100_000)
        peer.call(.fill, name: "a", size: 100_000, payload: [5])
        let map = try #require(TestMap(peer, "a", flags: 0))
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        try #require(faults_take_page(map.descriptor, ends[1]))
        return (map, ends)
    }

    @Test("a page that is in somebody's hand for a moment does not make it busy")
    func pinnedForAMoment() throws {
        let peer = greeted()
        let (map, ends) = try pinned(peer)
        let reader = Thread {
            usleep(300_000)
            ends.forEach { close($0) }
        }
        reader.start()
        let start = Clock.now
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
        let time = Clock.now - start
        #expect(time > 250_000_000, "\(time) ns: the page was in hand")
        #expect(map.state(daemon).word & 3 == 3)
        #expect(peer.call(.write, name: "a", size: 1, payload: [1]).status == .frozen)
    }

    @Test("a page that stays in somebody's hand makes it busy within a second or two")
    func pinnedForGood() throws {
        let peer = greeted()
        let (map, ends) = try pinned(peer)
        let start = Clock.now
        #expect(peer.call(.freeze, name: "a").status == .busy)
        let time = Clock.now - start
        #expect(time > 800_000_000 && time < 4_000_000_000, "\(time) ns")
        // Nothing has changed.
        #expect(peer.call(.write, name: "a", size: 1, payload: [6]).outcome == "ok")
        #expect(map[0] == 6)
        ends.forEach { close($0) }
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
    }

    @Test("a map for writing makes it busy at once")
    func mappedForWriting() throws {
        let peer = greeted()
        let (reader, ends) = try pinned(peer)
        let map = try #require(TestMap(peer, "a"))
        var times: [UInt64] = []
        for _ in 0..<5 {
            let start = Clock.now
            #expect(peer.call(.freeze, name: "a").status == .busy)
            times.append(Clock.now - start)
        }
        // One turn of the kernel's own waiting would be 150 milliseconds.
        #expect(times.sorted()[2] < 100_000_000, "\(times)")
        ends.forEach { close($0) }
        withExtendedLifetime((map, reader)) {}
    }

    @Test("a freeze that is given up between two tries leaves the memory as it was")
    func abandoned() throws {
        let peer = greeted()
        let (map, ends) = try pinned(peer)
        let other = greeted()
        other.moves = false
        other.feed(frame(.freeze, name: "a"))
        guard let work = other.session.work else {
            Issue.record("no work")
            return
        }
        #expect(!work.run())
        #expect(peer.call(.write, name: "a", size: 1, payload: [6]).status == .busy)
        #expect(peer.call(.freeze, name: "a").status == .busy)
        other.session.end(other.loop)
        other.isClosed = true
        #expect(peer.call(.write, name: "a", size: 1, payload: [6]).outcome == "ok")
        #expect(map[0] == 6)
        ends.forEach { close($0) }
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
        daemon.registry.checkInvariants()
    }

    @Test(
        "what an earlier freeze left for reading only stays frozen when the next one is not tried")
    func leftFrozen() throws {
        let peer = greeted()
        peer.call(.alloc, flags: 6, type: 2, name: "a", size: 100_000)
        peer.call(.fill, name: "a", size: 100_000, payload: [5])
        var map = TestMap(peer, "a")
        let file = dup(map?.descriptor ?? -1)
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        try #require(faults_take_page(file, ends[1]))
        // F_ADD_SEALS, F_SEAL_FUTURE_WRITE: the daemon can't map it for writing again.
        try #require(fcntl(file, 1033, 0x10) == 0)
        map = nil
        #expect(map == nil && close(file) == 0)
        #expect(peer.call(.freeze, name: "a").status == .busy)
        #expect(peer.call(.write, name: "a", size: 1, payload: [6]).status == .frozen)
        let other = greeted()
        other.moves = false
        other.feed(frame(.freeze, name: "a"))
        #expect(other.pause == .work)
        other.session.end(other.loop)
        other.isClosed = true
        #expect(peer.call(.write, name: "a", size: 1, payload: [6]).status == .frozen)
        ends.forEach { close($0) }
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
    }

    @Test("it asks the kernel for holders under the lock, as those do that map and stat")
    func probesUnderLock() throws {
        let peer = greeted()
        let (map, ends) = try pinned(peer)
        let other = greeted()
        other.moves = false
        other.feed(frame(.freeze, name: "a"))
        let begun = other.session.work
        let work = try #require(begun)
        let allocation = try #require(work.allocations.0)
        let isOver = Atomic<Bool>(false)
        let thread = Thread {
            _ = work.run()
            isOver.store(true, ordering: .releasing)
        }
        allocation.lock.lock()
        thread.start()
        // A try takes 150 milliseconds.
        usleep(400_000)
        let wasOver = isOver.load(ordering: .acquiring)
        allocation.lock.unlock()
        #expect(!wasOver)
        #expect(eventually { isOver.load(ordering: .acquiring) })
        other.session.end(other.loop)
        other.isClosed = true
        ends.forEach { close($0) }
        withExtendedLifetime(map) {}
    }

    @Test("what a truncate has just cut off is given back before the freeze, and not seen after it")
    func truncatedBefore() throws {
        let peer = greeted()
        let size = 20 << 20
        let before = daemon.settledSize
        for isMapped in [false, true] {
            for _ in 0..<5 {
                peer.call(.alloc, flags: 6, type: 2, name: "a", size: UInt64(size))
                peer.call(.fill, name: "a", size: UInt64(size), payload: [5])
                let early = isMapped ? TestMap(peer, "a", flags: 0) : nil
                #expect(peer.call(.truncate, name: "a", size: 5000).outcome == "ok")
                #expect(peer.call(.freeze, name: "a").outcome == "ok")
                let map = try #require(TestMap(peer, "a", flags: 0))
                let all = mmap(nil, size, PROT_READ, MAP_SHARED, map.descriptor, 0)!
                let bytes = UnsafeRawBufferPointer(start: all, count: size)
                #expect(bytes[..<5000].allSatisfy { $0 == 5 })
                #expect(bytes[5000..<8192].allSatisfy { $0 == 0 })
                let pages = stride(from: 8192, to: size, by: 4096)
                #expect(pages.allSatisfy { bytes[$0] == 0 })
                munmap(all, size)
                #expect(peer.call(.dispose, name: "a").outcome == "ok")
                withExtendedLifetime(early) {}
            }
        }
        #expect(eventually { daemon.settledSize == before })
        #expect(daemon.registry.mappings.refused.count == 0)
    }
}
