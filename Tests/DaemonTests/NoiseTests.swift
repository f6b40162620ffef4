// Streams of bytes that nobody meant: the daemon lives, others notice nothing, nothing grows.

import Foundation
import Testing
import TestSupport

@Suite(.timed) struct NoiseTests {
    /// Test 1 of the reliability bar; there 10,000 streams.
    @Test("random streams on both kinds of socket, closed at random points")
    func randomStreams() throws {
        // Little memory for what noise may happen to allocate, so that growth means a leak.
        let daemon = try DaemonProcess(
            ["--memory-max", "1M", "--allocations-max", "50", "--request-timeout", "2"], tcp: true)
        var random = SplitMix(for: "randomStreams")
        let onlooker = try daemon.text()
        #expect(try onlooker.ask("alloc onlooker 4 Int32") == "OK")
        #expect(try onlooker.ask("write onlooker 0 1 2 3 4") == "OK")
        for _ in 0..<200 { try stream(daemon, &random) }
        let before = try settle(daemon)
        for round in 0..<Scale.count(1500) {
            try stream(daemon, &random)
            if round % 20 == 0 {
                #expect(try onlooker.ask("read onlooker 0 0") == "OK")
                try #require(daemon.isRunning, "seed \(random.seed): \(daemon.log)")
            }
        }
        let after = try settle(daemon)
        #expect(after.residentSize - before.residentSize < DaemonProcess.growth(5 << 20))
        // What noise happens to name and to map may stay; the state memory is a file as well.
        #expect(
            after.descriptors - after.memoryFiles == before.descriptors - before.memoryFiles)
        let left = try #require(try onlooker.stats()["allocations"].flatMap { Int($0) })
        #expect(after.memoryFiles <= left + 1)
        #expect(try onlooker.ask("ping") == "OK pong")
    }

    /// The figures when the onlooker and one connection are open, and no other.
    private func settle(_ daemon: DaemonProcess) throws -> ProcessFigures {
        let text = try daemon.text()
        #expect(try eventually { try text.stats()["connections"] == "2" })
        return try withExtendedLifetime(text) { try daemon.figures() }
    }

    private func stream(_ daemon: DaemonProcess, _ random: inout SplitMix) throws {
        let socket = try Bool.random(using: &random) ? daemon.connect() : daemon.connectTCP()
        let bytes = noise(&random)
        // Sending may fail halfway: the daemon closes on what is no frame.
        try? socket.send(bytes)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: socket.reset()
        case 1: _ = try? socket.receiveSomeNow()
        case 2: socket.endOutput()
        default: break
        }
        socket.close()
    }

    private func noise(_ random: inout SplitMix) -> [UInt8] {
        let size = 1 << Int.random(in: 0...16, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: return random.bytes(Int.random(in: 1...size, using: &random))
        case 1: return TestFrame(1).bytes + random.bytes(Int.random(in: 1...size, using: &random))
        case 2: return TestFrame(1).bytes + mutatedFrames(&random)
        default: return lines(&random)
        }
    }

    /// Valid frames, a few of their bytes changed.
    private func mutatedFrames(_ random: inout SplitMix) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<Int.random(in: 1...20, using: &random) {
            var frame = Vectors.pairs[Int.random(in: 0..<Vectors.pairs.count, using: &random)]
                .request.frame
            // Not the magic: what follows should be looked at.
            for _ in 0..<Int.random(in: 0...2, using: &random) where frame.count > 1 {
                let index = Int.random(in: 1..<min(frame.count, 80), using: &random)
                frame[index] = UInt8.random(in: 0...255, using: &random)
            }
            // One that waits may stay as long as it said, though its peer sends no more.
            if frame.count >= 40, frame[2] == 21 {
                frame.replaceSubrange(32..<40, with: [50, 0, 0, 0, 0, 0, 0, 0])
            }
            // A payload size over 64 KiB would swallow all that follows.
            frame[22] = 0
            frame[23] = 0
            bytes += frame
        }
        return bytes
    }

    private func lines(_ random: inout SplitMix) -> [UInt8] {
        let words = [
            "alloc", "write", "read", "copy", "fill", "dispose", "truncate", "rename", "stat",
            "list", "ping", "stats", "help", "quit", "a", "b", "onlookers", "0", "1", "-1", "4",
            "18446744073709551615", "1e9", "NaN", "hex:00", "hex:0", "base64:AA==", "text:x",
            "Double", "Uint8Clamped", "\u{7f}", "\0", "é", "\t", "\r", "hex", "Int8",
        ]
        var text = ""
        for _ in 0..<Int.random(in: 1...200, using: &random) {
            text += words.randomElement(using: &random) ?? ""
            text += Int.random(in: 0..<4, using: &random) == 0 ? "\n" : " "
        }
        return Array(text.utf8)
    }
}

extension RawSocket {
    /// What is there now, if anything is.
    func receiveSomeNow() throws -> [UInt8] { isReadable ? try receive() : [] }
}
