// Floods of connections and of descriptors: no spinning, nothing kept, others undisturbed.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct DescriptorTests {
    /// Test 9 of the reliability bar; there a limit of 64 and 2,000 connects.
    @Test("over the connection limit each gets one error; the daemon sleeps and recovers")
    func connectionLimit() throws {
        let daemon = try DaemonProcess(["--connections-max", "10"])
        var clients = [try daemon.text()]
        #expect(try eventually { try clients[0].stats()["connections"] == "1" })
        for _ in 1..<10 { clients.append(try daemon.text()) }
        for client in clients { #expect(try client.ask("ping") == "OK pong") }
        var refused: [RawSocket] = []
        for _ in 0..<Scale.count(200) { refused.append(try daemon.connect()) }
        for socket in refused {
            #expect(try socket.receiveLine().hasPrefix("ERR connectionLimit Error: "))
            #expect(try socket.isEnded())
        }
        try expectIdle(daemon)
        for client in clients { #expect(try client.ask("ping") == "OK pong") }
        clients.removeAll()
        #expect(eventually { (try? daemon.text().ask("ping")) == "OK pong" })
    }

    @Test(
        "without descriptors left the daemon sleeps, serves who is there, and recovers",
        .enabled(if: access("/usr/bin/prlimit", X_OK) == 0, "needs prlimit"))
    func noDescriptorsLeft() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.text()
        #expect(try client.ask("ping") == "OK pong")
        try limit(daemon, to: try daemon.figures().descriptors)
        // They are connected by the kernel; the daemon can't accept them.
        let waiting = try (0..<Scale.count(50)).map { _ in try daemon.connect(seconds: 20) }
        usleep(300_000)
        try expectIdle(daemon)
        #expect(try client.ask("ping") == "OK pong")
        try limit(daemon, to: 1000)
        for socket in waiting { #expect(try TextClient(socket).ask("ping") == "OK pong") }
        let lines = daemon.log.split(separator: "\n").count
        #expect(lines < 60, "\(lines) lines of log")
    }

    /// Test 10 of the reliability bar; there 100,000 connections, 200 at a time.
    @Test("with too few descriptors to work it says so and does not start")
    func tooFew() throws {
        for descriptors in [8, 12, 16] {
            let daemon = try DaemonProcess(descriptors: descriptors, waits: false)
            #expect(daemon.waitForExit(seconds: 20) == 71, "\(descriptors): \(daemon.log)")
            #expect(daemon.log.contains("the limit of open files is \(descriptors)"))
            #expect(!FileManager.default.fileExists(atPath: daemon.path))
        }
        let daemon = try DaemonProcess(["--loops", "1"], descriptors: 24)
        #expect(try daemon.text().ask("ping") == "OK pong")
    }

    @Test("a storm of connections leaves nothing behind")
    func storm() throws {
        let daemon = try DaemonProcess(tcp: true)
        func wave(_ count: Int) throws {
            let sockets = try (0..<count).map {
                try $0 % 4 == 0 ? daemon.connectTCP() : daemon.connect()
            }
            for socket in sockets { try socket.send(line: "ping") }
            for socket in sockets { #expect(try socket.receiveLine() == "OK pong") }
        }
        for _ in 0..<10 { try wave(50) }
        let before = try settle(daemon)
        for _ in 0..<Scale.count(60) { try wave(50) }
        let after = try settle(daemon)
        #expect(after.descriptors == before.descriptors)
        #expect(after.residentSize - before.residentSize < DaemonProcess.growth(2 << 20))
    }

    /// Test 11 of the reliability bar; there 1,000 frames with 200 each.
    @Test("descriptors that a client sends are not taken")
    func descriptorFlood() throws {
        let daemon = try DaemonProcess()
        let client = try daemon.frames()
        #expect(try client.call("ping").status == 0)
        let before = try daemon.figures().descriptors
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(null) }
        let many = [Int32](repeating: null, count: 200)
        for cookie in 0..<Scale.count(200) {
            try client.socket.send(TestFrame(2, cookie: UInt64(cookie)).bytes, descriptors: many)
            #expect(try client.socket.receiveFrame().cookie == UInt64(cookie))
        }
        #expect(try daemon.figures().descriptors == before)
    }

    @Test("clients that receive no descriptors stop no other for long, and no daemon")
    func unreceived() throws {
        let daemon = try DaemonProcess(["--loops", "2"], descriptors: 128)
        let text = try daemon.text()
        let victim = try daemon.frames()
        #expect(try victim.call("alloc", flags: 6, type: 2, name: "a", size: 8).status == 0)
        let lazy = try (0..<6).map { _ in try daemon.frames() }
        for client in lazy {
            for _ in 0..<14 { try client.socket.send(TestFrame(18, name: "a").bytes) }
        }
        #expect(try eventually { try text.stats()["requests_map"] == "84" })
        // Half of 128 are under way.
        let refused = try victim.call("map", name: "a")
        #expect(FrameClient.statusName(refused) == "shareLimit")
        var answers: [String: Int] = [:]
        for client in lazy.prefix(3) {
            for _ in 0..<14 {
                answers[FrameClient.statusName(try client.socket.receiveFrame()), default: 0] += 1
            }
        }
        #expect(
            answers["ok"] ?? 0 > 0 && answers.keys.allSatisfy { ["ok", "shareLimit"].contains($0) })
        #expect(try eventually { try victim.call("map", name: "a").status == 0 })
        // Those of connections that have ended do not count.
        for client in lazy { client.socket.close() }
        for _ in 0..<80 { #expect(try victim.call("map", name: "a").status == 0) }
    }

    @Test("a daemon with nothing to do uses no processor time")
    func idle() throws {
        let daemon = try DaemonProcess(tcp: true)
        let sockets = try (0..<20).map { _ in try daemon.text() }
        for socket in sockets { #expect(try socket.ask("ping") == "OK pong") }
        try expectIdle(daemon)
    }

    /// Less than 20 % of a core for a second and a half; a spin takes a whole one.
    private func expectIdle(_ daemon: DaemonProcess) throws {
        let before = try daemon.figures().cpuSeconds
        usleep(1_500_000)
        let used = try daemon.figures().cpuSeconds - before
        #expect(used < 0.3, "\(used) s of processor time in 1.5 s")
    }

    private func limit(_ daemon: DaemonProcess, to count: Int) throws {
        let words = ["/usr/bin/prlimit", "--pid", "\(daemon.pid)", "--nofile=\(count):1000000"]
        if try Spawn.run(words)?.code == 0 { return }
        let soft = ["/usr/bin/prlimit", "--pid", "\(daemon.pid)", "--nofile=\(count):"]
        #expect(try Spawn.run(soft)?.code == 0)
    }

    /// The figures when one connection is open and no other.
    private func settle(_ daemon: DaemonProcess) throws -> ProcessFigures {
        let text = try daemon.text()
        #expect(try eventually { try text.stats()["connections"] == "1" })
        return try withExtendedLifetime(text) { try daemon.figures() }
    }
}
