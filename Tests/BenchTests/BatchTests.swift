import Foundation
import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Batch", .timed)
struct BatchTests {
    private func bytes(_ vector: UnsafeMutablePointer<iovec>, _ count: Int) -> [UInt8] {
        (0..<count).flatMap { index in
            Array(
                UnsafeRawBufferPointer(start: vector[index].iov_base, count: vector[index].iov_len))
        }
    }

    private func rendered(
        _ render: (inout BatchBuilder) -> Void
    ) -> (request: [UInt8], reply: [UInt8]) {
        var builder = BatchBuilder(Pattern())
        render(&builder)
        let arena = Arena()
        let batch = builder.finish(jobs: 1, in: arena)
        return withExtendedLifetime((arena, builder.pattern)) {
            (
                bytes(batch.request, batch.requestCount), bytes(batch.reply, batch.replyCount)
            )
        }
    }

    @Test("peers are asked in their own words")
    func peers() {
        let target = Target(number: 7)
        let resp = rendered { RESPDialect().dispose(target, &$0) }
        #expect(
            String(decoding: resp.request, as: UTF8.self)
                == "*2\r\n$3\r\nDEL\r\n$10\r\nk000000007\r\n")
        #expect(String(decoding: resp.reply, as: UTF8.self) == ":1\r\n")
        let zeros = rendered { RESPDialect().create(target, size: 1000, &$0) }
        #expect(
            String(decoding: zeros.request, as: UTF8.self)
                == "*4\r\n$8\r\nSETRANGE\r\n$10\r\nk000000007\r\n$3\r\n999\r\n$1\r\n\0\r\n")
        let memcached = rendered { MemcachedDialect().dispose(target, &$0) }
        #expect(String(decoding: memcached.request, as: UTF8.self) == "md k000000007\r\n")
    }

    @Test("a block device is asked for a part of its disk, in network byte order")
    func disk() {
        let target = Target(number: 3)
        let read = rendered { NBDDialect().read(target, content: target.content(4096), &$0) }
        #expect(
            read.request == [0x25, 0x60, 0x95, 0x13, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 8)
                + [0, 0, 0, 0, 0, 0, 0x30, 0, 0, 0, 0x10, 0])
        #expect(read.reply.count == 16 + 4096)
        #expect(Array(read.reply.prefix(8)) == [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0])
        let write = rendered { NBDDialect().write(target, size: 64, &$0) }
        #expect(write.request.count == 28 + 64)
        #expect(Array(write.request[4..<8]) == [0, 0, 0, 1])
        #expect(write.reply.count == 16)
    }

    @Test("a frame is 40 bytes in the order of the protocol")
    func frame() {
        let target = Target(number: 7, handle: 0x01020304)
        let read = rendered { SmallocDialect().read(target, content: target.content(64), &$0) }
        var request: [UInt8] = [0xe5, 1, 8, 0, 0, 0, 0, 0]
        request += [0, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]
        request += [0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]
        #expect(read.request == request)
        #expect(read.reply.count == 104)
        #expect(Array(read.reply.prefix(8)) == [0xe6, 1, 8, 0, 0, 0, 0, 2])
    }

    @Test("a large content is the same bytes as a small one of the same number begins with")
    func splices() {
        let small = rendered { MemcachedDialect().write(Target(number: 3), size: 1000, &$0) }
        let large = rendered { MemcachedDialect().write(Target(number: 3), size: 600_000, &$0) }
        let header = "ms k000000003 1000\r\n".utf8.count
        #expect(large.request.count == 600_000 + header + 4)
        #expect(
            Array(small.request[header..<header + 1000])
                == Array(large.request[header + 2..<header + 1002]))
    }

    @Test("a content differs from others, and from itself a page or a period's power of two on")
    func pattern() {
        let pattern = Pattern()
        func byte(_ number: Int, _ offset: Int) -> UInt8 {
            pattern.piece(of: .init(number: number, size: 1 << 22), at: offset)[0]
        }
        for step in [4096, 65536, 262_144, 1 << 20] {
            #expect((0..<64).contains { byte(1, $0) != byte(1, $0 + step) })
        }
        #expect((0..<64).contains { byte(1, $0) != byte(2, $0) })
    }

    @Test("cookies are counted up in requests and expected replies alike")
    func cookies() {
        var builder = BatchBuilder(Pattern())
        let dialect = SmallocDialect()
        for _ in 0..<3 { dialect.ping(&builder) }
        let arena = Arena()
        let batch = builder.finish(jobs: 3, in: arena)
        batch.number(from: 41)
        let (request, reply) = withExtendedLifetime((arena, builder.pattern)) {
            (bytes(batch.request, batch.requestCount), bytes(batch.reply, batch.replyCount))
        }
        for index in 0..<3 {
            #expect(request[index * 40 + 8] == UInt8(41 + index))
            #expect(reply[index * 40 + 8] == UInt8(41 + index))
        }
    }
}
