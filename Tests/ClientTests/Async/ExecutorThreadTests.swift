// The thread of a connection's executor: who becomes it, and what happens when there is none to be
// had.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import Smalloc

@Suite("The connection's thread", .timed)
struct ExecutorThreadTests {
    @Test("jobs run elsewhere when no thread can be started")
    func jobsWithoutThread() async {
        let attempts = Guarded(0)
        let executor = AsyncSmalloc.Executor(start: { _ in
            attempts.withLock { $0 += 1 }
            return false
        })
        let task = Task(executorPreference: executor) {
            for _ in 0..<10 { await Task.yield() }
            return executor.isCurrent
        }
        #expect(await task.value == false)
        #expect(attempts.withLock { $0 } > 0)
    }

    @Test("a connection that comes while a thread fails to start is served by who brings it")
    func connectionWithoutThread() async throws {
        let address = try Smalloc.Address(connection: SharedDaemon.address)
        let links = Guarded<[Link]>([])
        let isFirst = Guarded<[Bool]>([])
        let shared = Guarded<AsyncSmalloc.Executor?>(nil)
        let executor = AsyncSmalloc.Executor(start: { _ in
            guard let executor = shared.withLock({ $0 }), links.withLock({ $0.isEmpty }),
                let link = try? Link.connect(address, Smalloc.Options(), executor)
            else { return false }
            links.withLock { $0.append(link) }
            let isFirst = { (first: Bool) in isFirst.withLock { $0.append(first) } }
            let first = executor.take(link)
            isFirst(first)
            if first { Thread.detachNewThread { executor.work() } }
            return false
        })
        shared.withLock { $0 = executor }
        let job = Task(executorPreference: executor) {}
        await job.value
        #expect(isFirst.withLock { $0 } == [true])
        let link = try #require(links.withLock { $0.first })
        _ = try await link.call(.ping)
        let asked = Task(executorPreference: executor) { () throws(SmallocError) in
            _ = try await link.call(.ping)
            return executor.isCurrent
        }
        #expect(try await asked.value)
        link.end(.closed)
        shared.withLock { $0 = nil }
    }

    @Test("a thread that is started late leaves the work to who has become the thread")
    func lateThread() async throws {
        let address = try Smalloc.Address(connection: SharedDaemon.address)
        let late = Guarded<[@Sendable () -> Void]>([])
        let executor = AsyncSmalloc.Executor(start: { body in
            late.withLock { $0.append(body) }
            return true
        })
        let job = Task(executorPreference: executor) { executor.isCurrent }
        while late.withLock({ $0.isEmpty }) { await Task.yield() }
        let link = try Link.connect(address, Smalloc.Options(), executor)
        #expect(executor.take(link))
        Thread.detachNewThread { executor.work() }
        #expect(await job.value)
        // It returns at once, or else the test would end here.
        for body in late.withLock({ $0 }) { body() }
        _ = try await link.call(.ping)
        link.end(.closed)
    }
}
