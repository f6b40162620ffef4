import Glibc
import Logging
import Synchronization
import Testing
import TestSupport

@testable import smallocd

/// A log that writes into a pipe, with a clock that the test turns.
private final class LogProbe {
    let log: DaemonLog
    private let readEnd: Int32
    private let writeEnd: Int32
    private let clock = Clock()

    private final class Clock: Sendable {
        let now = Mutex<UInt64>(5_000_000)
    }

    init(isJournal: Bool, level: Logger.Level = .info) {
        var ends: [Int32] = [0, 0]
        precondition(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (readEnd, writeEnd) = (ends[0], ends[1])
        let clock = clock
        log = DaemonLog(
            descriptor: ends[1], isJournal: isJournal, level: level,
            clock: { clock.now.withLock { $0 } })
    }

    func advance(_ milliseconds: UInt64) {
        clock.now.withLock { $0 += milliseconds }
    }

    deinit {
        close(readEnd)
        close(writeEnd)
    }

    /// Everything written since the last call, by lines.
    func lines() -> [String] {
        _ = fcntl(readEnd, F_SETFL, O_NONBLOCK)
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(readEnd, &chunk, chunk.count)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        let text = String(validating: bytes, as: UTF8.self) ?? "not UTF-8"
        return text.split(separator: "\n").map(String.init)
    }
}

@Suite("Daemon log", .timed)
struct DaemonLogTests {
    @Test("a line for journald begins with its priority, metadata sorted after the message")
    func journal() {
        let probe = LogProbe(isJournal: true, level: .trace)
        let logger = probe.log.logger()
        logger.debug("one")
        logger.info("two", metadata: ["b": "2", "a": "1"])
        logger.critical("three")
        #expect(probe.lines() == ["<7>one", "<6>two a=1 b=2", "<2>three"])
    }

    @Test("a line for a person begins with time and level")
    func person() throws {
        let probe = LogProbe(isJournal: false)
        probe.log.logger().warning("hot")
        let line = try #require(probe.lines().first)
        let pattern = #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning  hot/#
        #expect(line.wholeMatch(of: pattern) != nil, "\(line)")
    }

    @Test("the level holds for every logger, also when it changes later")
    func level() {
        let probe = LogProbe(isJournal: true)
        let logger = probe.log.logger()
        logger.debug("dropped")
        probe.log.level = .debug
        logger.debug("kept")
        #expect(probe.lines() == ["<7>kept"])
    }

    @Test("nothing from a peer makes a second line or leaves UTF-8")
    func forging() {
        let probe = LogProbe(isJournal: true)
        let hostile: [UInt8] = Array("a\r\n<0>fake\u{1b}[2J".utf8) + [0, 0x80, 0xFF, 0x22, 0x5C]
        probe.log.logger().info("name", metadata: ["name": "\(escaped(hostile))"])
        probe.log.logger().info("plain\nforged\u{202E}\u{2028}\u{7f}é")
        #expect(
            probe.lines() == [
                #"<6>name name=a\r\n<0>fake\x1b[2J\x00\x80\xff\"\\"#,
                #"<6>plain\x0aforged\u{202e}\u{2028}\x7fé"#,
            ])
    }

    @Test("escaped text is ASCII on one line for every byte, and of bounded length")
    func escapedBytes() {
        for byte in UInt8.min...UInt8.max {
            let text = escaped([byte])
            #expect(text.utf8.allSatisfy { (0x20...0x7E).contains($0) })
            #expect(singleLine(text) == text)
        }
        let long = escaped([UInt8](repeating: 0x61, count: 10_000))
        #expect(long == String(repeating: "a", count: 256) + "...(10000 bytes)")
    }

    @Test("ten thousand errors a second of one cause are ten lines, and others still get through")
    func flood() {
        let probe = LogProbe(isJournal: true)
        let logger = probe.log.logger()
        for number in 0..<10_000 {
            logger.info("refused \(number)")
            if number == 5000 { logger.info("other") }
        }
        probe.advance(1000)
        logger.info("next second")
        let lines = probe.lines()
        let flood = lines.filter { $0.contains("refused") }
        #expect(flood.count == LogLimiter.linesMax)
        #expect(flood.first == "<6>refused 0")
        #expect(flood.dropLast().last == "<6>refused 8 (more of this kind left out)")
        #expect(flood.last == "<5>suppressed 9991 more like: refused 9999")
        #expect(lines.contains("<6>other"))
        #expect(lines.last == "<6>next second")
    }

    @Test("what was left out is told by flush too, once")
    func flush() {
        let probe = LogProbe(isJournal: true)
        for _ in 0..<12 { probe.log.logger().info("same", metadata: ["cause": "x"]) }
        probe.log.flush()
        probe.advance(1000)
        probe.log.flush()
        probe.log.flush()
        let lines = probe.lines()
        #expect(lines.count == 10)
        #expect(lines.last == "<5>suppressed 3 more like: same")
    }

    @Test("a cause may join several places in the source")
    func causes() {
        let probe = LogProbe(isJournal: true)
        let logger = probe.log.logger()
        for _ in 0..<6 {
            logger.info("left", metadata: ["cause": "both"])
            logger.info("right", metadata: ["cause": "both"])
        }
        #expect(probe.lines().count == 9)
    }

    @Test("standard error is the journal only if the variable names that very stream")
    func journalStream() {
        var status = stat()
        #expect(fstat(2, &status) == 0)
        let stream = "\(status.st_dev):\(status.st_ino)"
        #expect(DaemonLog.isJournal(environment: ["JOURNAL_STREAM": stream]))
        #expect(!DaemonLog.isJournal(environment: ["JOURNAL_STREAM": "1:1"]))
        #expect(!DaemonLog.isJournal(environment: [:]))
    }
}
