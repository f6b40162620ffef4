// What a truncate cuts off becomes zeros for those who map it, whatever was, or is, under way.

import Glibc
import Testing
import TestSupport

@testable import SmallocCore
@testable import SmallocWire

@Suite("Cut bytes", .timed)
struct CutTests {
    private let daemon = TestDaemon { $0.memorySizeMax = 256 << 20 }
    private let baseSize: UInt64

    /// Inline, in an arena, in a mapping.
    private static let sizes = [60_000, 1 << 20, 5 << 20]
    private static let cutSize = 100

    init() { baseSize = daemon.settledSize }

    private func greeted() -> TestPeer { daemon.greeted(mapping: true) }

    /// Bytes that are still charged, once it was looked for what is gone.
    private func look() -> UInt64 {
        daemon.registry.returnMemory()
        return daemon.settledSize &- baseSize
    }

    /// Reads or writes all of it thrice, which is more than 64 KiB.
    private func request(_ operation: SmallocWire.Operation, _ size: Int) -> [UInt8] {
        let ranges = (0..<3).flatMap { _ in numbers(0, UInt64(size)) }
        let data = operation == .write ? [UInt8](repeating: 9, count: 3 * size) : []
        return frame(operation, flags: 1, name: "a", size: 3, payload: ranges + data)
    }

    private func make(_ peer: TestPeer, _ size: Int, isShareable: Bool = false) {
        peer.call(.alloc, flags: isShareable ? 6 : 2, type: 2, name: "a", size: UInt64(size))
        peer.call(.fill, name: "a", size: UInt64(size), payload: [7])
    }

    /// How many bytes of a file behind the cut are not zero.
    private func left(_ map: TestMap?) -> Int {
        guard let file = map?.descriptor else { return -1 }
        let size = Int(lseek(file, 0, SEEK_END))
        guard let start = mmap(nil, size, PROT_READ, MAP_SHARED, file, 0), start != MAP_FAILED
        else { return -1 }
        defer { munmap(start, size) }
        return UnsafeRawBufferPointer(start: start, count: size)[Self.cutSize...]
            .reduce(0) { $1 == 0 ? $0 : $0 + 1 }
    }

    private func cut(_ peer: TestPeer) {
        #expect(peer.call(.truncate, name: "a", size: UInt64(Self.cutSize)).outcome == "ok")
    }

    private func end() {
        daemon.registry.checkInvariants()
        #expect(daemon.greeted().call(.dispose, name: "a").outcome == "ok")
        #expect(eventually(within: 4) { look() == 0 })
        #expect(daemon.registry.mappings.refused.count == 0)
    }

    @Test("a large read that has ended keeps nothing", arguments: sizes)
    func ended(_ size: Int) throws {
        let peer = greeted()
        make(peer, size)
        peer.feed(request(.read, size))
        peer.take()
        var map = TestMap(peer, "a")
        cut(peer)
        #expect(eventually(within: 4) { left(map) == 0 })
        #expect(map?[Self.cutSize - 1] == 7)
        map = nil
        end()
    }

    @Test("a reader that stalls keeps no bytes, only addresses", arguments: sizes, [false, true])
    func stalledReader(_ size: Int, _ isGone: Bool) throws {
        let peer = greeted()
        make(peer, size, isShareable: true)
        var map = TestMap(peer, "a")
        let reader = greeted()
        reader.moves = false
        reader.feed(request(.read, size))
        let charged = daemon.settledSize
        cut(peer)
        #expect(eventually(within: 4) { left(map) == 0 })
        #expect(daemon.settledSize == charged)
        if isGone {
            reader.session.end(daemon.loop)
            reader.isClosed = true
        } else {
            reader.moves = true
            reader.run()
            let reply = try #require(replies(in: reader.output)?.first)
            #expect(reply.payload.count == 3 * size)
            // Of zeros, or of what was there.
            #expect(reply.payload[..<Self.cutSize].allSatisfy { $0 == 7 })
        }
        // A client could touch it again, so it stays charged.
        #expect(daemon.settledSize <= charged)
        #expect(left(map) == 0 && map?[0] == 7)
        map = nil
        end()
    }

