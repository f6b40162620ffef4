// Memory that was lent is given to nobody else: whoever received its pages may still look at them.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Lent memory")
struct LendingTests {
    private static let size = 1 << 20

    /// An allocation that was read, by lending or not.
    private func readAllocation(_ daemon: TestDaemon, lends: Bool) -> (TestPeer, UInt32) {
        let peer = daemon.greeted()
        let size = UInt64(LendingTests.size)
        let handle = peer.call(.alloc, type: 2, name: "a", size: size).header.handle
        peer.call(.write, handle: handle, size: size, payload: filled(0x11))
        peer.output = []
        peer.moves = false
        peer.feed(frame(.read, handle: handle, size: size))
        #expect(peer.pause == .send && peer.session.sendLeft == LendingTests.size)
        if lends { peer.session.willLend() }
        peer.moves = true
        peer.run()
        #expect(peer.output.count == 40 + LendingTests.size)
        #expect(peer.session.sendLeft == 0)
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
            #expect((mappings.takeUsed(LendingTests.size) == nil) == lends)
            guard lends else { continue }
            #expect(eventually { mappings.pendingSize == 0 })
            #expect(mappings.warmSize == 0)
            #expect(daemon.registry.budget.usedSize < 65_536)
        }
    }

    @Test("not even what little of it was written is wiped and kept")
    func hardlyWritten() {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let peer = daemon.greeted()
        let size = UInt64(LendingTests.size)
        let handle = peer.call(.alloc, type: 2, name: "a", size: size).header.handle
        peer.moves = false
        peer.feed(frame(.read, handle: handle, size: size))
        peer.session.willLend()
        peer.moves = true
        peer.run()
        #expect(peer.call(.dispose, handle: handle).outcome == "ok")
        #expect(eventually { daemon.registry.mappings.pendingSize == 0 })
        #expect(daemon.registry.mappings.warmSize == 0)
    }

    @Test("it stays lent when it is truncated, and when the reader is lost meanwhile")
    func truncatedAndLost() {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let (peer, handle) = readAllocation(daemon, lends: true)
        let half = LendingTests.size / 2
        #expect(peer.call(.truncate, handle: handle, size: UInt64(half)).outcome == "ok")
        peer.moves = false
        peer.feed(frame(.read, handle: handle, size: UInt64(half)))
        peer.session.willLend()
        let other = daemon.greeted()
        #expect(other.call(.dispose, name: "a").outcome == "ok")
        peer.session.end(daemon.loop)
        #expect(eventually { daemon.registry.mappings.pendingSize == 0 })
        #expect(daemon.registry.mappings.warmSize == 0)
        #expect(daemon.settledSize < 65_536)
    }
}
