// Memory that is made when it is touched takes time, which is no connection's to take from others.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("First touches of large memory", .timed)
struct TouchingTests {
    /// Bytes between the ranges: each is in another huge page.
    private static let distance = 4 << 20
    private static let count = 128

    /// One byte of each range is known.
    private func write(_ size: Int, handle: UInt32) -> [UInt8] {
        let ranges = (0..<Self.count).flatMap { numbers(UInt64($0 * Self.distance), UInt64(size)) }
        let data = (0..<Self.count).flatMap { [UInt8](repeating: UInt8($0), count: size) }
        return frame(
            .write, flags: 1, handle: handle, size: UInt64(Self.count), payload: ranges + data)
    }

    @Test(
        "a vectored write to many huge pages leaves others their turn, and is one write all the same",
        arguments: [1, 4096], [false, true])
    func vectored(size: Int, isShared: Bool) throws {
        let daemon = TestDaemon()
        let peer = daemon.greeted(mapping: true)
        let length = UInt64(Self.count * Self.distance)
        peer.feed(
            frame(
                .alloc, flags: isShared ? 4 : 0, type: ElementType.uint8.rawValue, name: "a",
                size: length))
        let handle = try #require(replies(in: peer.output)?.last?.header.handle)
        peer.output = []
        peer.turns = 0
        peer.feed(write(size, handle: handle))
        #expect(replies(in: peer.output)?.map(\.outcome) == ["ok"])
        let isHuge =
            !isShared
            || ["always", "within_size", "advise"].contains(
                SystemMemory.sharedHugePages)
        if isHuge { #expect(peer.turns >= 2) }
        peer.output = []
        for index in 0..<Self.count {
            peer.feed(
                frame(
                    .read, handle: handle, offset: UInt64(index * Self.distance),
                    size: UInt64(size)))
        }
        let found = replies(in: peer.output)?.map(\.payload)
        #expect(
            found == (0..<Self.count).map { [UInt8](repeating: UInt8($0), count: size) })
    }

    @Test("what crosses from one huge page into the next is written as a whole")
    func crossing() throws {
        let daemon = TestDaemon()
        let peer = daemon.connect()
        #expect(peer.line("alloc a \(16 << 20)") == "OK")
        #expect(peer.line("alloc b \(16 << 20)") == "OK")
        for page in 1..<4 {
            let at = page * (2 << 20) - 2
            #expect(peer.line("write a \(at) 1 2 3 4") == "OK")
            #expect(peer.line("fill a \(at + (1 << 20)) 4 7") == "OK")
            #expect(peer.line("copy a \(at) b \(at) 4") == "OK")
            #expect(peer.line("read b \(at - 1) 6") == "OK 0 1 2 3 4 0")
        }
    }
}
