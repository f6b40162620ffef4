// Peers that declare much, read nothing, or send slowly: each costs at most its limits.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct BackpressureTests {
    /// Test 5 of the reliability bar; there 1,000 connections.
    @Test("connections that declare 1 GiB and send a byte cost next to nothing")
    func declaredSizes() throws {
        let daemon = try DaemonProcess(["--memory-max", "4G"])
        let onlooker = try daemon.frames()
        #expect(try onlooker.alloc("big", size: 1 << 30).status == 0)
        #expect(try onlooker.alloc("small", size: 4).status == 0)
        func declare(_ index: Int) throws -> RawSocket {
            let socket = try daemon.connect()
            // Into memory that is there, over its end, and into nothing.
            let name = ["big", "small", "nothing"][index % 3]
            var frame = TestFrame(9, name: name, size: 1 << 30)
            frame.payloadSize = 1 << 30
            frame.size = (1 << 30) - UInt64(name.utf8.count)
            try socket.send(TestFrame(1).bytes + frame.bytes + [1])
            _ = try socket.receiveFrame()
            return socket
        }
        var sockets = try (0..<50).map(declare)
        let before = try daemon.figures()
        let count = Scale.count(200)
        sockets += try (0..<count).map(declare)
        for socket in sockets { try socket.waitUntilTaken() }
        let after = try daemon.figures()
        #expect(after.residentSize - before.residentSize < DaemonProcess.growth(count * 32 << 10))
        #expect(after.virtualSize - before.virtualSize < DaemonProcess.growth(count * 64 << 10))
        #expect(try onlooker.call("ping").status == 0)
    }

    /// Test 6 of the reliability bar; there 1 GiB each by 16.
    @Test("readers that never read cost a bounded amount, and lose nothing when they read on")
    func slowReaders() throws {
        let daemon = try DaemonProcess()
        let onlooker = try daemon.frames()
        let size = 1 << 20
        #expect(try onlooker.alloc("a", size: UInt64(size)).status == 0)
        let data = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        #expect(
            try onlooker.call("write", name: "a", size: UInt64(size), payload: data).status == 0)
        let before = try daemon.figures()
        let peers = 4
        let requests = Scale.count(100)
        let clients = try (0..<peers).map { _ in try daemon.frames() }
        for client in clients {
            let frames = (1...requests).flatMap {
                TestFrame(8, cookie: UInt64($0), name: "a", size: UInt64(size)).bytes
            }
            try client.socket.send(frames)
        }
        for _ in 0..<10 {
            usleep(100_000)
            #expect(try onlooker.call("read", name: "a", size: 4).payload == Array(data[..<4]))
            #expect(
                try daemon.figures().residentSize - before.residentSize
                    < DaemonProcess.growth(peers * 2 << 20))
        }
        for client in clients {
            for cookie in 1...requests {
                let reply = try client.socket.receiveFrame()
                guard reply.cookie == UInt64(cookie), reply.payload == data else {
                    Issue.record("wrong reply \(reply)")
                    return
                }
            }
        }
        #expect(
            try daemon.figures().residentSize - before.residentSize
                < DaemonProcess.growth(peers * 2 << 20))
    }

    @Test("a flood of small requests stops being read when its replies are not taken")
    func floodOfSmallRequests() throws {
        let daemon = try DaemonProcess()
        let onlooker = try daemon.text()
        let client = try daemon.frames()
        #expect(try client.alloc("a", size: 64).status == 0)
        let before = try daemon.figures()
        var bytes: [UInt8] = []
        var sent = 0
        let most = 400_000
        for cookie in 1...most {
            bytes += TestFrame(8, cookie: UInt64(cookie), handle: 1, size: 64).bytes
        }
        // Until nothing more is taken for a while.
        var quiet = 0
        while sent < bytes.count && quiet < 50 {
            let count = try client.socket.sendSome(bytes[sent..<min(bytes.count, sent + 65_536)])
            sent += count
            quiet = count == 0 ? quiet + 1 : 0
            if count == 0 { usleep(10_000) }
        }
        #expect(sent < bytes.count, "all requests were taken")
        #expect(try onlooker.ask("ping") == "OK pong")
        #expect(
            try daemon.figures().residentSize - before.residentSize < DaemonProcess.growth(6 << 20))
        let whole = sent / 40
        for cookie in 1...whole {
            let reply = try client.socket.receiveFrame()
            guard reply.cookie == UInt64(cookie), reply.payload.count == 64 else {
                Issue.record("wrong reply \(reply)")
                return
            }
        }
    }

    @Test("small requests with large replies cost no more than the limit of output")
    func amplifying() throws {
        let daemon = try DaemonProcess()
        let onlooker = try daemon.frames()
        let size = 65_536
        #expect(try onlooker.alloc("a", size: UInt64(size)).status == 0)
        let data = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        #expect(
            try onlooker.call("write", name: "a", size: UInt64(size), payload: data).status == 0)
        let before = try daemon.figures()
        let requests = Scale.count(800)
        // Read at once, these 32 KiB would be answered with 50 MiB.
        let frames = (1...requests).flatMap {
            TestFrame(8, cookie: UInt64($0), name: "a", size: UInt64(size)).bytes
        }
        let clients = try (0..<4).map { _ in try daemon.frames() }
        for client in clients { try client.socket.send(frames) }
        for client in clients { try client.socket.waitUntilTaken() }
        #expect(try onlooker.call("ping").status == 0)
        #expect(
            try daemon.figures().residentSize - before.residentSize
                < DaemonProcess.growth(clients.count * 2 << 20))
        for cookie in 1...requests {
            let reply = try clients[0].socket.receiveFrame()
            guard reply.cookie == UInt64(cookie), reply.payload == data else {
                Issue.record("wrong reply \(reply.cookie)")
                return
            }
        }
    }

    @Test("a text session that never reads costs a bounded amount too")
    func slowTextReader() throws {
        let daemon = try DaemonProcess()
        let text = try daemon.text()
        #expect(try text.ask("alloc d 100000 Double") == "OK")
        #expect(try text.ask("fill d 0 100000 0.1") == "OK")
        let before = try daemon.figures()
        let socket = try daemon.connect()
        for _ in 0..<200 { try socket.send(line: "read d") }
        usleep(500_000)
        #expect(
            try daemon.figures().residentSize - before.residentSize < DaemonProcess.growth(6 << 20))
        #expect(try text.ask("ping") == "OK pong")
        let expected = "OK" + String(repeating: " 0.1", count: 100_000)
        for _ in 0..<200 { #expect(try socket.receiveLine() == expected) }
    }

    /// Test 7 of the reliability bar; there 5,500 connections.
    @Test("requests that trickle in are ended with one error, in both modes")
    func slowWriters() throws {
        let daemon = try DaemonProcess(["--request-timeout", "1"])
        let onlooker = try daemon.text()
        #expect(try onlooker.ask("alloc a 1048576") == "OK")
        var large = TestFrame(9, name: "a", size: 1_048_576)
        large.payloadSize = 1_048_577
        let count = Scale.count(100)
        let before = try daemon.figures()
        var sockets: [(socket: RawSocket, rest: [UInt8], isText: Bool)] = []
        for index in 0..<count {
            let socket = try daemon.connect()
            let isText = index % 4 == 3
            if !isText {
                try socket.send(TestFrame(1).bytes)
                #expect(try socket.receiveFrame().status == 0)
            }
            // None of them ends before the test does.
            let many = [UInt8](repeating: 0x31, count: 1000)
            let rest: [UInt8] =
                switch index % 4 {
                case 0: TestFrame(5, payload: Array(many.prefix(256))).bytes
                case 1: large.bytes + many
                case 2: TestFrame(200, payload: many).bytes
                default: Array("write a 0 ".utf8) + many
                }
            sockets.append((socket, rest, isText))
        }
        let start = Date()
        var sent = 0
        var live = sockets
        while !live.isEmpty, Date().timeIntervalSince(start) < 20 {
            for entry in live where sent < entry.rest.count {
                try? entry.socket.send([entry.rest[sent]])
            }
            sent += 1
            live.removeAll { $0.socket.isReadable }
            #expect(try onlooker.ask("ping") == "OK pong")
            // 8 KiB each, and what the daemon takes once.
            let grown = try daemon.figures().residentSize - before.residentSize
            #expect(grown < DaemonProcess.growth(count * 8192 + (1 << 20)), "\(grown)")
            usleep(100_000)
        }
        let seconds = Date().timeIntervalSince(start)
        #expect(live.isEmpty, "not ended")
        // Each byte is progress of a kind, and buys no time.
        #expect(seconds > 0.8 && seconds < 6, "ended after \(seconds) s")
        for entry in sockets {
            if entry.isText {
                #expect(try entry.socket.receiveLine().hasPrefix("ERR requestTimeout Error: "))
            } else {
                let reply = try entry.socket.receiveFrame()
                #expect(FrameClient.statusName(reply) == "requestTimeout")
                #expect(reply.cookie == 0 && reply.operation == 0)
            }
            #expect(try entry.socket.isEnded())
        }
    }

    @Test("a slow but steady large write is not ended by the request timeout")
    func steadyWriter() throws {
        let daemon = try DaemonProcess(["--request-timeout", "1"])
        let client = try daemon.frames()
        #expect(try client.alloc("a", size: 1 << 20).status == 0)
        var frame = TestFrame(9, cookie: 5, name: "a", size: 1 << 20)
        frame.payloadSize = (1 << 20) + 1
        try client.socket.send(frame.bytes)
        for _ in 0..<8 {
            usleep(250_000)
            try client.socket.send([UInt8](repeating: 9, count: 1 << 17))
        }
        let reply = try client.socket.receiveFrame()
        #expect(reply.status == 0 && reply.cookie == 5 && reply.size == 1 << 20)
    }

    @Test("an idle connection is ended in its mode; a busy one is not")
    func idleConnections() throws {
        let daemon = try DaemonProcess(["--idle-timeout", "1"])
        let busy = try daemon.text()
        let idleText = try daemon.text()
        #expect(try idleText.ask("ping") == "OK pong")
        let idleBinary = try daemon.frames()
        let silent = try daemon.connect()
        let start = Date()
        while Date().timeIntervalSince(start) < 20 {
            #expect(try busy.ask("ping") == "OK pong")
            if [idleText.socket, idleBinary.socket, silent].allSatisfy(\.isReadable) { break }
            usleep(100_000)
        }
        let seconds = Date().timeIntervalSince(start)
        #expect(seconds > 0.8 && seconds < 5, "ended after \(seconds) s")
        #expect(try idleText.socket.receiveLine().hasPrefix("ERR idleTimeout Error: "))
        #expect(try idleText.socket.isEnded())
        #expect(FrameClient.statusName(try idleBinary.socket.receiveFrame()) == "idleTimeout")
        #expect(try idleBinary.socket.isEnded())
        #expect(try silent.receiveLine().hasPrefix("ERR idleTimeout Error: "))
        #expect(try silent.isEnded())
        #expect(try busy.ask("ping") == "OK pong")
    }
}
