// A time that every test has. The library's own `timeLimit` cancels the task of a test, which a
// deadlock or a system call that waits for ever does not notice: such a test ends the run here.

import Foundation
import Synchronization
public import Testing

/// Ends the run if a test takes too long.
public struct Timed: SuiteTrait, TestTrait, TestScoping {
    /// Seconds that a case of a test may take, on a machine that is not slowed down by a sanitizer.
    public let seconds: Double

    /// For suites: each of their tests has the time.
    public var isRecursive: Bool { true }

    /// Runs a case of a test under watch.
    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let entry = Timed.watch.begin(
            "\(test.sourceLocation.fileID): \(test.displayName ?? test.name)",
            seconds: seconds * Scale.slowness)
        defer { Timed.watch.end(entry) }
        try await function()
    }

    private static let watch = TimeWatch { name, seconds in
        let text = "\(name)\nhas taken more than \(Int(seconds)) s: the run ends here\n"
        FileHandle.standardError.write(Data(text.utf8))
        _exit(1)
    }
}

extension Trait where Self == Timed {
    /// A minute.
    public static var timed: Timed { Timed(seconds: 60) }

    /// So many seconds.
    public static func timed(seconds: Double) -> Timed { Timed(seconds: seconds) }
}

/// Looks after what has to end in time, from a thread of its own.
public final class TimeWatch: Sendable {
    private struct State {
        var next = 0
        var ends: [Int: (name: String, seconds: Double, end: Date)] = [:]
        var isWatching = false
    }

    private let state = Mutex(State())
    private let late: @Sendable (String, Double) -> Void

    /// - Parameter late: Called once, on the watch's thread, for each that is late, with its name
    ///   and the seconds that it had.
    public init(late: @escaping @Sendable (String, Double) -> Void) { self.late = late }

    /// Something begins.
    ///
    /// - Returns: What `end` is to be called with.
    public func begin(_ name: String, seconds: Double) -> Int {
        let (entry, mustStart) = state.withLock { state in
            state.next += 1
            state.ends[state.next] = (name, seconds, Date().addingTimeInterval(seconds))
            defer { state.isWatching = true }
            return (state.next, !state.isWatching)
        }
        if mustStart { Thread { [weak self] in while let self { self.look() } }.start() }
        return entry
    }

    /// It has ended.
    public func end(_ entry: Int) { state.withLock { $0.ends[entry] = nil } }

    private func look() {
        usleep(200_000)
        let now = Date()
        let over = state.withLock { state in
            let over = state.ends.filter { $0.value.end < now }
            for entry in over.keys { state.ends[entry] = nil }
            return over.values.map { ($0.name, $0.seconds) }
        }
        for (name, seconds) in over { late(name, seconds) }
    }
}
