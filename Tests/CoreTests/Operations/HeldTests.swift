// What `stats` tells of memory that clients hold though its allocation has gone, and when that stops
// counting.

import Glibc
import Testing
import TestSupport

@testable import SmallocCore
@testable import SmallocWire

@Suite("Held memory", .timed)
struct HeldTests {
    private let daemon = TestDaemon { $0.memorySizeMax = 256 << 20 }

    private func peer(_ owner: UInt32) -> TestPeer {
        let peer = TestPeer(daemon.loop, owner: owner, takesDescriptors: true)
        peer.feed(frame(.hello))
        return peer
    }

    /// Has a user's allocation of so many pages held, until the map goes.
    private func hold(_ peer: TestPeer, pages: Int) throws -> TestMap {
        peer.call(.alloc, flags: 6, type: 2, name: "a", size: UInt64(pages * 4096))
        let map = try #require(TestMap(peer, "a", flags: 0))
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
        return map
    }

    /// The lines of `stats` that tell of users, by frame, and those of text.
    private func told(_ peer: TestPeer) -> (frame: [String], text: [String]) {
        let key = "memory_held_bytes_uid_"
        let payload = String(decoding: peer.call(.stats).payload, as: UTF8.self)
        let frame = payload.split(separator: "\n").map(String.init)
        let text = daemon.connect()
        let lines = text.line("stats").split(separator: "\n").map(String.init)
        // The count is of all.
        #expect(lines.last == "OK \(lines.count - 1)")
        return (
            frame.filter { $0.hasPrefix(key) }.map { String($0.dropFirst(key.count)) },
            lines.filter { $0.hasPrefix("STAT \(key)") }
                .map { String($0.dropFirst("STAT \(key)".count)) }
        )
    }

    @Test("stats tells whose allocations held bytes were of, the largest first, and of 16 at most")
    func users() throws {
        let first = peer(1000)
        #expect(told(first).frame == [])
        var maps = [try hold(first, pages: 1), try hold(first, pages: 2)]
        maps.append(try hold(peer(0), pages: 5))
        maps.append(try hold(peer(Session.noOwner), pages: 1))
        let held = daemon.registry.mappings.shares!
        #expect(eventually { held.heldSize == 9 * 4096 })
        var wanted = ["0 20480", "1000 12288", "none 4096"]
        #expect(told(first) == (wanted, wanted))
        // What any user may connect as, who sees all of it.
        for user in 2000..<2020 { maps.append(try hold(peer(UInt32(user)), pages: 2)) }
        #expect(eventually { held.heldSize == 49 * 4096 })
        wanted = ["0 20480", "1000 12288"] + (2000..<2014).map { "\($0) 8192" }
        wanted.append("other \(6 * 8192 + 4096)")
        #expect(told(first) == (wanted, wanted))
        maps = []
        #expect(
            eventually {
                daemon.registry.returnMemory()
                return held.heldSize == 0
            })
        #expect(told(first) == ([], []))
    }

    @Test("an unmap has it looked at once what clients hold no more")
    func unmap() throws {
        let peer = peer(1000)
        peer.call(.alloc, flags: 6, type: 2, name: "other", size: 1)
        var map: TestMap? = try hold(peer, pages: 3)
        let held = daemon.registry.mappings.shares!
        #expect(eventually { held.heldSize == 3 * 4096 })
        // Of what is still held it takes nothing off.
        #expect(peer.call(.unmap, name: "other").outcome == "ok")
        usleep(50_000)
        #expect(held.heldSize == 3 * 4096)
        #expect(map != nil)
        map = nil
        // Nothing else looks here: no loop runs that does every second.
        usleep(50_000)
        #expect(held.heldSize == 3 * 4096)
        #expect(peer.call(.unmap, name: "a").status == .noData)
        #expect(eventually { held.heldSize == 0 })
    }

    @Test("an alloc gets what clients have just let go of, and is not refused for it")
    func reuse() throws {
        let peer = peer(1000)
        var map: TestMap? = try hold(peer, pages: 40_000)
        let held = daemon.registry.mappings.shares!
        #expect(eventually { held.heldSize == 40_000 * 4096 })
        let refused = peer.call(.alloc, flags: 2, type: 2, name: "b", size: 200 << 20)
        #expect(refused.status == .memoryLimit)
        #expect(map != nil)
        map = nil
        usleep(50_000)
        #expect(held.heldSize == 40_000 * 4096)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "b", size: 200 << 20).outcome == "ok")
    }
}
