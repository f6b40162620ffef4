// SIGTERM and SIGINT: what was accepted is finished, then the daemon leaves.

import Foundation
import Testing
import TestSupport

/// Test 39 of the reliability bar.
@Suite(.timed) struct ShutdownTests {
    @Test("a signal stops an idle daemon, which removes its socket", arguments: [SIGTERM, SIGINT])
    func idle(signal: Int32) throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let daemon = try DaemonProcess(folder: folder)
        let text = try daemon.text()
        #expect(try text.ask("ping") == "OK pong")
        let binary = try daemon.frames()
        daemon.signal(signal)
        #expect(try text.socket.receiveLine().hasPrefix("ERR shuttingDown Error: "))
        #expect(try text.socket.isEnded())
        let last = try binary.socket.receiveFrame()
        #expect(FrameClient.statusName(last) == "shuttingDown" && last.cookie == 0)
        #expect(try binary.socket.isEnded())
        #expect(daemon.waitForExit(seconds: 10) == 0)
        #expect(!FileManager.default.fileExists(atPath: daemon.path))
        #expect(throws: RawSocketError.self) { try daemon.connect() }
    }

    @Test("requests that were received are answered before the end")
    func underLoad() throws {
        let daemon = try DaemonProcess()
        // More than the sockets' buffers hold, little enough for a busy machine to take in time.
        let size = 256 << 10
        let clients = try (0..<4).map { _ in try daemon.frames() }
        #expect(try clients[0].alloc("a", size: UInt64(size)).status == 0)
        #expect(
            try clients[0].call("fill", name: "a", size: UInt64(size), payload: [3]).status == 0)
        for client in clients {
            for cookie in 1...8 {
                try client.socket.send(
                    TestFrame(8, cookie: UInt64(cookie), name: "a", size: UInt64(size)).bytes)
            }
            // The first reply has begun, so the requests have been read.
            #expect(try client.socket.receiveFrame().cookie == 1)
        }
        daemon.signal(SIGTERM)
        let expected = [UInt8](repeating: 3, count: size)
        for client in clients {
            var cookie: UInt64 = 2
            while true {
                let reply = try client.socket.receiveFrame()
                if reply.cookie == 0 {
                    #expect(FrameClient.statusName(reply) == "shuttingDown")
                    break
                }
                #expect(reply.cookie == cookie && reply.payload == expected)
                cookie += 1
            }
            #expect(cookie == 9, "\(cookie - 1) of 8 answered")
            #expect(try client.socket.isEnded())
        }
        #expect(daemon.waitForExit(seconds: 10) == 0)
    }

    @Test(
        "a second signal ends the daemon at once, whichever loop has still something to do",
        arguments: [(1, 0), (2, 0), (2, 1), (3, 0), (3, 2)], [SIGTERM, SIGINT])
    func secondSignal(_ place: (loops: Int, stuck: Int), signal: Int32) throws {
        let daemon = try DaemonProcess(["--loops", "\(place.loops)"])
        // Each goes to the loop with the fewest, so that every loop has one.
        let clients = try (0..<place.loops).map { _ in try daemon.frames() }
        let stuck = clients[place.stuck]
        #expect(try stuck.alloc("a", size: 64 << 20).status == 0)
        // A reply that this client never takes.
        try stuck.socket.send(TestFrame(8, cookie: 5, name: "a", size: 64 << 20).bytes)
        _ = try stuck.socket.receive(exactly: 40)
        daemon.signal(SIGTERM)
        usleep(300_000)
        #expect(daemon.isRunning)
        // No new connection is served while the daemon drains.
        #expect((try? daemon.text().ask("ping")) != "OK pong")
        let start = Date()
        daemon.signal(signal)
        #expect(daemon.waitForExit(seconds: 10) == 0)
        #expect(Date().timeIntervalSince(start) < 0.5)
        #expect(daemon.log.contains("stopping at once"), "\(daemon.log)")
        #expect(!FileManager.default.fileExists(atPath: daemon.path))
    }

    @Test("connections that were answered do not hold up a stop, though their clients keep them")
    func answered() throws {
        let daemon = try DaemonProcess(["--loops", "2"], tcp: true)
        var sockets: [RawSocket] = []
        for isTCP in [false, true] {
            func connect() throws -> RawSocket {
                isTCP ? try daemon.connectTCP() : try daemon.connect()
            }
            let silent = try connect()
            let text = TextClient(try connect())
            #expect(try text.ask("ping") == "OK pong")
            let binary = try FrameClient(connect())
            let quitting = TextClient(try connect())
            #expect(try quitting.ask("quit").hasPrefix("OK"))
            let refused = try connect()
            try refused.send([1])
            #expect(try refused.receiveLine().hasPrefix("ERR notSmalloc "))
            sockets += [silent, text.socket, binary.socket, quitting.socket, refused]
        }
        let start = Date()
        daemon.signal(SIGTERM)
        #expect(daemon.waitForExit(seconds: 10) == 0)
        // Where one of them is waited for it takes 1.5 s.
        let seconds = Date().timeIntervalSince(start)
        #expect(seconds < 0.5, "stopped after \(seconds) s")
        for (index, socket) in sockets.enumerated() {
            switch index % 5 {
            case 0, 1: #expect(try socket.receiveLine().hasPrefix("ERR shuttingDown Error: "))
            case 2: #expect(try FrameClient.statusName(socket.receiveFrame()) == "shuttingDown")
            default: break
            }
            #expect(try socket.isEnded())
        }
    }

    @Test("signals that were blocked when it was started stop it all the same")
    func blocked() throws {
        for signal in [SIGTERM, SIGINT] {
            let daemon = try DaemonProcess(blocked: [SIGTERM, SIGINT, SIGHUP])
            daemon.signal(SIGHUP)
            #expect(eventually { daemon.log.contains("settings reread") })
            daemon.signal(signal)
            #expect(daemon.waitForExit(seconds: 10) == 0)
        }
    }

    @Test("who waits for an answer that will not come is told so", arguments: [false, true])
    func unfinished(_ isTCP: Bool) throws {
        let daemon = try DaemonProcess(tcp: true)
        func connect() throws -> RawSocket {
            isTCP ? try daemon.connectTCP() : try daemon.connect()
        }
        // A line without an end, a write without its data, and a copy that takes longer than the
        // daemon waits.
        let line = TextClient(try connect())
        #expect(try line.ask("ping") == "OK pong")
        try line.socket.send(Array("read a 0".utf8))
        let writer = try FrameClient(connect())
        #expect(try writer.alloc("a", size: 8 << 20).status == 0)
        var write = TestFrame(9, cookie: 5, name: "a", size: 8 << 20).bytes
        write.replaceSubrange(
            20..<24, with: withUnsafeBytes(of: UInt32((8 << 20) + 1).littleEndian) { Array($0) })
        try writer.socket.send(write + [UInt8](repeating: 1, count: 100_000))
        let copier = try FrameClient(connect())
        let size: UInt64 = 256 << 20
        #expect(try copier.alloc("b", size: size).status == 0)
        #expect(try copier.alloc("c", size: size).status == 0)
        for cookie in 1...200 {
            try copier.socket.send(
                TestFrame(
                    11, cookie: UInt64(cookie), name: "b", size: size,
                    payload: [UInt8](repeating: 0, count: 12) + [1, 0, 0, 0] + Array("c".utf8)
                ).bytes)
        }
        // The first is answered, so they have been read.
        #expect(try copier.socket.receiveFrame().cookie == 1)
        daemon.signal(SIGTERM)
        #expect(try line.socket.receiveLine().hasPrefix("ERR shuttingDown Error: "))
        #expect(try FrameClient.statusName(writer.socket.receiveFrame()) == "shuttingDown")
        var last = try copier.socket.receiveFrame()
        while last.status == 0 { last = try copier.socket.receiveFrame() }
        #expect(FrameClient.statusName(last) == "shuttingDown")
        #expect(try copier.socket.isEnded())
        #expect(daemon.waitForExit(seconds: 10) == 0)
    }

    /// Receives until the end, on a thread of its own, and keeps the last of it.
    private final class LastBytes: @unchecked Sendable {
        private let isOver = DispatchSemaphore(value: 0)
        private var last: [UInt8] = []

        init(_ socket: RawSocket) {
            Thread { [self] in
                while let piece = try? socket.receive(1 << 20), !piece.isEmpty {
                    last = Array((last + piece).suffix(4096))
                }
                isOver.signal()
            }.start()
        }

        var value: [UInt8] {
            isOver.wait()
            return last
        }
    }

    @Test("an answer that a stop cuts short has nothing behind its part")
    func cutShort() throws {
        let daemon = try DaemonProcess(["--loops", "2"], tcp: true)
        // Zeros, of which each is two bytes as text: far more than can leave in 1.5 s.
        let size: UInt64 = 1 << 30
        #expect(try daemon.frames().alloc("a", size: size).status == 0)
        func ask(isText: Bool) throws -> [RawSocket] {
            try [daemon.connect(), daemon.connectTCP()].map { socket in
                if isText {
                    try socket.send(line: "read a")
                    #expect(try socket.receive(exactly: 2) == Array("OK".utf8))
                } else {
                    let client = try FrameClient(socket)
                    let read = TestFrame(8, name: "a", size: size)
                    try client.socket.send(read.bytes)
                    _ = try socket.receive(exactly: 40)
                }
                return socket
            }
        }
        // The ones are cut between two pieces, the others in the middle of one.
        let (readText, stuckText) = (try ask(isText: true), try ask(isText: true))
        let stuckFrames = try ask(isText: false)
        let readers = readText.map(LastBytes.init)
        let start = Date()
        #expect(daemon.stop() == 0)
        let seconds = Date().timeIntervalSince(start)
        let most: Double = DaemonProcess.isSanitized ? 10 : 3
        #expect(seconds > 1.2 && seconds < most, "stopped after \(seconds) s")
        for last in readers.map(\.value) + stuckText.map({ LastBytes($0).value }) {
            let isPart = last.allSatisfy { $0 == 0x20 || $0 == 0x30 }
            #expect(isPart, "\(String(decoding: last.suffix(200), as: UTF8.self))")
        }
        for socket in stuckFrames {
            #expect(LastBytes(socket).value.allSatisfy { $0 == 0 })
        }
    }
}
