// How far a transfer is: a line on the terminal, nothing anywhere else.

import Glibc

/// The progress of one transfer, drawn on standard error if that is a terminal.
struct Progress {
    private let label: String
    private let total: Int?
    private let isShown: Bool
    private let start: Double
    private var drawn = -1.0

    /// Begins.
    ///
    /// - Parameters:
    ///   - label: What is moved.
    ///   - total: Bytes in all, if known.
    ///   - isWanted: False where the user asked for quiet.
    init(_ label: String, total: Int?, isWanted: Bool) {
        self.label = printable(label)
        self.total = total
        isShown = isWanted && isatty(2) == 1
        start = monotonicSeconds()
    }

    /// Tells how far it is; draws ten times a second at most, and nothing in the first half.
    mutating func update(_ done: Int) {
        guard isShown else { return }
        let now = monotonicSeconds()
        guard now - start > 0.5, now - drawn > 0.1 else { return }
        drawn = now
        draw(Progress.line(label, done, total, seconds: now - start, columns: columns()))
    }

    /// Takes the line away.
    mutating func end() {
        guard drawn >= 0 else { return }
        draw("")
        drawn = -1
    }

    private func draw(_ line: String) {
        try? Output(descriptor: 2).write("\r\u{1B}[K" + line)
    }

    /// The line: a bar where the total is known, sizes, rate, and the time left.
    static func line(
        _ label: String, _ done: Int, _ total: Int?, seconds: Double, columns: Int
    ) -> String {
        let rate = Double(done) / max(seconds, 0.001)
        let speed = "\(humanSize(Int(min(rate, 1e18))))/s"
        guard let total, total > 0 else {
            return String("\(label)  \(humanSize(done))  \(speed)".prefix(columns))
        }
        let part = min(1, Double(done) / Double(total))
        let left = humanTime(Double(total - done) / max(rate, 1))
        let figures =
            "\(Int(part * 100))%  \(humanSize(done)) of \(humanSize(total))  \(speed)  \(left)"
        let room = columns - label.count - figures.count - 7
        guard room >= 8 else { return String("\(label)  \(figures)".prefix(columns)) }
        let width = min(room, 40)
        let filled = Int(part * Double(width))
        let bar =
            String(repeating: "#", count: filled) + String(repeating: "-", count: width - filled)
        return "\(label)  [\(bar)]  \(figures)"
    }

    private func columns() -> Int {
        var size = winsize()
        guard ioctl(2, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 79 }
        return Int(size.ws_col) - 1
    }
}

/// Seconds of the monotonic clock.
func monotonicSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}
