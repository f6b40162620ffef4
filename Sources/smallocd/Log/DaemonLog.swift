// The daemon's log: a line an event, on standard error, for journald or for a person. A line is
// valid UTF-8 and one line whatever is in it, no cause can flood it, and no thread waits for it.

import CLibuv
import Glibc
import Logging
import SmallocCore
import SmallocSystem

/// Where events go, shared by all loggers.
///
/// A cause that repeats is held to ten lines a second, the last of them telling how many were left
/// out. The cause is the metadata `cause` if an event has it, else its place in the source; events
/// that a peer can provoke need nothing more to be harmless.
final class DaemonLog: Sendable {
    private let output: LogOutput
    private let isJournal: Bool
    private let limiter = LogLimiter()
    private let threshold: Locked<Logger.Level>
    private let monotonicMilliseconds: @Sendable () -> UInt64

    /// Makes a log.
    ///
    /// - Parameters:
    ///   - descriptor: What lines are written to; not closed here.
    ///   - isJournal: Whether lines begin with journald's `<6>` instead of a time and a level.
    ///   - level: Events below it are dropped, until `level` is set anew.
    ///   - clock: A monotonic clock in milliseconds; tests bring their own.
    init(
        descriptor: Int32 = 2, isJournal: Bool, level: Logger.Level,
        clock: @escaping @Sendable () -> UInt64 = monotonicClock
    ) {
        output = LogOutput(descriptor) { count in
            DaemonLog.line(
                .warning, "dropped \(count) lines of the log: they were not read in time", isJournal
            )
        }
        self.isJournal = isJournal
        threshold = Locked(level)
        monotonicMilliseconds = clock
    }

    /// The level in force for all loggers of this log; a reread of the settings sets it.
    var level: Logger.Level {
        get { threshold.withLock { $0 } }
        set { threshold.withLock { $0 = newValue } }
    }

    /// A logger that writes here.
    func logger() -> Logger {
        Logger(label: "smallocd") { _ in DaemonLogHandler(log: self) }
    }

    /// Writes what was left out of causes that have gone quiet, and how many lines were dropped.
    ///
    /// To be called now and then, and at the end; costs nothing when nothing was left out.
    func flush() {
        for note in limiter.quiet(at: monotonicMilliseconds()) {
            write(level: .notice, text: note)
        }
        output.flush()
    }

    fileprivate func record(_ event: LogEvent, metadata: Logger.Metadata) {
        let cause: String
        if case .string(let named)? = metadata["cause"] {
            cause = named
        } else if case .stringConvertible(let named)? = metadata["cause"] {
            cause = named.description
        } else {
            cause = "\(event.file):\(event.line)"
        }
        let now = monotonicMilliseconds()
        for note in limiter.quiet(at: now) {
            write(level: .notice, text: note)
        }
        var text = event.message.description
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) where key != "cause" {
            text += " \(key)=\(value)"
        }
        if let error = event.error {
            text += " error=\"\(error)\""
        }
        switch limiter.admit(cause: cause, label: event.message.description, at: now) {
        case .whole: write(level: event.level, text: text)
        case .last: write(level: event.level, text: text + " (more of this kind left out)")
        case .none: break
        }
    }

    private func write(level: Logger.Level, text: String) {
        output.write(DaemonLog.line(level, text, isJournal))
    }

    private static func line(_ level: Logger.Level, _ text: String, _ isJournal: Bool) -> String {
        let start = isJournal ? "<\(level.priority)>" : "\(wallClock()) \(level.padded) "
        return start + singleLine(text)
    }

    /// Whether standard error is connected to the journal: `JOURNAL_STREAM` holds its device and
    /// inode.
    ///
    /// The variable alone is not enough, as children inherit it with their error redirected.
    ///
    /// See systemd.exec(5), `$JOURNAL_STREAM`.
    static func isJournal(environment: [String: String], descriptor: Int32 = 2) -> Bool {
        guard let stream = environment["JOURNAL_STREAM"] else { return false }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return false }
        return stream == "\(status.st_dev):\(status.st_ino)"
    }
}

/// swift-log's side of the log.
private struct DaemonLogHandler: LogHandler {
    let log: DaemonLog
    var metadata: Logger.Metadata = [:]

    /// The log's own, so that one change reaches every logger that was ever made.
    var logLevel: Logger.Level {
        get { log.level }
        set { log.level = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        log.record(event, metadata: metadata.merging(event.metadata ?? [:]) { $1 })
    }
}

extension Logger.Level {
    /// The priority of syslog(3) and journald.
    fileprivate var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }

    /// The level's name, as wide as the widest.
    fileprivate var padded: String {
        rawValue + String(repeating: " ", count: 8 - rawValue.utf8.count)
    }
}

/// Milliseconds of the machine's monotonic clock.
@Sendable func monotonicClock() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1000 + UInt64(now.tv_nsec) / 1_000_000
}

/// The wall clock in UTC: `2026-11-23T08:00:00.123Z`.
///
/// For people; nothing is decided by it.
private func wallClock() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    gmtime_r(&now.tv_sec, &parts)
    func digits(_ number: Int32, _ count: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
    let date = [
        digits(parts.tm_year + 1900, 4), digits(parts.tm_mon + 1, 2), digits(parts.tm_mday, 2),
    ]
    let time = [digits(parts.tm_hour, 2), digits(parts.tm_min, 2), digits(parts.tm_sec, 2)]
    let fraction = digits(Int32(now.tv_nsec / 1_000_000), 3)
    return "\(date.joined(separator: "-"))T\(time.joined(separator: ":")).\(fraction)Z"
}
