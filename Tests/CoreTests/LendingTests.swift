// Memory that was lent is given to nobody else: whoever received its pages may still look at them.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Lent memory")
struct LendingTests {
    private static let size = 1 << 20

    /// Reads a whole allocation.
    ///
    /// - Returns: Whether it would be lent, if it was asked; false if not.
    @discardableResult
    private func read(_ peer: TestPeer, _ handle: UInt32, _ size: Int, asks: Bool) -> Bool {
        peer.output = []
        peer.moves = false
        peer.feed(frame(.read, handle: handle, size: UInt64(size)))
        #expect(peer.pause == .send && peer.session.sendLeft == size)
        let answer = asks && peer.session.willLend()
        let again = asks && peer.session.willLend()
        #expect(again == answer, "it changed in the middle")
        peer.moves = true
        peer.run()
        #expect(peer.output.count == 40 + size)
        #expect(peer.session.sendLeft == 0)
        return answer
    }

    /// An allocation that was read five times, the last time by lending or not.
    private func readAllocation(
        _ daemon: TestDaemon, lends: Bool, isWritten: Bool = true
    ) -> (TestPeer, UInt32) {
        let peer = daemon.greeted()
        let size = UInt64(LendingTests.size)
        let handle = peer.call(.alloc, type: 2, name: "a", size: size).header.handle
        if isWritten { peer.call(.write, handle: handle, size: size, payload: filled(0x11)) }
        let answers = (0..<5).map { _ in read(peer, handle, LendingTests.size, asks: lends) }
        #expect(answers == [false, false, false, false, lends])
        return (peer, handle)
    }

    private func filled(_ byte: UInt8) -> [UInt8] {
        Array(repeating: byte, count: LendingTests.size)
    }

    @Test("it is unmapped when it is disposed of, not kept warm, and not taken as it is")
    func disposed() {
        for lends in [false, true] {
            let daemon = TestDaemon(warmSizeMax: 16 << 20)
            let (peer, handle) = readAllocation(daemon, lends: lends)
            #expect(peer.call(.dispose, handle: handle).outcome == "ok")
            let mappings = daemon.registry.mappings
            let capacity = mappings.capacity(for: Allocation.mappingSize(for: LendingTests.size))
            #expect((mappings.takeUsed(capacity) == nil) == lends)
            guard lends else { continue }
            #expect(eventually { mappings.pendingSize == 0 })
            #expect(mappings.warmSize == 0)
            #expect(daemon.registry.budget.usedSize < 65_536)
        }
    }

    @Test("not even what little of it was written is wiped and kept")
    func hardlyWritten() {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let (peer, handle) = readAllocation(daemon, lends: true, isWritten: false)
        #expect(peer.call(.dispose, handle: handle).outcome == "ok")
        #expect(eventually { daemon.registry.mappings.pendingSize == 0 })
        #expect(daemon.registry.mappings.warmSize == 0)
    }

    @Test("memory that lies among others' is never lent, however much of it is asked for")
    func heap() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let size = UInt64(MappingPool.sizeMin - 1)
        let handle = peer.call(.alloc, type: 2, size: size).header.handle
        let ranges = (0..<64).flatMap { _ in numbers(0, size) }
        peer.moves = false
        for _ in 0..<8 {
            peer.feed(frame(.read, flags: 1, handle: handle, size: 64, payload: ranges))
            #expect(peer.pause == .send && peer.session.sendLeft == 64 * Int(size))
            let isLent = peer.session.willLend()
            #expect(!isLent)
            peer.moves = true
            peer.run()
            peer.moves = false
        }
    }

    @Test("it stays lent when it is truncated, and when the reader is lost meanwhile")
    func truncatedAndLost() {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let (peer, handle) = readAllocation(daemon, lends: true)
        let half = LendingTests.size / 2
        #expect(peer.call(.truncate, handle: handle, size: UInt64(half)).outcome == "ok")
        peer.moves = false
        peer.feed(frame(.read, handle: handle, size: UInt64(half)))
        let isLent = peer.session.willLend()
        #expect(isLent)
        let other = daemon.greeted()
        #expect(other.call(.dispose, name: "a").outcome == "ok")
        peer.session.end(daemon.loop)
        #expect(eventually { daemon.registry.mappings.pendingSize == 0 })
        #expect(daemon.registry.mappings.warmSize == 0)
        #expect(daemon.settledSize < 65_536)
    }
}
