// Each call for memory and threads fails in turn: every request is answered, and nothing is lost,
// kept, or counted wrongly.

import CFaults
import CSmalloc
import Glibc
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Memory that is refused", .timed)
struct MemoryFailureTests {
    /// Requests that need memory, on one daemon.
    private static let requests: [[UInt8]] = [
        frame(.alloc, type: 2, name: "small", size: 100),
        frame(.alloc, type: 2, name: "inline", size: 60_000),
        frame(.alloc, type: 2, name: "slot", size: 300_000),
        frame(.alloc, type: 2, name: "own", size: 3 << 20),
        frame(.alloc, type: 2, name: "huge", size: 300 << 20),
        frame(.alloc, flags: 2, type: 2, name: String(repeating: "n", count: 255), size: 1),
        frame(.alloc, flags: 32, type: 10, name: "shaped", size: 800, payload: described([100])),
        frame(
            .alloc, flags: 34, type: 16, name: "matrix", size: 320_000,
            payload: described([200, 100])),
        frame(.write, name: "slot", size: 5, payload: [1, 2, 3, 4, 5]),
        frame(.read, name: "slot", offset: 100, size: 50),
        frame(.read, name: "own", size: 70_000),
        frame(.read, flags: 1, name: "slot", size: 2, payload: numbers(0, 10, 299_999, 1)),
        frame(.write, flags: 1, name: "own", size: 1, payload: numbers(9, 2) + [1, 2]),
        frame(.fill, name: "own", size: 3 << 20, payload: [9]),
        frame(.copy, name: "slot", size: 300_000, payload: copyDest(0, name: "own")),
        frame(
            .write, name: "slot", size: 300_000, payload: [UInt8](repeating: 3, count: 300_000)),
        frame(.rename, name: "small", payload: Array(String(repeating: "m", count: 200).utf8)),
        frame(.rename, name: "shaped", payload: Array(String(repeating: "s", count: 99).utf8)),
        frame(.stat, name: "matrix"),
        frame(.watch),
        frame(.watch, name: "s", offset: 1, size: 9),
        frame(.open, name: "slot"),
        frame(.truncate, name: "own", size: 1000),
        frame(.dispose, name: "slot"),
        frame(.dispose, name: "own"),
        frame(.dispose, name: "inline"),
    ]

    private static func described(_ shape: [UInt64]) -> [UInt8] {
        MemoryModel.Description(shape: shape, metadata: [UInt8](repeating: 7, count: 256)).payload
    }

    /// Sends all requests, and then gives everything back.
    private static func run(_ daemon: TestDaemon, check: (Reply) -> Void) {
        var peer = daemon.greeted()
        for request in requests {
            // Without memory for a reply that has to wait, the connection ends with one.
            if peer.isClosed {
                peer.session.end(daemon.loop)
                peer = daemon.greeted()
            }
            check(peer.call(request))
            daemon.registry.checkInvariants()
        }
        peer.session.end(daemon.loop)
        peer.isClosed = true
        let last = daemon.greeted()
        let names = [
            "small", "inline", "slot", "own", "huge", String(repeating: "n", count: 255),
            String(repeating: "m", count: 200), "shaped", "matrix",
            String(repeating: "s", count: 99),
        ]
        for name in names { last.call(.dispose, name: name) }
    }

    @Test(
        "each call that fails is an answer, and leaves nothing behind",
        arguments: [
            SMALLOC_FAULT_ALLOCATE, SMALLOC_FAULT_MAP, SMALLOC_FAULT_ADVISE, SMALLOC_FAULT_UNMAP,
        ])
    func each(_ kind: Int) {
        let answers: Set<Status> = [.ok, .outOfMemory, .noData, .memoryLimit]
        var failures = 0
        var refusals = 0
        for number in 0..<60 {
            let daemon = TestDaemon(warmSizeMax: 8 << 20)
            faults_arm(Int32(kind), Int32(number), number % 2 == 0 ? 1 : 1000, false)
            MemoryFailureTests.run(daemon) { reply in
                #expect(answers.contains(reply.status), "\(kind) \(number): \(reply.outcome)")
                if reply.status == .outOfMemory { refusals += 1 }
            }
            let failed = faults_disarm()
            failures += Int(failed)
            // What the kernel did not take back is tried again.
            daemon.registry.returnMemory()
            #expect(daemon.settledSize == 0, "\(kind) \(number)")
            daemon.registry.checkInvariants()
            #expect(daemon.registry.budget.allocationCount == 0)
            if failed == 0 { break }
        }
        #expect(failures > 0 || kind == SMALLOC_FAULT_UNMAP)
        #expect(refusals > 0 || kind == SMALLOC_FAULT_UNMAP || kind == SMALLOC_FAULT_ADVISE)
    }

