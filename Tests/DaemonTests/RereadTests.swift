// SIGHUP: every setting that may change while the daemon runs is in force afterwards, not just said
// to be.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct RereadTests {
    /// A daemon with a configuration file that the test rewrites.
    private final class Configured {
        let daemon: DaemonProcess
        private let folder: String
        private var rereads = 0

        init() throws {
            folder = try DaemonProcess.newFolder()
            try "".write(toFile: folder + "/c.yaml", atomically: false, encoding: .utf8)
            daemon = try DaemonProcess(
                ["--config", folder + "/c.yaml", "--loops", "2"], folder: folder)
        }

        deinit {
            daemon.kill()
            try? FileManager.default.removeItem(atPath: folder)
        }

        /// Writes the file, has it reread, and waits for that.
        func set(_ lines: String) throws {
            try lines.write(toFile: folder + "/c.yaml", atomically: false, encoding: .utf8)
            daemon.signal(SIGHUP)
            rereads += 1
            let isReread = eventually {
                daemon.log.components(separatedBy: "settings reread").count > rereads
            }
            #expect(isReread, "\(daemon.log)")
        }
    }

    private struct Case: Sendable {
        let key: String
        let value: String
        /// Whether the new value holds, as a client sees it.
        let bites: @Sendable (DaemonProcess) throws -> Bool
    }

    private static let cases: [Case] = [
        Case(key: "log-level", value: "debug") { daemon in
            let count = daemon.log.components(separatedBy: "connection opened").count
            try daemon.connect().close()
            return eventually(within: 0.3) {
                daemon.log.components(separatedBy: "connection opened").count > count
            }
        },
        Case(key: "memory-max", value: "1M") { daemon in
            let client = try daemon.frames()
            _ = try client.alloc("", size: 700_000)
            return FrameClient.statusName(try client.alloc("", size: 700_000)) == "memoryLimit"
        },
        Case(key: "length-max", value: "1000") { daemon in
            FrameClient.statusName(try daemon.frames().alloc("", size: 1001)) == "tooLarge"
        },
        Case(key: "allocations-max", value: "2") { daemon in
            let client = try daemon.frames()
            for _ in 0..<2 { _ = try client.alloc("", size: 1) }
            return FrameClient.statusName(try client.alloc("", size: 1)) == "allocationLimit"
        },
        Case(key: "connections-max", value: "1") { daemon in
            // One of the case before may not have gone yet, so that the first is refused.
            eventually(within: 1) {
                guard let first = try? daemon.text(), (try? first.ask("ping")) == "OK pong",
                    let second = try? daemon.connect()
                else { return false }
                // It is told without having asked; if it asks, that may be lost in the end.
                let isTold = eventually(within: 0.3) { second.isReadable }
                let line = isTold ? try? second.receiveLine() : nil
                return withExtendedLifetime(first) {
                    line?.hasPrefix("ERR connectionLimit ") ?? false
                }
            }
        },
        Case(key: "frame-size-max", value: "4096") { daemon in
            let client = try daemon.frames()
            _ = try client.alloc("", size: 5000)
            let reply = try client.call("read", handle: 1, size: 4097)
            return FrameClient.statusName(reply) == "frameTooLarge"
        },
        Case(key: "requests-in-flight-max", value: "1") { try pauses($0, "ping") },
        Case(key: "handles-max", value: "1") { daemon in
            let client = try daemon.frames()
            _ = try client.alloc("", size: 1)
            return FrameClient.statusName(try client.alloc("", size: 1)) == "handleLimit"
        },
        Case(key: "output-size-max", value: "4096") { try pauses($0, "read paused") },
        Case(key: "line-size-max", value: "512") { daemon in
            let line = "ping" + String(repeating: " ", count: 600)
            return try daemon.text().ask(line).hasPrefix("ERR lineTooLong ")
        },
        Case(key: "name-size-max", value: "5") { daemon in
            let client = try daemon.frames()
            let reply = try client.call("alloc", flags: 2, type: 2, name: "abcdef", size: 1)
            _ = try client.call("dispose", name: "abcdef")
            return FrameClient.statusName(reply) == "invalidName"
        },
        Case(key: "idle-timeout", value: "200ms") { daemon in
            let socket = try daemon.text().socket
            try socket.send(line: "ping")
            _ = try socket.receiveLine()
            return eventually(within: 1.8) { socket.isReadable }
        },
        Case(key: "request-timeout", value: "200ms") { daemon in
            let socket = try daemon.frames().socket
            try socket.send(Array(TestFrame(2).bytes.prefix(20)))
            return eventually(within: 1.8) { socket.isReadable }
        },
        Case(key: "slowlog-threshold", value: "10ms") { daemon in
            let before = try ClientsTests.ask(daemon.text(), "slowlog 1").first?["id"]
            try write(daemon, taking: 50)
            return try ClientsTests.ask(daemon.text(), "slowlog 1").first?["id"] != before
        },
        Case(key: "slowlog-length", value: "0") { daemon in
            try write(daemon, taking: 150)
            return try ClientsTests.ask(daemon.text(), "slowlog").isEmpty
        },
    ]

    /// Sends a write that takes so many milliseconds.
    private static func write(_ daemon: DaemonProcess, taking milliseconds: UInt32) throws {
        let client = try daemon.frames()
        let size = 200_000
        let handle = try client.alloc("", size: UInt64(size)).handle
        let frame = TestFrame(
            9, handle: handle, size: UInt64(size), payload: [UInt8](repeating: 1, count: size)
        ).bytes
        try client.socket.send(Array(frame.prefix(100_000)))
        usleep(milliseconds * 1000)
        try client.socket.send(Array(frame.dropFirst(100_000)))
        #expect(try client.socket.receiveFrame().status == 0)
    }

    /// Asks many things at once; tells whether reading was paused for them.
    private static func pauses(_ daemon: DaemonProcess, _ line: String) throws -> Bool {
        let text = try daemon.text()
        #expect(try text.ask("alloc paused 1000") == "OK")
        let before = try text.stats()["pauses"]
        try text.socket.send(Array(String(repeating: line + "\n", count: 20).utf8))
        for _ in 0..<20 { #expect(try text.socket.receiveLine().hasPrefix("OK")) }
        let after = try text.stats()["pauses"]
        #expect(try text.ask("dispose paused") == "OK")
        return try #require(after) != #require(before)
    }

    @Test("each setting that a reread may change holds afterwards, and not before")
    func bites() throws {
        let checked = try #require(
            try Spawn.run([DaemonProcess.executable, "--check-config"], environment: [:]))
        let keys = checked.output.split(separator: "\n")
            .compactMap { $0.split(separator: ":").first.map(String.init) }
            .filter { !$0.hasPrefix("#") }
        let fixed = [
            "listen", "socket-mode", "loops", "busy-poll", "zero-copy", "http", "http-names",
        ]
        #expect(Self.cases.map(\.key) == keys.filter { !fixed.contains($0) })

        let configured = try Configured()
        for one in Self.cases {
            try configured.set("")
            #expect(try !one.bites(configured.daemon), "\(one.key) before")
            try configured.set("\(one.key): \(one.value)\n")
            #expect(try one.bites(configured.daemon), "\(one.key): \(configured.daemon.log)")
        }
        try configured.set("")
        for one in Self.cases {
            #expect(try !one.bites(configured.daemon), "\(one.key) taken back")
        }
    }
}
