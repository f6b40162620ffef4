// Maps beside what else goes on: transfers of inline data, answers in text, truncates, seals of
// clients.

import Glibc
import Testing
import TestSupport

@testable import SmallocCore
@testable import SmallocWire

@Suite("Maps beside other requests", .timed)
struct MapRaceTests {
    private let daemon = TestDaemon { $0.memorySizeMax = 256 << 20 }
    private let baseSize: UInt64

    init() { baseSize = daemon.settledSize }

    private func greeted() -> TestPeer { daemon.greeted(mapping: true) }

    /// Bytes that are still charged, once it was looked for what is gone.
    private func look() -> UInt64 {
        daemon.registry.returnMemory()
        return daemon.settledSize &- baseSize
    }

    /// Ranges of inline data that overlap, more of them than one request may move at once.
    private let overlapping = numbers(0, 60_000, 0, 60_000)

    @Test("a vectored read of inline data goes on beside a promotion, and ends without a trap")
    func inlineRead() throws {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 60_000)
        peer.call(.fill, name: "a", size: 60_000, payload: [5])
        for isRead in [true, false] {
            let reader = greeted()
            reader.moves = false
            reader.feed(frame(.read, flags: 1, name: "a", size: 2, payload: overlapping))
            let map = try #require(TestMap(peer, "a"))
            #expect(map[59_999] == 5)
            if isRead {
                reader.moves = true
                reader.run()
                let reply = try #require(replies(in: reader.output)?.first)
                #expect(reply.payload.count == 120_000 && reply.payload.allSatisfy { $0 == 5 })
            }
            reader.session.end(reader.loop)
            reader.isClosed = true
        }
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
        #expect(eventually { look() == 0 })
    }

    @Test(
        "a vectored write of inline data is not frozen away",
        arguments: [false, true])
    func inlineWrite(_ isMapped: Bool) throws {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: 60_000)
        let writer = greeted()
        let data = [UInt8](repeating: 9, count: 120_000)
        let write = frame(.write, flags: 1, name: "a", size: 2, payload: overlapping + data)
        writer.feed(Array(write[..<70_000]))
        if isMapped { _ = try #require(TestMap(peer, "a", flags: 0)) }
        #expect(peer.call(.freeze, name: "a").status == .busy)
        writer.feed(Array(write[70_000...]))
        #expect(replies(in: writer.output)?.map(\.outcome) == ["ok"])
        #expect(peer.call(.read, name: "a", size: 60_000).payload == Array(data[..<60_000]))
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
        #expect(writer.call(.ping).outcome == "ok")
        #expect(peer.call(.dispose, name: "a").outcome == "ok")
        #expect(eventually { look() == 0 })
    }

    @Test("a long answer in text goes on beside a promotion", arguments: [200_000, 5 << 20])
    func text(_ size: Int) throws {
        let peer = greeted()
        peer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
        peer.call(.fill, name: "a", size: UInt64(size), payload: [7])
        let reader = daemon.connect()
        reader.moves = false
        reader.feed("read a\n")
        let map = try #require(TestMap(peer, "a"))
        #expect(map[size - 1] == 7)
        reader.moves = true
        reader.run()
        #expect(reader.output.count == 3 + 2 * size)
    }

    @Test("what a truncate gave back before a map is charged with the map, and once")
    func truncatedBefore() throws {
        let peer = greeted()
        let before = daemon.settledSize
        peer.call(.alloc, flags: 6, type: 2, name: "a", size: 64 << 20)
        peer.call(.write, name: "a", size: 1, payload: [1])
        peer.call(.truncate, name: "a", size: 4096)
        #expect(daemon.settledSize - before < 1 << 20)
        let map = try #require(TestMap(peer, "a"))
        #expect(daemon.settledSize - before > 64 << 20)
        // The same size over and over takes nothing more.
        for _ in 0..<50 { peer.call(.truncate, name: "a", size: 4000) }
        #expect(daemon.settledSize - before < 65 << 20)
        withExtendedLifetime(map) {}
    }

    @Test("a client's seal can't make a freeze look done")
    func sealedAgainstMaps() throws {
        let peer = greeted()
        peer.call(.alloc, flags: 6, type: 2, name: "a", size: 100_000)
        var map = TestMap(peer, "a")
        #expect(fcntl(map?.descriptor ?? -1, 1033, 16) == 0)
        for _ in 0..<3 { #expect(peer.call(.freeze, name: "a").status == .busy) }
        #expect(peer.call(.read, name: "a", size: 100).payload.count == 100)
        #expect(peer.call(.write, name: "a", size: 1, payload: [1]).status == .frozen)
        map?[0] = 3
        #expect(peer.call(.read, name: "a", size: 1).payload == [3])
        map = nil
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
        let last = try #require(TestMap(peer, "a", flags: 0))
        #expect(last.state(daemon).word & 3 == 3)
    }

    @Test("nothing that was cut off is seen by a map that comes later")
    func cutBefore() throws {
        for size in [100_000, 5 << 20] {
            let peer = greeted()
            peer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
            peer.call(.fill, name: "a", size: UInt64(size), payload: [6])
            peer.call(.truncate, name: "a", size: 5000)
            let map = try #require(TestMap(peer, "a"))
            let page = mmap(nil, 8192, PROT_READ, MAP_SHARED, map.descriptor, 0)!
            let bytes = UnsafeRawBufferPointer(start: page, count: 8192)
            #expect(bytes[..<5000].allSatisfy { $0 == 6 } && bytes[5000...].allSatisfy { $0 == 0 })
            munmap(page, 8192)
            peer.call(.dispose, name: "a")
        }
    }
}
