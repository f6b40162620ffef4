// A daemon whose clients take all addresses that the system gives it answers `outOfMemory`, or ends
// a connection, for thousands of requests; it lives, and serves again when memory is back.

import Foundation
import Testing
import TestSupport

@Suite(
    .timed(seconds: 120),
    // A sanitizer wants terabytes of addresses for itself.
    .disabled(if: DaemonProcess.isSanitized))
struct ShortageTests {
    private static let options = ["--loops", "2", "--memory-max", "1000G"]

    /// A daemon that may take so many bytes of addresses more than it has at the start.
    private func daemon(growth: Int) throws -> DaemonProcess {
        let size = try DaemonProcess(ShortageTests.options).figures().virtualSize
        return try DaemonProcess(ShortageTests.options, virtualSize: size + growth)
    }

    @Test("all addresses taken: requests are refused, what is there is served, nothing ends it")
    func shortage() throws {
        let daemon = try daemon(growth: 120 << 20)
        var random = SplitMix(for: "a shortage of addresses")
        let observer = try Observer(daemon)
        let usedSize = try observer.usedSize()
        var clients: [FrameClient] = []
        for _ in 0..<100 { clients.append(try daemon.frames()) }
        let lines = try (0..<10).map { _ in try daemon.text() }
        let names = try fill(observer.client)
        var statuses: [String: Int] = [:]
        var ends = 0
        for number in 0..<Scale.count(4000) {
            if number % 100 == 0 { try observer.beat() }
            do {
                if number % 13 == 0 {
                    clients.append(try daemon.frames())
                } else if number % 7 == 0 {
                    _ = try lines[number % lines.count].ask(
                        ["list n1", "stat n1", "ping", "fill n2 0 10 3"][number % 4])
                } else if !clients.isEmpty {
                    let index = Int(random.next() % UInt64(clients.count))
                    let reply = try request(clients[index], number, &random)
                    statuses[FrameClient.statusName(reply), default: 0] += 1
                }
            } catch RawSocketError.ended {
                ends += 1
            }
            try #require(daemon.isRunning, "request \(number): \(daemon.log)")
        }
        #expect(statuses["outOfMemory", default: 0] > 100, "\(statuses)")
        print("answers: \(statuses), ends: \(ends)")
        // It comes back.
        clients = []
        for name in names { _ = try observer.client.call("dispose", name: name) }
        for number in 0..<2000 {
            _ = try observer.client.call("dispose", name: "n\(number)")
        }
        let isBack = try eventually {
            guard try observer.usedSize() == usedSize else { return false }
            let reply = try observer.client.call("alloc", type: 2, name: "back", size: 8 << 20)
            defer { _ = try? observer.client.call("dispose", handle: reply.handle) }
            return reply.status == 0 && (try? daemon.frames()) != nil
        }
        let left = try observer.usedSize()
        #expect(isBack, "\(left) and not \(usedSize)")
        try observer.beat()
        #expect(daemon.stop() == 0)
    }

    /// Allocates and touches until nothing of any size is to be had.
    private func fill(_ client: FrameClient) throws -> [String] {
        var names: [String] = []
        for size in [64 << 20, 16 << 20, 3 << 20, 1 << 20, 65_536, 30_000, 8000, 1000, 100] {
            var refusals = 0
            while refusals < 3 {
                let name = "filled\(names.count)"
                names.append(name)
                let made = try client.call(
                    "alloc", flags: 2, type: 2, name: name, size: UInt64(size))
                let touched = try client.call("fill", name: name, size: 8, payload: [1])
                if made.status != 0 || touched.status != 0 { refusals += 1 }
            }
        }
        return names
    }

    private func request(
        _ client: FrameClient, _ number: Int, _ random: inout SplitMix
    ) throws -> TestFrame {
        let name = "n\(random.next() % 2000)"
        switch random.next() % 10 {
        case 0...4:
            let sizes: [UInt64] = [
                random.next() % 1000, random.next() % 60_000, 65_536 + random.next() % 1_000_000,
                3 << 20, 64 << 20,
            ]
            let size = sizes[Int(random.next() % 5)]
            return try client.call(
                "alloc", flags: number % 2 == 0 ? 2 : 0, type: 2, name: name, size: size)
        case 5: return try client.call("dispose", name: name)
        case 6:
            return try client.call(
                "write", name: name, size: 50_000, payload: [UInt8](repeating: 1, count: 50_000))
        case 7: return try client.call("read", name: name, size: 70_000)
        case 8:
            let ranges = (0..<200).flatMap { _ in littleEndian(5, 90) }
            return try client.call("read", flags: 1, name: name, size: 200, payload: ranges)
        default: return try client.call("fill", name: name, size: 3 << 20, payload: [1, 2])
        }
    }
}

/// A connection with an allocation of its own, which it writes and reads again.
final class Observer {
    let client: FrameClient
    private let handle: UInt32
    private var beats: UInt64 = 0

    /// Allocates under `name`.
    init(_ daemon: DaemonProcess, name: String = "observed") throws {
        client = try daemon.frames()
        handle = try client.alloc(name, size: 4096).handle
        try beat()
    }

    /// Goes on with the allocation of one whose connection has ended.
    ///
    /// What that one wrote last, or was about to write, is there.
    init(_ daemon: DaemonProcess, again other: Observer, name: String = "observed") throws {
        client = try daemon.frames()
        handle = try client.call("open", name: name).handle
        beats = other.beats
        let seen = try client.call("read", handle: handle, size: 8).payload
        let whole = [littleEndian(beats), littleEndian(beats - 1)]
        try #require(whole.contains(seen), "\(seen) after \(beats)")
        try beat()
    }

    /// Writes and reads what it wrote.
    func beat() throws {
        beats += 1
        let payload = littleEndian(beats) + [UInt8](repeating: UInt8(beats % 251), count: 500)
        let size = UInt64(payload.count)
        let written = try client.call("write", handle: handle, size: size, payload: payload)
        let read = try client.call("read", handle: handle, size: size)
        try #require(written.status == 0 && read.payload == payload, "\(written) \(read)")
    }

    /// All statistics.
    func stats() throws -> [String: UInt64] { try client.stats() }

    /// Bytes charged.
    func usedSize() throws -> UInt64 { try stats()["memory_used_bytes"] ?? 0 }
}

extension FrameClient {
    /// All statistics that are numbers.
    func stats() throws -> [String: UInt64] {
        var stats: [String: UInt64] = [:]
        for line in try call("stats").text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2 { stats[String(words[0])] = UInt64(words[1]) }
        }
        return stats
    }
}