    @Test(
        "what was cut before the first map is not in the file", arguments: sizes, [false, true])
    func mappedLater(_ size: Int, _ isFrozen: Bool) throws {
        let peer = greeted()
        make(peer, size)
        let reader = greeted()
        reader.moves = false
        reader.feed(request(.read, size))
        cut(peer)
        if isFrozen { #expect(peer.call(.freeze, name: "a").outcome == "ok") }
        var map = TestMap(peer, "a", flags: 0)
        #expect(eventually(within: 4) { left(map) == 0 })
        #expect(map?.bytes == [UInt8](repeating: 7, count: Self.cutSize))
        daemon.registry.checkInvariants()
        reader.moves = true
        reader.run()
        #expect(replies(in: reader.output)?.first?.payload.count == 3 * size)
        map = nil
        end()
    }

    @Test(
        "what a writer under way puts behind the cut is gone when it has ended",
        arguments: sizes, [false, true])
    func writer(_ size: Int, _ isMapped: Bool) throws {
        let peer = greeted()
        make(peer, size)
        var map = isMapped ? TestMap(peer, "a") : nil
        let writer = greeted()
        let bytes = request(.write, size)
        writer.feed(Array(bytes[..<100_000]))
        cut(peer)
        if !isMapped { map = TestMap(peer, "a") }
        // One that ends earlier, and one that reads on.
        let reader = greeted()
        reader.moves = false
        reader.feed(frame(.read, name: "a", size: UInt64(Self.cutSize)))
        writer.feed(Array(bytes[100_000...]))
        #expect(replies(in: writer.output)?.map(\.outcome) == ["ok"])
        #expect(eventually(within: 4) { left(map) == 0 })
        #expect(map?[Self.cutSize - 1] == 9)
        daemon.registry.checkInvariants()
        map = nil
        end()
    }

    @Test("a write under way is not frozen away, a read is no hindrance", arguments: sizes)
    func frozen(_ size: Int) {
        let peer = greeted()
        make(peer, size)
        let reader = greeted()
        reader.moves = false
        reader.feed(request(.read, size))
        let writer = greeted()
        let bytes = request(.write, size)
        writer.feed(Array(bytes[..<(size + 100_000)]))
        #expect(peer.call(.freeze, name: "a").status == .busy)
        #expect(peer.call(.write, name: "a", size: 1, payload: [1]).outcome == "ok")
        writer.feed(Array(bytes[(size + 100_000)...]))
        #expect(replies(in: writer.output)?.map(\.outcome) == ["ok"])
        #expect(peer.call(.freeze, name: "a").outcome == "ok")
        #expect(peer.call(.write, name: "a", size: 1, payload: [1]).status == .frozen)
        reader.session.end(daemon.loop)
        reader.isClosed = true
        end()
    }

    @Test(
        "what was mapped and is not any more is given back by a truncate, and can be mapped again",
        arguments: [(1 << 20, false), (5 << 20, false), (60_000, true), (5 << 20, true)])
    func leaving(size: Int, isShareable: Bool) throws {
        let peer = greeted()
        make(peer, size, isShareable: isShareable)
        var map = TestMap(peer, "a")
        try #require(map != nil)
        // While it is mapped it stays charged, and what is left stays where clients have it.
        #expect(peer.call(.truncate, name: "a", size: UInt64(size - 4096)).outcome == "ok")
        #expect(eventually(within: 4) { look() >= UInt64(size) })
        map = nil
        cut(peer)
        #expect(eventually(within: 4) { look() < 16_384 })
        map = TestMap(peer, "a")
        #expect(map?.bytes == [UInt8](repeating: 7, count: Self.cutSize))
        map?.start.storeBytes(of: 8, as: UInt8.self)
        #expect(peer.call(.read, name: "a", size: 1).payload == [8])
        #expect(left(map) == 0)
        map = nil
        end()
    }

    @Test("a file that a client holds unseen stays charged after it was left")
    func leftUnseen() throws {
        let peer = greeted()
        make(peer, 5 << 20)
        var map = TestMap(peer, "a")
        let file = try #require(map).descriptor
        // O_PATH
        let unseen = open("/proc/self/fd/\(file)", 0o10000000)
        try #require(unseen >= 0)
        map = nil
        cut(peer)
        #expect(!eventually(within: 0.3) { look() < 5 << 20 })
        close(unseen)
        #expect(eventually(within: 4) { look() < 16_384 })
        end()
    }
}
