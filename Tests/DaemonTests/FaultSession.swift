// A random session of several connections, each of whose requests is answered, or whose connection
// ends.

import Foundation
import TestSupport

/// Random requests of all sizes, in frames and lines, over both kinds of socket.
final class FaultSession {
    static let names = ["a", "b", "c", "d", String(repeating: "e", count: 200)]
    private static let requests = 60

    private let daemon: DaemonProcess
    private var random: SplitMix
    private var frames: [FrameClient?] = [nil, nil]
    private var text: TextClient?

    init(_ daemon: DaemonProcess, _ seed: UInt64) {
        self.daemon = daemon
        random = SplitMix(seed: seed)
    }

    private func below(_ limit: Int) -> Int { Int(random.next() % UInt64(limit)) }
    private func name() -> String { FaultSession.names[below(FaultSession.names.count)] }

    /// Plays it, and calls back now and then.
    ///
    /// - Throws: `.timeout` if something is neither answered nor ended.
    func play(_ pause: () throws -> Void) throws {
        for number in 0..<FaultSession.requests {
            do {
                number == 0 ? try begin() : try step()
            } catch RawSocketError.ended {
                end()
            } catch RawSocketError.system(let call, let code)
                where [ECONNRESET, EPIPE, ECONNREFUSED].contains(code)
            {
                _ = call
                end()
            }
            if number % 5 == 0 { try pause() }
        }
        // A reply that is not read, and an end with all that comes with it.
        if let client = frames[0] {
            for _ in 0..<8 { try? client.socket.send(FaultSession.read(60_000).bytes) }
        }
        frames = [nil, nil]
        text = nil
    }

    /// The connection that was spoken to is gone.
    private func end() {
        switch spoken {
        case 2: text = nil
        default: frames[spoken] = nil
        }
    }

    private var spoken = 0

    /// What every session does: replies that a socket does not hold, and work for a thread.
    private func begin() throws {
        let client = try daemon.frames()
        frames[0] = client
        _ = try client.call("alloc", flags: 2, type: 2, name: "a", size: 65_000)
        try many(client)
        _ = try client.call("alloc", flags: 2, type: 2, name: "b", size: 5 << 20)
        _ = try client.call("fill", name: "b", size: 5 << 20, payload: [3])
        // What was mapped is watched when it goes.
        for _ in 0..<3 {
            _ = try client.call("alloc", flags: 6, type: 2, name: "d", size: 100)
            _ = try client.call("map", flags: 1, name: "d")
            _ = try client.call("dispose", name: "d")
        }
        usleep(2000)
    }

    private func step() throws {
        spoken = below(3)
        if spoken == 2 {
            let client = try text ?? daemon.text()
            text = client
            return try line(client)
        }
        let socket = spoken == 0 ? daemon.connect : daemon.connectTCP
        let client = try frames[spoken] ?? FrameClient(socket(20))
        frames[spoken] = client
        try request(client)
    }

    // MARK: Frames

    private static func read(_ size: UInt64) -> TestFrame {
        TestFrame(Vectors.values.operation("read") ?? 0, name: "a", size: size)
    }

    private func request(_ client: FrameClient) throws {
        switch below(23) {
        case 19, 20: _ = try client.call("map", flags: UInt8(below(4)), name: name())
        case 21: _ = try client.call("freeze", name: name())
        case 22: _ = try client.call("unmap", name: name())
        case 0...3:
            let sizes: [Int] = [
                4 * below(250), 65_000 + 4 * below(125), 70_000 + 4 * below(225_000), 5 << 20,
            ]
            _ = try client.call(
                "alloc", flags: (below(2) == 0 ? 2 : 0) | (below(3) == 0 ? 4 : 0),
                type: [2, 5, 6][below(3)], name: name(),
                size: UInt64(sizes[below(4)]))
        case 15:
            _ = try client.call(
                "atomic", name: name(), offset: UInt64(4 * below(200)),
                payload: littleEndian(UInt64(1 + below(8)), 0, 0))
        case 16, 17: try waits(client)
        case 4: try write(client, size: 50_000)
        case 5: try write(client, size: 65_537 + below(800_000))
        case 6: _ = try client.call("read", name: name(), size: 40)
        case 7: _ = try client.call("read", name: name(), size: UInt64(65_537 + below(4 << 20)))
        case 8:
            let ranges = (0..<150).flatMap { _ in littleEndian(UInt64(below(4000)), 4000) }
            _ = try client.call("read", flags: 1, name: name(), size: 150, payload: ranges)
        case 9: _ = try client.call("fill", name: name(), size: 5 << 20, payload: [1, 2])
        case 10:
            _ = try client.call(
                "copy", name: name(), size: 2 << 20, payload: copyTarget(offset: 0, name: name()))
        case 11: _ = try client.call("dispose", name: name())
        case 12: _ = try client.call("rename", flags: 1, name: name(), payload: Array(name().utf8))
        case 13: try many(client)
        case 14: _ = try client.call("truncate", name: name(), size: UInt64(8 * below(20_000)))
        default:
            // Not a frame: an answer, and the end.
            try client.socket.send([0xFF] + random.bytes(50))
            _ = try client.socket.receiveToEnd()
            throw RawSocketError.ended
        }
    }

    private func write(_ client: FrameClient, size: Int) throws {
        _ = try client.call(
            "write", name: name(), size: UInt64(size),
            payload: [UInt8](repeating: 7, count: size))
    }

    /// Some that wait, each ended by another way, so that all are answered.
    private func waits(_ client: FrameClient) throws {
        let cell = UInt64(4 * below(4))
        let operation = Vectors.values.operation("wait") ?? 0
        for (cookie, time) in [(UInt64(1), UInt64.max), (2, 3), (3, .max)] {
            try client.socket.send(
                TestFrame(
                    operation, cookie: cookie << 40, name: "a", offset: cell, size: time,
                    payload: [0, 0, 0, 0]
                ).bytes)
        }
        let cancel = Vectors.values.operation("cancel") ?? 0
        for cookie in UInt64(1)...3 {
            try client.socket.send(
                TestFrame(cancel, cookie: 7 << 40, payload: littleEndian(cookie << 40)).bytes)
        }
        for _ in 0..<6 { _ = try client.socket.receiveFrame() }
    }

    /// Many requests whose replies are read late: more than a socket holds.
    private func many(_ client: FrameClient) throws {
        let read = FaultSession.read(60_000).bytes
        for _ in 0..<16 { try client.socket.send(read) }
        usleep(2000)
        for _ in 0..<16 { _ = try client.socket.receiveFrame() }
    }

    // MARK: Lines

    private func line(_ client: TextClient) throws {
        switch below(10) {
        case 8: try client.socket.send(line: "wait \(name()) \(below(40)) 0 2")
        case 9: try client.socket.send(line: "notify \(name()) 0")
        case 0:
            try client.socket.send(line: "write a 0 " + String(repeating: "12 ", count: 40_000))
        case 1: try client.socket.send(line: "read \(name()) 0 60000 hex")
        case 2: try client.socket.send(line: "list")
        case 3: try client.socket.send(line: "alloc \(name()) 3000 double")
        case 4: try client.socket.send(line: "fill \(name()) 0 3000 1")
        case 5:
            try client.socket.send(line: "quit")
            _ = try client.socket.receiveToEnd()
            throw RawSocketError.ended
        default: try client.socket.send(line: "stat \(name())")
        }
        // Entries of a listing come before its end.
        while true {
            let answer = try client.socket.receiveLine()
            if answer.hasPrefix("OK") || answer.hasPrefix("ERR ") { return }
        }
    }
}