    @Test("calls of the reclaiming thread that fail are tried again")
    func reclaiming() {
        for kind in [SMALLOC_FAULT_ADVISE, SMALLOC_FAULT_UNMAP] {
            let daemon = TestDaemon()
            let peer = daemon.greeted()
            let sizes: [(String, UInt64)] = [("a", 300_000), ("b", 3 << 20), ("c", 20 << 20)]
            for (name, size) in sizes {
                peer.call(.alloc, flags: 2, type: 2, name: name, size: size)
                peer.call(.fill, name: name, size: size, payload: [1])
            }
            faults_arm(Int32(kind), 0, 1_000_000, true)
            #expect(peer.call(.truncate, name: "c", size: 100).status == .ok)
            for name in ["a", "b", "c"] { #expect(peer.call(.dispose, name: name).status == .ok) }
            #expect(eventually { daemon.registry.mappings.isIdle })
            #expect(faults_disarm() > 0)
            #expect(daemon.registry.budget.usedSize > 0)
            let isBack = eventually {
                daemon.registry.returnMemory()
                return daemon.settledSize == 0
            }
            #expect(isBack, "\(daemon.registry.budget.usedSize)")
            daemon.registry.checkInvariants()
        }
    }

    @Test("a registry without the thread that gives memory back is none")
    func noThread() {
        faults_arm(Int32(SMALLOC_FAULT_THREAD), 0, 1, false)
        let registry = Registry(limits: SharedLimits(Limits()), loops: 1, warmSizeMax: 0)
        #expect(faults_disarm() == 1)
        #expect(registry == nil)
    }

    @Test("a request that waits for stale bytes is answered when they are wiped")
    func later() throws {
        let daemon = TestDaemon { $0.memorySizeMax = 64 << 20 }
        let peer = daemon.greeted()
        let size = 2 << 20
        var staleCount = 0
        // Taken by a whole overwrite out of the queue, if it comes before the thread does.
        for round in 0..<200 {
            peer.call(.alloc, flags: 2, type: 2, name: "old", size: UInt64(size))
            peer.call(.fill, name: "old", size: UInt64(size), payload: [0xEE])
            let other = peer.call(.alloc, type: 2, name: "new", size: UInt64(size)).header.handle
            let allocation = try #require(
                Array("new".utf8).withUnsafeBytes { daemon.registry.find($0) })
            peer.call(.dispose, name: "old")
            allocation.lock.lock()
            let extent = Extent(offset: 0, size: 1000)
            guard case .here(let start) = allocation.access(extent, .overwrite) else {
                allocation.lock.unlock()
                return #expect(Bool(false), "no memory")
            }
            memset(start, 1, 1000)
            allocation.overwritten(upTo: 1000)
            let isStale = allocation.record?.isStale == true
            allocation.lock.unlock()
            // Of both modes, and vectored.
            switch round % 3 {
            case 0:
                let seen = peer.call(.read, handle: other, size: 70_000).payload
                #expect(seen.count == 70_000 && seen[..<1000].allSatisfy { $0 == 1 })
                #expect(seen[1000...].allSatisfy { $0 == 0 })
            case 1:
                let seen = peer.call(
                    .read, flags: 1, handle: other, size: 2,
                    payload: numbers(UInt64(size - 1), 1, 999, 2)
                ).payload
                #expect(seen == [0, 1, 0])
            default:
                let text = TestPeer(daemon.loop)
                #expect(text.line("read new 999 3") == "OK 1 0 0")
            }
            #expect(peer.call(.dispose, handle: other).status == .ok)
            daemon.registry.release(allocation)
            staleCount += isStale ? 1 : 0
            if staleCount > 2, round > 2 { break }
        }
        #expect(staleCount > 0)
        #expect(daemon.settledSize == 0)
    }
}
