// Promotions that a system call ends halfway, or that meet a freeze: what is left can be mapped all
// the same.

import CFaults
import CSmalloc
import Glibc
import Testing
import TestSupport

@testable import SmallocCore
@testable import SmallocWire

@Suite("Promotions", .timed)
struct PromotionTests {
    private let daemon = TestDaemon { $0.memorySizeMax = 256 << 20 }
    private let baseSize: UInt64

    init() { baseSize = daemon.settledSize }

    private func greeted() -> TestPeer { daemon.greeted(mapping: true) }

    /// Bytes that are still charged, once it was looked for what is gone.
    private func look() -> UInt64 {
        daemon.registry.returnMemory()
        return daemon.settledSize &- baseSize
    }

    /// What comes between a move that failed and the next one.
    enum Between: CaseIterable {
        case nothing, write, freeze, truncate, truncateAndFreeze, frozenBefore
    }

    @Test(
        "a move that a system call has ended is finished by a later map",
        arguments: Between.allCases,
        [SMALLOC_FAULT_FILE, SMALLOC_FAULT_MAP])
    func finished(_ between: Between, _ kind: Int) throws {
        let size = 2_500_000
        let cutSize = 1_000_001
        var random = SplitMix(seed: 7)
        let bytes = random.bytes(size)
        let peer = greeted()
        var failures = 0
        for number in 0..<60 {
            peer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
            peer.call(.write, name: "a", size: UInt64(size), payload: bytes)
            if between == .frozenBefore {
                #expect(peer.call(.freeze, name: "a").outcome == "ok")
            }
            faults_arm(Int32(kind), Int32(number), 1, false)
            let status = peer.call(.map, name: "a").status
            let isFailed = faults_disarm() > 0
            peer.closeDescriptors()
            #expect(isFailed ? [.outOfMemory, .shareLimit].contains(status) : status == .ok)
            if isFailed { failures += 1 }
            var wanted = bytes
            switch between {
            case .nothing, .frozenBefore: break
            case .write:
                for offset in [0, 300_000, size - 1] {
                    wanted[offset] &+= 1
                    peer.call(
                        .write, name: "a", offset: UInt64(offset), size: 1,
                        payload: [wanted[offset]])
                }
            case .freeze: #expect(peer.call(.freeze, name: "a").outcome == "ok")
            case .truncate, .truncateAndFreeze:
                wanted = Array(bytes[..<cutSize])
                let cut = peer.call(.truncate, name: "a", size: UInt64(cutSize))
                #expect(cut.outcome == "ok")
                if between == .truncateAndFreeze {
                    #expect(peer.call(.freeze, name: "a").outcome == "ok", "\(number)")
                    // The next one fails, too, and the one after it does not.
                    faults_arm(Int32(kind), 5, 1, false)
                    _ = peer.call(.map, name: "a")
                    faults_disarm()
                    peer.closeDescriptors()
                }
            }
            #expect(
                peer.call(.read, name: "a", size: UInt64(wanted.count)).payload == wanted,
                "\(number)")
            do {
                let map = try #require(TestMap(peer, "a", flags: 0), "\(number)")
                #expect(map.bytes == wanted, "\(number)")
                // What was cut off before the first move is not in the file.
                let fileSize = Int(lseek(map.descriptor, 0, SEEK_END))
                let all = mmap(nil, fileSize, PROT_READ, MAP_SHARED, map.descriptor, 0)!
                let rest = UnsafeRawBufferPointer(
                    rebasing: UnsafeRawBufferPointer(start: all, count: fileSize)[wanted.count...])
                let zeros = [UInt8](repeating: 0, count: rest.count)
                // What is not frozen may be on its way back yet.
                #expect(
                    eventually {
                        rest.isEmpty || memcmp(rest.baseAddress!, zeros, rest.count) == 0
                    }, "\(number)")
                munmap(all, fileSize)
                daemon.registry.checkInvariants()
            }
            #expect(peer.call(.freeze, name: "a").outcome == "ok")
            #expect(peer.call(.dispose, name: "a").outcome == "ok")
            if !isFailed { break }
        }
        #expect(failures > 5)
        #expect(eventually { look() == 0 })
        #expect(daemon.registry.mappings.shares?.fileCount == 0)
    }

    @Test("pages that are being made are not frozen meanwhile")
    func freezeBesidePages() {
        let size = 100 << 20
        let peer = greeted()
        peer.call(.alloc, flags: 6, type: 2, name: "a", size: UInt64(size))
        peer.call(.write, name: "a", size: 1, payload: [1])
        let other = greeted()
        other.moves = false
        other.feed(frame(.map, flags: 2, name: "a"))
        guard let work = other.session.work else {
            Issue.record("no work")
            return
        }
        #expect(!work.run())
        #expect(peer.call(.freeze, name: "a").status == .busy)
        other.moves = true
        other.run()
        #expect(replies(in: other.output)?.map(\.status) == [.ok])
        other.closeDescriptors()
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
    }

    @Test("pages are made of what is being frozen, for reading")
    func pagesBesideFreeze() throws {
        let size = 1 << 20
        let peer = greeted()
        peer.call(.alloc, flags: 6, type: 2, name: "a", size: UInt64(size))
        peer.call(.fill, name: "a", size: UInt64(size), payload: [3])
        let map = try #require(TestMap(peer, "a", flags: 0))
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        try #require(faults_take_page(map.descriptor, ends[1]))
        let freezer = greeted()
        freezer.moves = false
        freezer.feed(frame(.freeze, name: "a"))
        guard let work = freezer.session.work else {
            Issue.record("no work")
            return
        }
        #expect(!work.run())
        #expect(peer.call(.map, flags: 2, name: "a").outcome == "ok")
        #expect(peer.call(.map, flags: 3, name: "a").status == .busy)
        ends.forEach { close($0) }
        freezer.moves = true
        freezer.run()
        #expect(replies(in: freezer.output)?.map(\.status) == [.ok])
        #expect(peer.call(.map, flags: 3, name: "a").status == .frozen)
    }
}
