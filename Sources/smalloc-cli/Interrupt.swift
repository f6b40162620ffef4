// Ctrl-C while a command waits in the daemon: the wait is taken back before the tool ends.

import Glibc
import Smalloc
import SmallocSystem

/// Runs what may wait for any time, and is to be ended in the daemon, too, on Ctrl-C.
enum Interrupt {
    /// Posted by the handler of the signal, and at the end of the work.
    nonisolated(unsafe) private static let events: UnsafeMutablePointer<sem_t> = {
        let events = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        sem_init(events, 0, 0)
        return events
    }()

    /// Runs work for a caller that blocks; an interrupt cancels it.
    ///
    /// A second interrupt ends the process at once. So does the first, by the same signal, when the
    /// work has been cancelled; shells make 130 of that, and stop their scripts.
    ///
    /// - Returns: What the work returned, if that was faster.
    /// - Throws: What it throws.
    static func cancelling<Result: Sendable>(
        _ work: @escaping @Sendable () async throws(SmallocError) -> Result
    ) throws(SmallocError) -> Result {
        let result = Shared<Swift.Result<Result, SmallocError>>()
        // Made before the handler, where nothing may be.
        let events = events
        var action = sigaction()
        var before = sigaction()
        action.__sigaction_handler.sa_handler = { _ in sem_post(Interrupt.events) }
        action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
        sigaction(SIGINT, nil, &before)
        // A background job of a shell ignores it.
        let isWanted = !isIgnored(before)
        if isWanted { sigaction(SIGINT, &action, nil) }
        let task = Task.detached {
            do throws(SmallocError) { result.set(.success(try await work())) } catch {
                result.set(.failure(error))
            }
            sem_post(Interrupt.events)
        }
        var isInterrupted = false
        while true {
            if sem_wait(events) != 0 { continue }
            if let result = result.value {
                if isWanted { sigaction(SIGINT, &before, nil) }
                if isInterrupted, case .failure(let error) = result, error.status == .cancelled {
                    raise(SIGINT)
                }
                return try result.get()
            }
            isInterrupted = true
            // From here on it is the daemon that is waited for.
            TimeLimit.restart()
            task.cancel()
        }
    }

    private static func isIgnored(_ action: sigaction) -> Bool {
        withUnsafeBytes(of: action.__sigaction_handler) { $0.load(as: UInt.self) }
            == withUnsafeBytes(of: SIG_IGN) { $0.load(as: UInt.self) }
    }

    /// What a task leaves for the thread that waits.
    private final class Shared<Value: Sendable>: Sendable {
        private let content = Locked<Value?>(nil)
        var value: Value? { content.withLock { $0 } }
        func set(_ value: Value) { content.withLock { $0 = value } }
    }
}
