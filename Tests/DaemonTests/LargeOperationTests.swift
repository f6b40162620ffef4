// Operations on megabytes, which take other paths than small ones: received and sent straight,
// worked off elsewhere. The contents must be the same.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct LargeOperationTests {
    static let size = 12 << 20

    /// Bytes that differ at every place within reach of a mistake.
    static let data: [UInt8] = (0..<size).map {
        UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13)
    }

    @Test(
        "a large write and read, whole and in ragged pieces, by name and by handle",
        arguments: [false, true])
    func writeAndRead(tcp: Bool) throws {
        let daemon = try DaemonProcess(tcp: true)
        let client = try FrameClient(tcp ? daemon.connectTCP() : daemon.connect())
        var random = SplitMix(for: "writeAndRead")
        #expect(try client.alloc("a", size: UInt64(Self.size)).status == 0)
        #expect(
            try client.call("write", name: "a", size: UInt64(Self.size), payload: Self.data).size
                == UInt64(Self.size))
        #expect(try client.call("read", handle: 1, size: UInt64(Self.size)).payload == Self.data)
        for _ in 0..<Scale.count(10) {
            let offset = Int.random(in: 0..<Self.size, using: &random)
            let count = Int.random(in: 0...min(Self.size - offset, 3 << 20), using: &random)
            let fresh = random.bytes(count)
            var frame = TestFrame(
                9, cookie: 7, handle: 1, offset: UInt64(offset), size: UInt64(count), payload: fresh
            ).bytes[...]
            while !frame.isEmpty {
                let part = Int.random(in: 1...400_000, using: &random)
                try client.socket.send(Array(frame.prefix(part)))
                frame = frame.dropFirst(part)
            }
            #expect(try client.socket.receiveFrame().size == UInt64(count))
            let before = UInt64(max(0, offset - 10))
            let reply = try client.call(
                "read", name: "a", offset: before,
                size: UInt64(min(Self.size, offset + count + 10)) - before)
            #expect(Array(reply.payload.dropFirst(offset - Int(before)).prefix(count)) == fresh)
        }
    }

    @Test("refused large writes are skipped, with pings before and behind them")
    func refusedWrites() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        #expect(try client.alloc("a", size: 100).status == 0)
        let cases: [(TestFrame, String)] = [
            (TestFrame(9, name: "none", size: 3 << 20), "noData"),
            (TestFrame(9, handle: 9, size: 3 << 20), "noData"),
            (TestFrame(9, handle: 1, size: 3 << 20), "outOfRange"),
            (TestFrame(9, handle: 1, offset: .max, size: 3 << 20), "outOfRange"),
            (TestFrame(9, handle: 1, size: (3 << 20) + 1), "malformedRequest"),
            (TestFrame(9, name: "a b", size: 3 << 20), "invalidName"),
            (TestFrame(9, flags: 1, handle: 1, size: 2000), "invalidArgument"),
            (TestFrame(9, flags: 1, handle: 1, size: 0), "invalidArgument"),
            (TestFrame(9, flags: 1, handle: 1, offset: 1, size: 1), "malformedRequest"),
            (TestFrame(9, flags: 1, handle: 1, size: 5), "malformedRequest"),
            (TestFrame(9, type: 2, handle: 1, size: 3 << 20), "malformedRequest"),
            (TestFrame(2), "malformedRequest"), (TestFrame(77), "unknownOperation"),
        ]
        for (frame, status) in cases {
            var frame = frame
            frame.cookie = 50
            frame.payload += [UInt8](repeating: 0, count: 3 << 20)
            frame.payloadSize = UInt32(frame.payload.count)
            let ping = TestFrame(2, cookie: 51).bytes
            try client.socket.send(ping + frame.bytes + ping)
            #expect(try client.socket.receiveFrame().cookie == 51)
            let reply = try client.socket.receiveFrame()
            #expect(
                reply.cookie == 50 && FrameClient.statusName(reply) == status,
                "\(frame): \(reply.text)")
            #expect(try client.socket.receiveFrame().cookie == 51)
        }
        #expect(try client.call("read", name: "a", size: 100).payload.allSatisfy { $0 == 0 })
    }

    @Test("large vectored writes and reads put every range where it belongs")
    func vectored() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        var random = SplitMix(for: "vectored")
        #expect(try client.alloc("a", size: UInt64(Self.size)).status == 0)
        var expected = [UInt8](repeating: 0, count: Self.size)
        for count in [1, 2, 3, 100, 1024] {
            var ranges: [UInt8] = []
            var data: [UInt8] = []
            for _ in 0..<count {
                let size = Int.random(in: 0...2_000_000 / count, using: &random)
                let offset = Int.random(in: 0...Self.size - size, using: &random)
                let part = random.bytes(size)
                ranges += littleEndian(UInt64(offset), UInt64(size))
                data += part
                expected.replaceSubrange(offset..<offset + size, with: part)
            }
            let reply = try client.call(
                "write", flags: 1, name: "a", size: UInt64(count), payload: ranges + data)
            #expect(reply.status == 0 && reply.size == UInt64(data.count), "\(reply.text)")
            let read = try client.call(
                "read", flags: 1, handle: 1, size: UInt64(count), payload: ranges)
            #expect(read.payload.count == data.count)
        }
        #expect(try client.call("read", handle: 1, size: UInt64(Self.size)).payload == expected)
        let ends = littleEndian(UInt64(Self.size - 1), 1, 0, UInt64(Self.size - 1))
        let swapped = try client.call("read", flags: 1, handle: 1, size: 2, payload: ends)
        #expect(swapped.payload == [expected[Self.size - 1]] + expected.dropLast())
    }

    @Test("large copies are right where they overlap, in both directions, and between allocations")
    func copies() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        let other = try daemon.frames()
        let length = UInt64(Self.size)
        #expect(try client.alloc("a", size: length).status == 0)
        #expect(try client.alloc("b", size: length).status == 0)
        for (from, to) in [(0, 1), (1, 0), (0, 3 << 20), (3 << 20, 0), (777, 5_000_001), (0, 0)] {
            #expect(
                try client.call("write", handle: 1, size: length, payload: Self.data).status == 0)
            let size = Self.size - max(from, to)
            let reply = try client.call(
                "copy", handle: 1, offset: UInt64(from), size: UInt64(size),
                payload: copyTarget(offset: UInt64(to), handle: 1))
            #expect(reply.size == UInt64(size))
            #expect(try other.call("ping").status == 0)
            var expected = Self.data
            expected.replaceSubrange(to..<to + size, with: Self.data[from..<from + size])
            #expect(
                try client.call("read", handle: 1, size: length).payload == expected,
                "\(from) \(to)")
        }
        let pattern: [UInt8] = [1, 2, 3]
        #expect(try client.call("fill", name: "b", size: length, payload: pattern).size == length)
        #expect(
            try client.call(
                "copy", name: "b", size: length, payload: copyTarget(offset: 0, name: "a")
            ).status
                == 0)
        let filled = try client.call("read", handle: 1, size: length).payload
        #expect(filled == (0..<Self.size).map { pattern[$0 % 3] })
    }

    @Test("work on an allocation that is disposed of meanwhile ends well")
    func disposedMeanwhile() throws {
        let daemon = try DaemonProcess()
        let other = try daemon.text()
        for round in 0..<Scale.count(10) {
            let client = try daemon.frames()
            let size: UInt64 = 64 << 20
            #expect(try client.alloc("w", size: size).status == 0)
            let frame = TestFrame(
                round % 2 == 0 ? 10 : 11, cookie: 3, handle: 1, size: size,
                payload: round % 2 == 0 ? [7] : copyTarget(offset: 0, handle: 1))
            try client.socket.send(frame.bytes + TestFrame(8, cookie: 4, handle: 1, size: 1).bytes)
            if round % 3 == 0 {
                client.socket.close()
                #expect(try eventually { try other.ask("stat w").contains(" handles=0 ") })
                #expect(try other.ask("dispose w") == "OK")
            } else {
                #expect(try other.ask("dispose w") == "OK")
                #expect(try other.ask("alloc w 67108864") == "OK")
                let done = FrameClient.statusName(try client.socket.receiveFrame())
                #expect(done == "ok" || done == "noData")
                _ = try client.socket.receiveFrame()
                #expect(try other.ask("read w 0 4") == "OK 0 0 0 0")
                #expect(try other.ask("read w 67108860 4") == "OK 0 0 0 0")
                #expect(try other.ask("dispose w") == "OK")
            }
        }
        #expect(try other.ask("list") == "OK 0")
        #expect(daemon.isRunning)
    }

    @Test("long lines of text, in and out")
    func longLines() throws {
        let daemon = try DaemonProcess()
        let text = try daemon.text()
        #expect(try text.ask("alloc d 100000 Double") == "OK")
        let numbers = (0..<40_000).map { "\($0).5" }.joined(separator: " ")
        #expect(try text.ask("write d 0 \(numbers)") == "OK")
        #expect(try text.ask("read d 0 40000") == "OK \(numbers)")
        let digits = String(repeating: "00", count: 160_000)
        #expect(try text.ask("read d 40000 20000 hex") == "OK hex:\(digits)")
        #expect(try text.ask("alloc u 1000000") == "OK")
        let words = String(repeating: "x", count: 1_000_000)
        #expect(try text.ask("write u 0 text:\(words)") == "OK")
        let base64 = String(repeating: "eHh4", count: 333_333) + "eA=="
        #expect(try text.ask("read u 0 1000000 base64") == "OK base64:\(base64)")
        #expect(try text.ask("write u 0 base64:\(base64.prefix(1_000_000))") == "OK")
    }
}
