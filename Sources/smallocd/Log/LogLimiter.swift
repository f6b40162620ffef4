// How often one cause may be logged. A client that provokes ten thousand errors a second must not
// fill a disk with them, nor hide what else happens.

import SmallocCore
import SmallocSystem

/// Counts the events of each cause by the second.
final class LogLimiter: Sendable {
    /// Lines of a cause in a second, with the one that tells what was left out.
    static let linesMax = 10
    private static let windowMilliseconds: UInt64 = 1000

    /// What becomes of an event.
    enum Verdict: Equatable {
        /// It is logged.
        case whole
        /// It is logged, and nothing more of its cause for the rest of the second.
        case last
        /// It is only counted.
        case none
    }

    private struct Window {
        var start: UInt64
        var count: Int
        var label: String
    }

    /// Causes are places in the source or fixed words, so there is a bounded number of them.
    private let windows = Locked<[String: Window]>([:])

    /// Decides on an event.
    ///
    /// - Parameters:
    ///   - cause: What counts together.
    ///   - label: The event's message, for the line that tells what was left out.
    ///   - now: A monotonic clock, in milliseconds.
    /// - Returns: Whether it is logged.
    func admit(cause: String, label: String, at now: UInt64) -> Verdict {
        windows.withLock { windows in
            var window = windows[cause] ?? Window(start: now, count: 0, label: label)
            if now - min(now, window.start) >= LogLimiter.windowMilliseconds {
                window = Window(start: now, count: 0, label: label)
            }
            window.count += 1
            window.label = label
            windows[cause] = window
            // One line of the ten is kept for what `quiet` has to say.
            let most = LogLimiter.linesMax - 1
            return window.count < most ? .whole : window.count == most ? .last : .none
        }
    }

    /// The sentences about seconds that are over and in which events were left out.
    ///
    /// Told once.
    ///
    /// - Parameter now: A monotonic clock, in milliseconds.
    /// - Returns: A sentence for each cause.
    func quiet(at now: UInt64) -> [String] {
        windows.withLock { windows in
            var notes: [String] = []
            for (cause, window) in windows
            where now - min(now, window.start) >= LogLimiter.windowMilliseconds {
                windows[cause] = nil
                let suppressed = window.count - (LogLimiter.linesMax - 1)
                if suppressed > 0 {
                    notes.append("suppressed \(suppressed) more like: \(window.label)")
                }
            }
            return notes.sorted()
        }
    }
}
