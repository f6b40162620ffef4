// Large reads that leave without a copy: whole, in order, and nobody else's memory ever after.

import Foundation
import Testing
import TestSupport

@Suite(.enabled(if: Kernel.lendsPages, "Linux 6.5")) struct ZeroCopyTests {
    private static let size = 4 << 20
    private static let read: UInt8 = 8

    private func lent(_ daemon: DaemonProcess) throws -> Int {
        Int(try daemon.text().stats()["bytes_zero_copy"] ?? "") ?? -1
    }

    /// A connection with an allocation of so many bytes of this kind under handle 1, which is lent
    /// from now on: it was read often enough, and the connection has seen enough copies.
    private func filled(
        _ daemon: DaemonProcess, _ byte: UInt8, overTCP: Bool = false
    ) throws -> FrameClient {
        let socket = try overTCP ? daemon.connectTCP() : daemon.connect()
        let client = try FrameClient(socket)
        let size = UInt64(ZeroCopyTests.size)
        #expect(try client.alloc("a", size: size).handle == 1)
        #expect(try client.call("fill", handle: 1, size: size, payload: [byte]).status == 0)
        for _ in 0..<4 { #expect(try readAll(client).payload.count == ZeroCopyTests.size) }
        #expect(try lent(daemon) == 0)
        return client
    }

    /// Another connection that is lent the allocation `a` at its next read.
    private func reader(_ daemon: DaemonProcess) throws -> FrameClient {
        let client = try daemon.frames()
        #expect(try client.call("open", name: "a").handle == 1)
        for _ in 0..<3 { #expect(try readAll(client).payload.count == ZeroCopyTests.size) }
        return client
    }

    private func readAll(_ client: FrameClient) throws -> TestFrame {
        try client.call("read", handle: 1, size: UInt64(ZeroCopyTests.size))
    }

    @Test("whom it serves: the same user by default, everybody, or nobody; TCP never")
    func whom() throws {
        for (options, serves) in [([], true), (["on"], true), (["off"], false)] {
            let daemon = try DaemonProcess(options.flatMap { ["--zero-copy", $0] }, tcp: true)
            let client = try filled(daemon, 7)
            #expect(try readAll(client).payload.allSatisfy { $0 == 7 })
            let count = try lent(daemon)
            #expect(serves ? count > ZeroCopyTests.size / 4 : count == 0, "\(options) \(count)")
            #expect(count < ZeroCopyTests.size)
        }
        let daemon = try DaemonProcess(["--zero-copy", "on"], tcp: true)
        #expect(try readAll(filled(daemon, 7, overTCP: true)).payload.allSatisfy { $0 == 7 })
        #expect(try lent(daemon) == 0)
    }

    @Test("small reads are copied")
    func small() throws {
        let daemon = try DaemonProcess()
        let client = try filled(daemon, 7)
        for size: UInt64 in [1, 4096, 65_536, 300_000] {
            #expect(try client.call("read", handle: 1, size: size).payload.count == Int(size))
        }
        #expect(try lent(daemon) == 0)
    }

    @Test("any ranges arrive as they are")
    func ranges() throws {
        var random = SplitMix(for: "ZeroCopyTests.ranges")
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        let size = ZeroCopyTests.size
        let bytes = random.bytes(size)
        #expect(try client.alloc("a", size: UInt64(size)).handle == 1)
        #expect(try client.call("write", handle: 1, size: UInt64(size), payload: bytes).status == 0)
        for _ in 0..<4 { #expect(try readAll(client).payload == bytes) }
        for _ in 0..<20 {
            let client = try reader(daemon)
            var (frames, expected): ([UInt8], [UInt8]) = ([], [])
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                var ranges: [UInt8] = []
                let most = 1 << Int.random(in: 12...22, using: &random)
                var data: [UInt8] = []
                let count = Int.random(in: 1...5, using: &random)
                for _ in 0..<count {
                    let offset = Int.random(in: 0...size, using: &random)
                    let length = min(size - offset, Int.random(in: 0...most, using: &random))
                    for number in [offset, length] {
                        withUnsafeBytes(of: UInt64(number).littleEndian) { ranges += $0 }
                    }
                    data += bytes[offset..<offset + length]
                }
                frames +=
                    TestFrame(
                        ZeroCopyTests.read, flags: 1, handle: 1, size: UInt64(count),
                        payload: ranges
                    ).bytes
                expected += data
            }
            try client.socket.send(frames)
            var got: [UInt8] = []
            while got.count < expected.count { got += try client.socket.receiveFrame().payload }
            let isRight = got == expected
            #expect(isRight, "seed \(random.seed)")
        }
        #expect(try lent(daemon) > size / 2)
    }

    @Test("what was never written reads as zeros, and what is written then as it is")
    func untouched() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        let size = UInt64(ZeroCopyTests.size)
        #expect(try client.alloc("a", size: size).handle == 1)
        for byte: UInt8 in [0, 5, 6] {
            if byte > 0 {
                #expect(try client.call("fill", handle: 1, size: size, payload: [byte]).status == 0)
            }
            for _ in 0..<6 { #expect(try readAll(client).payload.allSatisfy { $0 == byte }) }
        }
        #expect(try lent(daemon) > 0)
    }

    @Test("what is asked for behind a read does not show in it, wherever the reader rests")
    func order() throws {
        let daemon = try DaemonProcess()
        _ = try filled(daemon, 0)
        let size = UInt64(ZeroCopyTests.size)
        for round in 1...16 {
            let client = try reader(daemon)
            let before = try lent(daemon)
            let fill = TestFrame(10, handle: 1, size: size, payload: [UInt8(round)])
            try client.socket.send(
                TestFrame(ZeroCopyTests.read, handle: 1, size: size).bytes + fill.bytes)
            let header = try client.socket.receive(exactly: TestFrame.headerSize)
            #expect(TestFrame(header: header).status == 0)
            // The rest fits in the socket: the daemon could go on with the next request.
            let rest = round * 24 << 10
            var isRight = true
            for part in [ZeroCopyTests.size - rest, rest] {
                let bytes = try receive(client.socket, part)
                isRight = isRight && bytes.allSatisfy { $0 == UInt8(round - 1) }
                usleep(10_000)
            }
            #expect(isRight, "rested \(rest) bytes before the end")
            #expect(try client.socket.receiveFrame().status == 0)
            #expect(try lent(daemon) > before)
        }
    }

    /// Exactly so many bytes, and no more out of the socket.
    private func receive(_ socket: RawSocket, _ size: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < size {
            let more = try socket.receive(size - bytes.count)
            guard !more.isEmpty else { throw RawSocketError.ended }
            bytes += more
        }
        return bytes
    }

    @Test("pages that a reader keeps hold of show nothing of who has memory after it")
    func kept() throws {
        let daemon = try DaemonProcess()
        let client = try filled(daemon, 0x11)
        let size = UInt64(ZeroCopyTests.size)
        try client.socket.send(TestFrame(ZeroCopyTests.read, handle: 1, size: size).bytes)
        let before = 1 << 20
        _ = try receive(client.socket, TestFrame.headerSize + before)
        // Not copied out of the socket: the pages themselves move on into a pipe. More of them than a
        // socket holds, since a part of each buffer full is a copy.
        let pipe = Pipe()
        let descriptor = pipe.fileHandleForWriting.fileDescriptor
        #expect(fcntl(descriptor, 1031 /* F_SETPIPE_SZ */, 1 << 20) >= 1 << 20)
        var kept = 0
        while kept < 512 << 10 {
            kept += try splice(client.socket.descriptor, descriptor, (512 << 10) - kept)
        }
        _ = try receive(client.socket, ZeroCopyTests.size - before - kept)
        #expect(try lent(daemon) > 0)
        // The pages, for they show it.
        #expect(try client.call("fill", handle: 1, size: size, payload: [0x22]).status == 0)

        #expect(try client.call("dispose", handle: 1).status == 0)
        let other = try daemon.frames()
        for index in 0..<8 {
            let handle = try other.alloc("b\(index)", size: size).handle
            let secret = [UInt8](repeating: 0xEE, count: ZeroCopyTests.size)
            #expect(
                try other.call("write", handle: handle, size: size, payload: secret).status == 0)
            usleep(20_000)
        }
        let seen = pipe.fileHandleForReading.readData(ofLength: kept)
        #expect(seen.count == kept && seen.allSatisfy { $0 == 0x11 || $0 == 0x22 })
        #expect(seen.contains(0x22), "what was kept was a copy")
    }

    /// `splice`, which Swift does not import: from a socket to a pipe.
    private func splice(_ socket: Int32, _ pipe: Int32, _ size: Int) throws -> Int {
        typealias Splice =
            @convention(c) (
                Int32, UnsafeMutableRawPointer?, Int32, UnsafeMutableRawPointer?, Int, UInt32
            ) -> Int
        let address = try #require(dlsym(nil, "splice"))
        let call = unsafeBitCast(address, to: Splice.self)
        let moved = call(socket, nil, pipe, nil, size, 0)
        guard moved > 0 else { throw RawSocketError.system(call: "splice", number: errno) }
        return moved
    }

    @Test("readers that leave in the middle take nothing with them that others need")
    func readersThatLeave() throws {
        let daemon = try DaemonProcess()
        let client = try filled(daemon, 9)
        let size = UInt64(ZeroCopyTests.size)
        for rest in [0, 40, 4096, 100_000, 1 << 20] {
            let leaver = try reader(daemon)
            try leaver.socket.send(TestFrame(ZeroCopyTests.read, handle: 1, size: size).bytes)
            _ = try receive(leaver.socket, rest)
            leaver.socket.close()
            #expect(try readAll(client).payload.allSatisfy { $0 == 9 })
        }
        #expect(daemon.isRunning)
    }
}
