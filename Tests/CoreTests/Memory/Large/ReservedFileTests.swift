// Memory that clients map where the kernel counts pages when they are made: all are there from the
// start, so that no touch is refused.

import CFaults
import CSmalloc
import Glibc
import Testing
import TestSupport

@testable import SmallocCore
@testable import SmallocWire

@Suite("Reserved files", .timed)
struct ReservedFileTests {
    private let daemon = TestDaemon(reservesFiles: true) { $0.memorySizeMax = 256 << 20 }
    private let baseSize: UInt64

    init() { baseSize = daemon.settledSize }

    private func look() -> UInt64 {
        daemon.registry.returnMemory()
        return daemon.settledSize &- baseSize
    }

    /// Bytes of the pages that a file has.
    private func pages(_ file: Int32) -> Int {
        var facts = stat()
        fstat(file, &facts)
        return Int(facts.st_blocks) * 512
    }

    @Test(
        "a file has all its pages before it is touched, and after a truncate",
        arguments: [1, 60_000, 1 << 20, 5 << 20], [false, true])
    func dense(_ size: Int, _ isShareable: Bool) throws {
        let peer = daemon.greeted(mapping: true)
        do {
            peer.call(
                .alloc, flags: isShareable ? 6 : 2, type: 2, name: "a", size: UInt64(size))
            if !isShareable { peer.call(.write, name: "a", size: 1, payload: [7]) }
            let map = try #require(TestMap(peer, "a"))
            #expect(pages(map.descriptor) >= size)
            memset(map.start, 7, size)
            #expect(peer.call(.truncate, name: "a", size: 1).outcome == "ok")
            #expect(eventually { map.bytes == [7] + [UInt8](repeating: 0, count: size - 1) })
            #expect(pages(map.descriptor) >= size)
            daemon.registry.checkInvariants()
            #expect(peer.call(.dispose, name: "a").outcome == "ok")
        }
        #expect(eventually { look() == 0 })
    }

    @Test(
        "a file for which there is no memory is refused",
        arguments: [60_000, 1 << 20, 5 << 20], [false, true])
    func refused(_ size: Int, _ isShareable: Bool) {
        let peer = daemon.greeted(mapping: true)
        peer.call(.alloc, flags: isShareable ? 6 : 2, type: 2, name: "a", size: UInt64(size))
        if !isShareable { peer.call(.write, name: "a", size: 1, payload: [7]) }
        // The file is made, and its pages are not to be had.
        faults_arm(Int32(SMALLOC_FAULT_FILE), 1, 1, false)
        #expect(peer.call(.map, name: "a").status == .outOfMemory)
        #expect(faults_disarm() == 1)
        daemon.registry.checkInvariants()
        #expect(peer.call(.map, name: "a").status == .ok)
        peer.closeDescriptors()
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
        #expect(eventually { look() == 0 })
        #expect(daemon.registry.mappings.shares?.fileCount == 0)
    }
}
