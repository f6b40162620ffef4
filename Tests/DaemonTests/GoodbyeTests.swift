// Connections that have been told goodbye, and whose clients keep them.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct GoodbyeTests {
    /// Why the daemon ends a connection.
    enum Reason: CaseIterable {
        case quit, quitFrame, noFrame, malformedFrame
    }

    @Test("clients that were told goodbye, and do not close, keep no place")
    func kept() throws {
        let daemon = try DaemonProcess(tcp: true)
        let onlooker = try daemon.text()
        #expect(try eventually { try onlooker.stats()["connections"] == "1" })
        var sockets: [RawSocket] = []
        for reason in Reason.allCases {
            for socket in try [daemon.connect(), daemon.connectTCP()] {
                try end(socket, reason)
                // This side ends at once; the client may say what it likes.
                #expect(try socket.isEnded(), "\(reason)")
                sockets.append(socket)
            }
        }
        // It has a second to close.
        let start = Date()
        var left = ""
        while left != "1", Date().timeIntervalSince(start) < 4 {
            for socket in sockets { try? socket.send(line: "ping") }
            usleep(50_000)
            left = try onlooker.stats()["connections"] ?? ""
        }
        #expect(left == "1", "after \(Date().timeIntervalSince(start)) s")
        withExtendedLifetime(sockets) {}
    }

    /// Has the daemon end a connection.
    private func end(_ socket: RawSocket, _ reason: Reason) throws {
        switch reason {
        case .quit:
            #expect(try TextClient(socket).ask("quit").hasPrefix("OK"))
        case .quitFrame:
            #expect(try FrameClient(socket).call("quit").status == 0)
        case .noFrame:
            try socket.send([1])
            #expect(try socket.receiveLine().hasPrefix("ERR notSmalloc "))
        case .malformedFrame:
            try FrameClient(socket).socket.send([0xFF])
            #expect(FrameClient.statusName(try socket.receiveFrame()) == "malformedFrame")
        }
    }

    @Test("connections are shared out among the loops", arguments: [1, 2, 3])
    func sharedOut(loops: Int) throws {
        let daemon = try DaemonProcess(["--loops", "\(loops)"], tcp: true)
        let onlooker = try daemon.text()
        // A loop that has answered has polled, and watches all that is its own.
        for _ in 0..<2 * loops { _ = try daemon.text().ask("ping") }
        #expect(try eventually { try onlooker.stats()["connections"] == "1" })
        let before = try watched(daemon)
        #expect(before.count >= loops)
        let clients = try (0..<4 * loops).map { index in
            TextClient(index % 2 == 0 ? try daemon.connect() : try daemon.connectTCP())
        }
        for client in clients { #expect(try client.ask("ping") == "OK pong") }
        let after = try watched(daemon)
        let added = after.map { $0.value - (before[$0.key] ?? 0) }.filter { $0 > 0 }
        #expect(added.count == loops && added.allSatisfy { (3...5).contains($0) || loops == 1 })
        #expect(added.reduce(0, +) == 4 * loops)
    }

    /// How many descriptors each loop waits for, by the number of its epoll.
    private func watched(_ daemon: DaemonProcess) throws -> [String: Int] {
        let folder = "/proc/\(daemon.pid)/fdinfo"
        var counts: [String: Int] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
            guard
                try FileManager.default.destinationOfSymbolicLink(
                    atPath: "/proc/\(daemon.pid)/fd/\(name)") == "anon_inode:[eventpoll]"
            else { continue }
            let text = try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)
            counts[name] = text.split(separator: "\n").filter { $0.hasPrefix("tfd:") }.count
        }
        return counts
    }
}
