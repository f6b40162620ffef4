// Where the tasks of a test run, for what has to hold wherever they do.

import Smalloc

/// The threads of tasks: the runtime's, or the connection's own.
enum Place: CaseIterable, Sendable {
    case anywhere
    case connectionThread

    /// What tasks that belong here prefer; nil for nothing.
    func executor(of smalloc: AsyncSmalloc) -> AsyncSmalloc.Executor? {
        self == .anywhere ? nil : smalloc.executor
    }

    /// Runs `body` here for each number below `count`, all at a time.
    func tasks(
        _ count: Int, on smalloc: AsyncSmalloc,
        _ body: @escaping @Sendable (Int) async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<count {
                group.addTask(executorPreference: executor(of: smalloc)) { try await body(number) }
            }
            try await group.waitForAll()
        }
    }
}
