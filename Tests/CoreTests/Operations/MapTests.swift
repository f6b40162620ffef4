// What mapping promises: the same bytes for all, whatever the memory was before; nothing of
// another's; sizes, ends and frozen bytes that hold whatever a client does with a descriptor.

import CFaults
import CSmalloc
import Foundation
import Glibc
import Synchronization
import Testing
import TestSupport

@testable import SmallocCore
@testable import SmallocWire

@Suite("Maps", .timed)
struct MapTests {
    private let daemon = TestDaemon { $0.memorySizeMax = 256 << 20 }

    /// Inline, at the border, in an arena, in a mapping.
    private static let sizes = [1, 8, 100, 4096, 65_535, 65_536, 100_000, 1 << 20, 5 << 20]

    private func greeted() -> TestPeer { daemon.greeted(mapping: true) }

    @Test("memory of every kind is mapped with its bytes", arguments: sizes, [false, true])
    func kinds(_ size: Int, _ isShareable: Bool) throws {
        let peer = greeted()
        var random = SplitMix(seed: UInt64(size))
        let bytes = random.bytes(size)
        for isTouched in [true, false] {
            peer.call(
                .alloc, flags: isShareable ? 6 : 2, type: 2, name: "a", size: UInt64(size))
            if isTouched {
                let written = peer.call(.write, name: "a", size: UInt64(size), payload: bytes)
                #expect(written.outcome == "ok")
            }
            let map = try #require(TestMap(peer, "a"))
            #expect(map.bytes == (isTouched ? bytes : [UInt8](repeating: 0, count: size)))
            map[size - 1] = 0xA5
            #expect(
                peer.call(.read, name: "a", offset: UInt64(size - 1), size: 1).payload == [0xA5])
            peer.call(.write, name: "a", size: 1, payload: [0x5A])
            #expect(map[0] == 0x5A)
            daemon.registry.checkInvariants()
            #expect(peer.call(.dispose, name: "a").outcome == "ok")
            #expect(map[0] == 0x5A)
        }
        #expect(eventually { look() == 0 })
    }

    /// Bytes that are still charged, once it was looked for what is gone.
    private func look() -> UInt64 {
        daemon.registry.returnMemory()
        return daemon.settledSize &- baseSize
    }

    private let baseSize: UInt64

    init() { baseSize = daemon.settledSize }

    @Test("over a socket that carries no descriptors there is no map")
    func noUnixSocket() {
        let peer = daemon.greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 10)
        #expect(
            peer.call(.map, name: "a").outcome == "unknownOperation Error: map needs a Unix socket")
        #expect(
            peer.call(.unmap, name: "a").outcome
                == "unknownOperation Error: map needs a Unix socket")
        #expect(peer.call(.hello).number(2) & Feature.map.bits == 0)
        #expect(greeted().call(.hello).number(2) & Feature.map.bits != 0)
    }

    @Test("where the kernel may refuse a page that is touched, there is no map")
    func noPagesOnTouch() {
        let daemon = TestDaemon(mapsFiles: false)
        let peer = daemon.greeted(mapping: true)
        let greeting = peer.call(.hello)
        #expect(greeting.number(2) & Feature.map.bits == 0)
        #expect(greeting.number(18) == 0)
        // The flag has no effect, so that a program runs there as it does over TCP.
        #expect(peer.call(.alloc, flags: 6, type: 2, name: "a", size: 1 << 20).outcome == "ok")
        for operation in [Operation.map, .unmap] {
            #expect(
                peer.call(operation, name: "a").outcome
                    == "unknownOperation Error: this daemon maps no memory")
        }
        #expect(peer.call(.write, name: "a", offset: 1000, size: 1, payload: [7]).outcome == "ok")
        #expect(peer.call(.truncate, name: "a", size: 5000).outcome == "ok")
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
        #expect(peer.call(.read, name: "a", offset: 999, size: 3).payload == [0, 7, 0])
        daemon.registry.checkInvariants()
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
    }

    @Test("what was never written is sparse after its promotion")
    func sparse() throws {
        let peer = greeted()
        let size = 64 << 20
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
        peer.call(.write, name: "a", offset: UInt64(size - 1), size: 1, payload: [1])
        let map = try #require(TestMap(peer, "a"))
        var facts = stat()
        fstat(map.descriptor, &facts)
        #expect(facts.st_blocks * 512 < 8 << 20)
        #expect(facts.st_mode & 0o777 == 0o600)
    }

    @Test("requests under way go on beside a promotion")
    func beside() throws {
        let size = 5 << 20
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
        peer.call(.fill, name: "a", size: UInt64(size), payload: [7])
        // A reader that does not read, and a writer that trickles.
        let reader = greeted()
        reader.moves = false
        reader.feed(frame(.read, cookie: 1, name: "a", size: UInt64(size)))
        let writer = greeted()
        let data = [UInt8](repeating: 9, count: 1 << 20)
        let write = frame(.write, name: "a", size: UInt64(data.count), payload: data)
        writer.feed(Array(write[..<100_000]))
        let map = try #require(TestMap(peer, "a"))
        #expect(map[50_000] == 9 && map[200_000] == 7)
        writer.feed(Array(write[100_000...]))
        #expect(map[data.count - 1] == 9 && map[data.count] == 7)
        reader.moves = true
        reader.run()
        let read = try #require(replies(in: reader.output)?.first)
        #expect(read.payload.count == size)
        #expect(read.payload[data.count...].allSatisfy { $0 == 7 })
        writer.session.checkInvariants()
        daemon.registry.checkInvariants()
    }

    @Test("a copy under way goes on in the new memory", arguments: [3 << 20, 40 << 20])
    func work(_ size: Int) throws {
        let peer = greeted()
        for name in ["a", "b"] {
            peer.call(.alloc, flags: 2, type: 2, name: name, size: UInt64(size))
        }
        peer.call(.fill, name: "a", size: UInt64(size), payload: [3])
        let copier = greeted()
        copier.moves = false
        copier.feed(frame(.copy, name: "a", size: UInt64(size), payload: copyDest(0, name: "b")))
        guard let work = copier.session.work else {
            Issue.record("no work")
            return
        }
        var isDone = size > 32 << 20 ? work.run() : false
        #expect(!isDone)
        let dest = try #require(TestMap(peer, "b"))
        let source = try #require(TestMap(peer, "a"))
        while !isDone { isDone = work.run() }
        copier.session.finish(copier.loop)
        copier.take()
        #expect(dest.bytes == source.bytes && dest[size - 1] == 3)
    }

    @Test("a mapped reader sees zeros where truncate cut, and is told the size")
    func truncate() throws {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 200_000)
        peer.call(.fill, name: "a", size: 200_000, payload: [1])
        let map = try #require(TestMap(peer, "a"))
        let before = daemon.settledSize
        #expect(peer.call(.truncate, name: "a", size: 5000).outcome == "ok")
        #expect(eventually { map[5000] == 0 && map[8192] == 0 && map[199_999] == 0 })
        #expect(map[4999] == 1)
        #expect(map.state(daemon).size == 5000)
        // A client could touch it again, so it stays charged.
        #expect(daemon.settledSize == before)
    }

    @Test("what a client holds is counted until it holds it no more, in any way")
    func held() throws {
        let peer = greeted()
        let shares = try #require(daemon.registry.mappings.shares)
        for way in ["mapping", "descriptor", "path", "pipe"] {
            peer.call(.alloc, flags: 6, type: 2, name: "a", size: 1 << 20)
            peer.call(.fill, name: "a", size: 1 << 20, payload: [1])
            let reply = peer.call(.map, flags: 1, name: "a")
            #expect(reply.outcome == "ok")
            let descriptors = peer.takeDescriptors()
            let file = descriptors[0]
            descriptors.dropFirst().forEach { close($0) }
            var start: UnsafeMutableRawPointer?
            var others: [Int32] = []
            switch way {
            case "mapping":
                start = mmap(nil, 1 << 20, PROT_READ, MAP_SHARED, file, 0)
                close(file)
            case "descriptor": others = [file]
            case "path":
                // O_PATH
                others = [open("/proc/self/fd/\(file)", 0o10000000)]
                close(file)
            default:
                var pipes: [Int32] = [0, 0]
                pipe(&pipes)
                others = pipes
                close(file)
            }
            peer.call(.dispose, name: "a")
            let isHeld = way != "pipe"
            #expect(eventually { shares.heldSize == (isHeld ? 1 << 20 : 0) }, "\(way)")
            if isHeld {
                #expect(look() >= 1 << 20)
                daemon.registry.returnMemory()
                usleep(20_000)
                #expect(shares.heldSize == 1 << 20)
            }
            if let start { munmap(start, 1 << 20) }
            others.forEach { close($0) }
            #expect(eventually { look() == 0 && shares.heldSize == 0 }, "\(way)")
            #expect(shares.fileCount == 0)
        }
    }

    @Test("frozen bytes can't be changed by anybody", arguments: sizes, [false, true])
    func frozen(_ size: Int, _ isMapped: Bool) throws {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
        peer.call(.write, name: "a", offset: UInt64(size - 1), size: 1, payload: [8])
        if isMapped {
            var map = TestMap(peer, "a")
            #expect(peer.call(.freeze, name: "a").status == .busy)
            #expect(map?.size == size)
            #expect(
                peer.call(.write, name: "a", offset: UInt64(size - 1), size: 1, payload: [9])
                    .outcome == "ok")
            map = nil
        }
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
        let one = UInt64(1)
        #expect(peer.call(.write, name: "a", size: one, payload: [1]).status == .frozen)
        #expect(peer.call(.fill, name: "a", size: one, payload: [1]).status == .frozen)
        #expect(peer.call(.truncate, name: "a", size: 0).status == .frozen)
        #expect(
            peer.call(.copy, name: "a", size: one, payload: copyDest(0, name: "a")).status
                == .frozen)
        #expect(peer.call(.map, flags: 1, name: "a").status == .frozen)
        let map = try #require(TestMap(peer, "a", flags: 0))
        #expect(map[size - 1] == (isMapped ? 9 : 8))
        #expect(map.state(daemon).word & 3 == 3)
        // The same user can open it for writing, and write nothing.
        let again = open("/proc/self/fd/\(map.descriptor)", O_RDWR)
        #expect(again >= 0)
        #expect(mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED)
        #expect(pwrite(again, "x", 1, 0) == -1)
        #expect(!smalloc_file_punch(again, 0, 4096))
        #expect(fcntl(again, 1033, 16) == -1)
        close(again)
        #expect(peer.call(.rename, name: "a", payload: Array("b".utf8)).outcome == "ok")
        #expect(peer.call(.read, name: "b", size: one).payload == [map[0]])
        #expect(peer.call(.dispose, name: "b").outcome == "ok")
        #expect(map[size - 1] == (isMapped ? 9 : 8))
    }

    @Test("what is frozen is not mapped for writing, also where it is empty")
    func frozenAndEmpty() {
        let peer = greeted()
        for size in [UInt64(0), 8] {
            peer.call(.alloc, flags: 2, type: 2, name: "a", size: size)
            #expect(peer.call(.map, flags: 1, name: "a").outcome == "ok")
            peer.closeDescriptors()
            #expect(eventually { peer.call(.freeze, name: "a").outcome == "ok" })
            #expect(peer.call(.map, flags: 1, name: "a").status == .frozen, "\(size)")
            #expect(peer.call(.map, name: "a").outcome == "ok")
            #expect(peer.call(.dispose, name: "a").outcome == "ok")
        }
    }

    @Test("to stat what is mapped costs a turn, as the kernel is asked")
    func statCosts() throws {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 8)
        let stats = (0..<1200).flatMap { _ in frame(.stat, name: "a") }
        func turns() -> Int {
            let before = peer.turns
            peer.feed(stats)
            return peer.turns - before
        }
        #expect(turns() == 0)
        let map = try #require(TestMap(peer, "a"))
        #expect(turns() >= 4)
        withExtendedLifetime(map) {}
    }

    @Test("a write under way is not frozen away")
    func freezeUnderWrite() {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 1 << 20)
        let writer = greeted()
        let data = [UInt8](repeating: 9, count: 200_000)
        let write = frame(.write, name: "a", size: UInt64(data.count), payload: data)
        writer.feed(Array(write[..<100_000]))
        #expect(peer.call(.freeze, name: "a").status == .busy)
        writer.feed(Array(write[100_000...]))
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
    }

    @Test("a client's seals, holes and leases spoil nothing but its own")
    func seals() throws {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 1 << 20)
        peer.call(.fill, name: "a", size: 1 << 20, payload: [1])
        let map = try #require(TestMap(peer, "a"))
        #expect(ftruncate(map.descriptor, 0) == -1)
        #expect(ftruncate(map.descriptor, 8 << 20) == -1)
        // A hole reads as zeros.
        #expect(smalloc_file_punch(map.descriptor, 0, 65_536))
        #expect(peer.call(.read, name: "a", size: 4).payload == [0, 0, 0, 0])
        // No more writable mappings for clients; the daemon's stays.
        #expect(fcntl(map.descriptor, 1033, 16) == 0)
        #expect(peer.call(.write, name: "a", size: 1, payload: [5]).outcome == "ok")
        #expect(map[0] == 5)
        #expect(peer.call(.truncate, name: "a", size: 10).outcome == "ok")
        daemon.registry.mappings.drain()
        daemon.registry.checkInvariants()
        // A lease of the same user's hides who holds it.
        signal(SIGIO, SIG_IGN)
        let second = open("/proc/self/fd/\(map.descriptor)", O_RDONLY)
        _ = fcntl(second, 1024, F_RDLCK)
        let answer = peer.call(.map, flags: 1, name: "a").status
        #expect(answer == .busy || answer == .ok)
        _ = fcntl(second, 1024, F_UNLCK)
        close(second)
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
    }

    @Test("a client that opens its descriptor over and over hides nothing, and stops nothing")
    func opensWhileProbed() throws {
        // As the daemon does: what opens a file with a lease is told by a signal.
        signal(SIGIO, SIG_IGN)
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 10_000)
        let map = try #require(TestMap(peer, "a"))
        let isOver = Atomic<Bool>(false)
        let opened = Atomic<Int>(0)
        let path = "/proc/self/fd/\(map.descriptor)"
        let thread = Thread {
            while !isOver.load(ordering: .relaxed) {
                let file = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
                if file >= 0 { close(file) }
                opened.add(1, ordering: .relaxed)
            }
        }
        thread.start()
        var told: Set<UInt64> = []
        while opened.load(ordering: .relaxed) < 5000 {
            // 24 bytes behind the name: flags, then what is mapped.
            told.insert(peer.call(.stat, name: "a").number(4, afterName: 1))
            let status = peer.call(.map, flags: 1, name: "a").status
            #expect(status == .ok || status == .busy)
            peer.closeDescriptors()
        }
        isOver.store(true, ordering: .relaxed)
        #expect(told == [2])
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
    }

    @Test("nothing of another allocation lies behind the last byte")
    func neighbours() throws {
        let peer = greeted()
        let size = 3 << 20
        // Memory that is given back full, and taken by a write of all but a part of its last page.
        for round in 0..<4 {
            peer.call(.alloc, flags: 2, type: 2, name: "old", size: UInt64(size))
            peer.call(.fill, name: "old", size: UInt64(size), payload: [0xEE])
            peer.call(.dispose, name: "old")
            let length = size - 100 - round
            peer.call(.alloc, flags: 2, type: 2, name: "new", size: UInt64(length))
            peer.call(
                .write, name: "new", size: UInt64(length),
                payload: [UInt8](repeating: 1, count: length))
            let map = try #require(TestMap(peer, "new"))
            let all = mmap(nil, size, PROT_READ, MAP_SHARED, map.descriptor, 0)!
            let bytes = UnsafeRawBufferPointer(start: all, count: size)
            #expect(bytes[..<length].allSatisfy { $0 == 1 })
            #expect(bytes[length...].allSatisfy { $0 == 0 })
            munmap(all, size)
            peer.call(.dispose, name: "new")
        }
    }

    @Test("shares are limited, and the limit is told")
    func limit() throws {
        let shares = try #require(daemon.registry.mappings.shares)
        let peer = greeted()
        var count = 0
        while shares.add() { count += 1 }
        #expect(count == shares.countMax)
        #expect(peer.call(.alloc, flags: 6, type: 2, name: "a", size: 8).status == .shareLimit)
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 8)
        #expect(peer.call(.map, name: "a").status == .shareLimit)
        shares.remove()
        #expect(peer.call(.map, name: "a").outcome == "ok")
        for _ in 1..<count { shares.remove() }
    }

    @Test("descriptors that clients do not receive are limited, for all clients together")
    func underWay() throws {
        let shares = try #require(daemon.registry.mappings.shares)
        #expect(shares.passingCount == 0)
        let (lazy, peer) = (greeted(), greeted())
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 8)
        lazy.receivesDescriptors = false
        for _ in 0..<5 { #expect(lazy.call(.map, name: "a").outcome == "ok") }
        #expect(shares.passingCount == 6 && lazy.session.passedCount == 6)
        #expect(lazy.call(.map, flags: 1, name: "none").status == .noData)
        #expect(peer.call(.map, name: "a").outcome == "ok")
        #expect(shares.passingCount == 6)
        let rest = shares.passingMax - shares.passingCount
        #expect(rest > 0 && shares.addPassing(rest))
        #expect(peer.call(.map, name: "a").status == .shareLimit)
        #expect(lazy.call(.map, name: "a").status == .shareLimit)
        lazy.session.received(allBut: 2, lazy.loop)
        #expect(peer.call(.map, name: "a").outcome == "ok")
        shares.removePassing(rest)
        #expect(shares.passingCount == 2)
        lazy.session.end(lazy.loop)
        lazy.isClosed = true
        #expect(shares.passingCount == 0)
    }

    @Test("a promotion that is abandoned leaves the allocation as it was")
    func abandoned() throws {
        let peer = greeted()
        let size = 100 << 20
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
        peer.call(.fill, name: "a", size: UInt64(size), payload: [4])
        let other = greeted()
        other.moves = false
        other.feed(frame(.map, name: "a"))
        guard let work = other.session.work else {
            Issue.record("no work")
            return
        }
        #expect(!work.run())
        other.session.end(other.loop)
        other.isClosed = true
        #expect(peer.call(.read, name: "a", size: 1).payload == [4])
        let map = try #require(TestMap(peer, "a"))
        #expect(map.bytes.allSatisfy { $0 == 4 })
        peer.call(.dispose, name: "a")
    }

    private func refuseTail(_ isMapped: Bool) {
        let peer = greeted()
        let size: UInt64 = 5 << 20
        peer.call(.alloc, flags: 6, type: 2, name: "a", size: size)
        peer.call(.fill, name: "a", size: size, payload: [1])
        let map = isMapped ? TestMap(peer, "a") : nil
        faults_arm(Int32(SMALLOC_FAULT_ADVISE), 0, 1_000_000, true)
        #expect(peer.call(.truncate, name: "a", size: 100_000).outcome == "ok")
        _ = eventually { daemon.registry.mappings.isIdle }
        #expect(faults_disarm() > 0)
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
        withExtendedLifetime(map) {}
        daemon.registry.mappings.drain()
        daemon.registry.checkInvariants()
    }

    @Test("what truncate could not give back goes with the file")
    func refusedTails() {
        for isMapped in [false, true] {
            refuseTail(isMapped)
            #expect(eventually { look() == 0 })
            #expect(daemon.registry.mappings.refused.count == 0)
        }
    }

    @Test(
        "another user can't make a read-only map writable",
        .enabled(if: geteuid() == 0, "only root can be another user"))
    func anotherUser() throws {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 1 << 20)
        let map = try #require(TestMap(peer, "a", flags: 0))
        let path = "/proc/self/fd/\(map.descriptor)"
        let nobody: UInt32 = 65_534
        for flags in [O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_RDONLY] {
            #expect(faults_open_as(nobody, path, flags) == -1 && errno == EACCES)
        }
        let writable = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map.descriptor, 0)
        #expect(writable == MAP_FAILED)
        #expect(mprotect(map.start, 4096, PROT_READ | PROT_WRITE) == -1)
        #expect(pwrite(map.descriptor, "x", 1, 0) == -1)
        #expect(fchmod(map.descriptor, 0o666) == 0)
        // Who may change the mode is the daemon's own user, whose the file is.
        let again = faults_open_as(nobody, path, O_RDWR)
        #expect(again >= 0)
        close(again)
    }
}
