// Half-closed connections, shell pipelines, and peers that vanish.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct EndOfInputTests {
    @Test("frames before the end of input are answered, an unfinished one is not")
    func halfClosedBinary() throws {
        let daemon = try DaemonProcess()
        let socket = try daemon.connect()
        var bytes = TestFrame(1).bytes
        for cookie in 1...500 { bytes += TestFrame(2, cookie: UInt64(cookie)).bytes }
        try socket.send(bytes + TestFrame(2, cookie: 501).bytes.dropLast())
        socket.endOutput()
        _ = try socket.receiveFrame()
        for cookie in 1...500 { #expect(try socket.receiveFrame().cookie == UInt64(cookie)) }
        #expect(try socket.isEnded())
    }

    @Test("large replies still leave after the end of input")
    func halfClosedWithLargeReplies() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        let size = 3 << 20
        #expect(try client.alloc("a", size: UInt64(size)).status == 0)
        let pattern: [UInt8] = [1, 2, 3, 4]
        #expect(
            try client.call("fill", name: "a", size: UInt64(size), payload: pattern).status == 0)
        for cookie in 1...20 {
            try client.socket.send(
                TestFrame(8, cookie: UInt64(cookie), name: "a", size: UInt64(size)).bytes)
        }
        client.socket.endOutput()
        let expected = Array(repeating: pattern, count: size / 4).flatMap { $0 }
        for cookie in 1...20 {
            let reply = try client.socket.receiveFrame()
            #expect(reply.cookie == UInt64(cookie))
            #expect(reply.payload == expected)
        }
        #expect(try client.socket.isEnded())
    }

    @Test("a shell pipeline through netcat prints its replies")
    func netcat() throws {
        // Netcat comes in several kinds; this wants the one that ends its side at the end of input.
        guard let help = try Spawn.run(["/bin/sh", "-c", "nc -h 2>&1"]), help.output.contains("-N"),
            help.output.contains("-U")
        else { return }
        let daemon = try DaemonProcess()
        let command = """
            printf 'alloc a 4\\nalloc b 4\\nwrite a 0 0 1 2 3\\nwrite b 0 0 2 4 6\\n\
            copy b 2 a 0 2\\nread a\\n' | nc -N -U \(daemon.path)
            """
        let result = try #require(try Spawn.run(["/bin/sh", "-c", command]))
        #expect(result.output == "OK\nOK\nOK\nOK\nOK\nOK 4 6 2 3\n")
        let echo = try #require(
            try Spawn.run(["/bin/sh", "-c", "echo ping | nc -N -U \(daemon.path)"]))
        #expect(echo.output == "OK pong\n")
    }

    @Test(
        "a peer that vanishes in the middle of a write takes nothing with it",
        arguments: [false, true])
    func vanishingWriter(tcp: Bool) throws {
        let daemon = try DaemonProcess(tcp: true)
        let onlooker = try daemon.text()
        #expect(try onlooker.ask("alloc big 8388608") == "OK")
        #expect(try onlooker.ask("alloc small 4") == "OK")
        let before = try settled(daemon)
        for round in 0..<Scale.count(20) {
            let client = try FrameClient(tcp ? daemon.connectTCP() : daemon.connect())
            let handle = try client.call("open", name: "big").handle
            #expect(try client.call("alloc", type: 2, size: 65_536).status == 0)
            var frame = TestFrame(9, cookie: 9, handle: handle, size: 8_388_608)
            frame.payloadSize = 8_388_608
            let part = [UInt8](repeating: UInt8(round), count: 300_000 * (round % 10) + 7)
            try client.socket.send(frame.bytes + part)
            round % 2 == 0 ? client.socket.reset() : client.socket.close()
            #expect(try onlooker.ask("write small 0 1 2 3 4") == "OK")
            #expect(try onlooker.ask("read small") == "OK 1 2 3 4")
        }
        // Its handles and its anonymous allocations are gone, and no descriptor is left.
        #expect(
            try eventually {
                try onlooker.ask("stat big").contains(" handles=0 ")
                    && onlooker.stats()["allocations"] == "2"
            })
        #expect(try settled(daemon) == before)
    }

    @Test(
        "a peer that vanishes in the middle of a reply takes nothing with it",
        arguments: [false, true])
    func vanishingReader(tcp: Bool) throws {
        let daemon = try DaemonProcess(tcp: true)
        let onlooker = try daemon.text()
        #expect(try onlooker.ask("alloc big 33554432") == "OK")
        let before = try settled(daemon)
        for round in 0..<Scale.count(20) {
            let socket = try tcp ? daemon.connectTCP() : daemon.connect()
            let client = try FrameClient(socket)
            try client.socket.send(TestFrame(8, name: "big", size: 33_554_432).bytes)
            _ = try client.socket.receive(exactly: 1 + 100_000 * (round % 7))
            round % 2 == 0 ? socket.reset() : socket.close()
            #expect(try onlooker.ask("ping") == "OK pong")
        }
        #expect(try onlooker.ask("dispose big") == "OK")
        #expect(try settled(daemon) == before)
        #expect(daemon.isRunning)
    }

    /// The daemon's descriptors, when they have stopped changing.
    private func settled(_ daemon: DaemonProcess) throws -> Int {
        var last = -1
        _ = try eventually(within: 5) {
            let now = try daemon.figures().descriptors
            defer { last = now }
            if now == last { return true }
            usleep(50_000)
            return false
        }
        return last
    }
}
