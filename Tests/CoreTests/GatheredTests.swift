// Reads whose data is not copied into the output.

import Testing

import SmallocSystem
@testable import SmallocCore
@testable import SmallocWire

@Suite("Data that leaves from where it is")
struct GatheredTests {
    private let size = 4096

    /// A peer that holds allocations `first` to `first + count - 1`, filled with their numbers.
    private func peer(_ count: Int, from first: UInt8 = 1) -> TestPeer {
        let peer = TestDaemon().greeted()
        for number in 0..<count {
            peer.call(.alloc, type: 2, size: UInt64(size))
            peer.call(
                .write, handle: UInt32(number + 1), size: UInt64(size),
                payload: [UInt8](repeating: first + UInt8(number), count: size))
        }
        return peer
    }

    private func read(_ handle: UInt32, offset: UInt64 = 0, size: UInt64? = nil) -> [UInt8] {
        frame(
            .read, cookie: UInt64(handle), handle: handle, offset: offset,
            size: size ?? UInt64(self.size))
    }

    @Test("a batch of reads, also of one allocation twice, and what is between keep their order")
    func order() throws {
        let peer = peer(3)
        let write = frame(
            .write, handle: 1, size: UInt64(size), payload: [UInt8](repeating: 9, count: size))
        let small = frame(.read, handle: 2, size: 1)
        peer.output = []
        peer.feed(
            read(1) + read(2) + read(1) + small + read(3) + write + read(1) + frame(.ping)
                + read(4) + read(3, offset: 5000) + read(2))
        let found = try #require(replies(in: peer.output))
        try #require(found.count == 11)
        #expect(
            found.map { $0.payload.first }
                == [1, 2, 1, 2, 3, nil, 9, nil]
                + [found[8].payload.first, found[9].payload.first, 2])
        #expect(found[3].payload == [2])
        for index in [0, 1, 2, 4, 6, 10] {
            #expect(found[index].payload.count == size, "\(index)")
            #expect(Set(found[index].payload).count == 1, "\(index)")
        }
        #expect(found[8].header.status == Status.noData.rawValue)
        #expect(found[9].header.status == Status.outOfRange.rawValue)
    }

    @Test("what leaves is locked until it has left, and then free")
    func locked() throws {
        let peer = peer(2)
        let bytes = read(1) + read(2)
        let consumed = bytes.withUnsafeBytes { peer.session.serve($0, peer.loop) }
        #expect(consumed == bytes.count)
        #expect(peer.loop.gathered.size == 2 * size)
        for handle in [1, 2] as [UInt32] {
            let allocation = try #require(peer.session.holdings.handles[handle])
            #expect(!allocation.lock.tryLock())
        }
        peer.take()
        for handle in [1, 2] as [UInt32] {
            let allocation = try #require(peer.session.holdings.handles[handle])
            #expect(allocation.lock.tryLock())
            allocation.lock.unlock()
        }
    }

    @Test("a copy of what is left begins anywhere, and is what would have left")
    func copies() {
        let peer = peer(3)
        let bytes = read(1) + read(2) + read(3)
        _ = bytes.withUnsafeBytes { peer.session.serve($0, peer.loop) }
        var whole: [UInt8] = []
        let output = peer.loop.output.pointee.bytes
        peer.loop.gathered.forEachView(output) { whole += $0 }
        #expect(whole.count == 3 * (size + FrameHeader.byteCount))
        for sent in stride(from: 0, through: whole.count, by: 37) {
            let rest = peer.loop.gathered.copy(output, droppingFirst: sent)
            #expect([UInt8](rest) == [UInt8](whole[sent...]))
            rest.deallocate()
        }
        peer.take()
    }

    @Test("a batch has as many pieces as one system call may have, and then leaves")
    func limits() throws {
        let peer = peer(Gathered.piecesMax + 3)
        let handles = (1...UInt32(Gathered.piecesMax + 3))
        let bytes = handles.flatMap { read($0) }
        let consumed = bytes.withUnsafeBytes { peer.session.serve($0, peer.loop) }
        #expect(consumed == Gathered.piecesMax * FrameHeader.byteCount)
        #expect(peer.session.pause == .output)
        peer.take()
        peer.output = []
        peer.feed(bytes)
        let found = try #require(replies(in: peer.output))
        #expect(found.map { $0.payload.first } == handles.map { UInt8($0) })
    }

    /// KiB of a piece and of all that may leave at once, and the pieces that it comes to.
    private static let batches: [[Int]] = [
        [64, 512, 4], [60, 512, 4], [50, 512, 5], [64, 32, 1], [32, 32, 1], [8, 32, 4], [7, 32, 4],
        [4, 32, 8], [4, 512, 32],
    ]

    @Test(
        "a batch has as many bytes as may leave at once, but one piece at least",
        arguments: batches)
    func byteLimit(_ batch: [Int]) throws {
        let (size, sizeMax, pieces) = (batch[0] << 10, batch[1] << 10, batch[2])
        let peer = TestDaemon().greeted()
        let handles = (1...UInt32(40))
        for handle in handles {
            peer.call(.alloc, type: 2, size: UInt64(size))
            peer.call(.fill, handle: handle, size: UInt64(size), payload: [UInt8(handle)])
        }
        let bytes = handles.flatMap { read($0, size: UInt64(size)) }
        peer.loop.gathered.sizeMax = sizeMax
        let consumed = bytes.withUnsafeBytes { peer.session.serve($0, peer.loop) }
        #expect(consumed == pieces * FrameHeader.byteCount)
        #expect(peer.loop.gathered.size == pieces * size)
        #expect(peer.session.pause == .output)
        peer.take()
        peer.output = []
        peer.feed(bytes)
        let found = try #require(replies(in: peer.output))
        #expect(found.map { $0.payload.first } == handles.map { UInt8($0) })
        #expect(found.allSatisfy { $0.payload.count == size })
    }
}
