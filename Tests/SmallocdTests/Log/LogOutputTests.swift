// The log when what it is written to does not take it.

import Glibc
import TestSupport
import Testing

@testable import smallocd

/// An output into a pipe or a socket pair, of which the test reads as much as it wants.
private final class OutputProbe {
    let output: LogOutput
    private let readEnd: Int32
    private let writeEnd: Int32

    init(isSocket: Bool) {
        var ends: [Int32] = [0, 0]
        if isSocket {
            precondition(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
            // The least that the kernel gives: long lines leave in two parts.
            var size: Int32 = 1
            setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, 4)
        } else {
            precondition(pipe(&ends) == 0)
            precondition(fcntl(ends[1], Kernel.setPipeSize, 4096) >= 4096)
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (readEnd, writeEnd) = (ends[0], ends[1])
        _ = fcntl(readEnd, F_SETFL, O_NONBLOCK)
        output = LogOutput(writeEnd) { "dropped \($0)" }
    }

    deinit {
        close(readEnd)
        close(writeEnd)
    }

    /// Whether writing to the descriptor that was given still waits.
    var isGivenBlocking: Bool { fcntl(writeEnd, F_GETFL) & O_NONBLOCK == 0 }

    /// What has come, at most so many bytes.
    func read(_ size: Int = 1 << 20) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < size {
            var chunk = [UInt8](repeating: 0, count: min(65_536, size - bytes.count))
            let count = Glibc.read(readEnd, &chunk, chunk.count)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return bytes
    }
}

@Suite("Log output", .timed)
struct LogOutputTests {
    @Test(
        "what a full output does not take is dropped and counted, and no line is cut",
        .timeLimit(.minutes(1)), arguments: [false, true])
    func full(isSocket: Bool) throws {
        let probe = OutputProbe(isSocket: isSocket)
        var random = SplitMix(for: "LogOutputTests.full")
        var written = 0
        var received: [UInt8] = []
        for _ in 0..<Scale.count(200) {
            for _ in 0..<Int.random(in: 0...60, using: &random) {
                let size = Int.random(in: 0...(written % 5 == 0 ? 3000 : 90), using: &random)
                probe.output.write("line \(written) " + String(repeating: "x", count: size) + "!")
                written += 1
            }
            received += probe.read(Int.random(in: 0...6000, using: &random))
        }
        #expect(probe.isGivenBlocking)
        for _ in 0..<10 {
            received += probe.read()
            probe.output.flush()
        }
        received += probe.read()
        var expected = 0
        var dropped = 0
        let lines = String(decoding: received, as: UTF8.self).split(separator: "\n")
        for line in lines {
            let words = line.split(separator: " ")
            try #require(words.count >= 2, "\(line)")
            let number = try #require(Int(words[1]), "\(line)")
            if words[0] == "dropped" {
                expected += number
                dropped += number
            } else {
                #expect(number == expected)
                #expect(line.hasSuffix("!"))
                expected = number + 1
            }
        }
        #expect(expected == written)
        #expect(dropped > 0)
        #expect(received.last == 0x0A)
    }

    @Test("a line of any length is one line, cut between characters")
    func long() throws {
        for character in ["x", "é", "日", "😀"] {
            for extra in 0..<4 {
                let probe = OutputProbe(isSocket: false)
                let line =
                    String(repeating: "a", count: extra) + String(repeating: character, count: 5000)
                probe.output.write(line)
                let bytes = probe.read()
                #expect(bytes.count <= LogOutput.lineSizeMax)
                #expect(bytes.count > LogOutput.lineSizeMax - 8)
                let text = try #require(String(validating: bytes, as: UTF8.self))
                #expect(text.hasSuffix("\(character)...\n"))
            }
        }
    }

    @Test("an output that is gone, or is no descriptor, takes nothing with it")
    func gone() {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        close(ends[0])
        signal(SIGPIPE, SIG_IGN)
        let output = LogOutput(ends[1]) { "\($0)" }
        close(ends[1])
        for output in [output, LogOutput(-1) { "\($0)" }] {
            output.write("one")
            output.flush()
        }
    }
}
