// SIGTERM and SIGINT: what was accepted is finished, then the daemon leaves.

import Foundation
import Testing
import TestSupport

/// Test 39 of the reliability bar.
@Suite struct ShutdownTests {
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

    @Test("no new connection is served while the daemon drains; a second signal ends it at once")
    func secondSignal() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        #expect(try client.alloc("a", size: 64 << 20).status == 0)
        // A reply that this client never takes.
        try client.socket.send(TestFrame(8, cookie: 5, name: "a", size: 64 << 20).bytes)
        _ = try client.socket.receive(exactly: 40)
        daemon.signal(SIGTERM)
        usleep(200_000)
        if daemon.isRunning {
            #expect((try? daemon.text().ask("ping")) != "OK pong")
            let start = Date()
            daemon.signal(SIGTERM)
            #expect(daemon.waitForExit(seconds: 10) != nil)
            #expect(Date().timeIntervalSince(start) < 2)
        }
        #expect(daemon.waitForExit(seconds: 10) != nil)
        #expect(!FileManager.default.fileExists(atPath: daemon.path))
    }

    @Test("a client that never reads does not keep the daemon from leaving")
    func stuckReader() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        #expect(try client.alloc("a", size: 64 << 20).status == 0)
        try client.socket.send(TestFrame(8, cookie: 5, name: "a", size: 64 << 20).bytes)
        _ = try client.socket.receive(exactly: 40)
        let start = Date()
        #expect(daemon.stop(seconds: 60) != nil)
        print("left after \(Date().timeIntervalSince(start)) s")
    }
}
