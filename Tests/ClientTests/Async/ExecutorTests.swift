// Tasks on the connection's own thread: they stay there, and every one of them ends, whatever
// becomes of the connection.

import Foundation
import Smalloc
import Synchronization
import Testing
import TestSupport

@Suite("Tasks on the connection's thread", .timed)
struct ExecutorTests {
    @Test("tasks and their children stay on one thread")
    func oneThread() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(100, .double)
        let threads = Guarded<Set<UInt>>([])
        try await withTaskExecutorPreference(smalloc.executor) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<100 {
                    group.addTask {
                        for _ in 0..<10 {
                            try await a.set(Double(task), at: task)
                            threads.withLock { _ = $0.insert(currentThread()) }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        #expect(threads.withLock { $0.count } == 1)
    }

    @Test("tasks here and tasks elsewhere share a connection, with bulk transfers")
    func mixed() async throws {
        var options = Smalloc.Options()
        options.chunkSize = 1 << 20
        let smalloc = try await SharedDaemon.connectAsync(options)
        let a = try await smalloc.alloc(200, .int32)
        let large = try await smalloc.alloc(8 << 20)
        let data = [UInt8](repeating: 7, count: 8 << 20)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<200 {
                let here = task % 2 == 0 ? smalloc.executor : nil
                group.addTask(executorPreference: here) {
                    for round in 0..<20 {
                        try await a.set(Double(round), at: task)
                        #expect(try await a.get(task) == Double(round))
                        if round % 5 == 0 { await Task.yield() }
                    }
                }
            }
            group.addTask(executorPreference: smalloc.executor) {
                try await large.write(data)
                #expect(try await large.read(UInt8.self) == data)
            }
            try await group.waitForAll()
        }
        #expect(try await a.numbers() == Array(repeating: 19, count: 200))
    }

    @Test("calls end with an error when the daemon hangs, is cancelled, or closes while they wait")
    func waiting() async throws {
        let gate = Gate()
        defer { gate.open() }
        let deaf = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            gate.wait()
        }
        let smalloc = try await AsyncSmalloc(deaf.address, options: impatient())
        let a = try await smalloc.alloc(8)
        let late = Task(executorPreference: smalloc.executor) {
            await failure { () async throws(SmallocError) in _ = try await a.get(0) }?.status
        }
        #expect(await late.value == .timedOut)
        let cancelled = Task(executorPreference: smalloc.executor) {
            await failure { () async throws(SmallocError) in _ = try await a.get(0) }?.status
        }
        cancelled.cancel()
        #expect(await cancelled.value == .cancelled)
        let patient = try await AsyncSmalloc(
            deaf.address, options: impatient(asking: .seconds(20)))
        let b = try await patient.alloc(8)
        let closed = (0..<50).map { _ in
            Task(executorPreference: patient.executor) {
                await failure { () async throws(SmallocError) in _ = try await b.get(0) }?.status
            }
        }
        try await Task.sleep(for: .milliseconds(20))
        patient.close()
        for task in closed { #expect(await task.value == .closed) }
        // The executor goes on, with and without a thread that is there already.
        for pause in [0, 300] {
            try await Task.sleep(for: .milliseconds(pause))
            let after = Task(executorPreference: patient.executor) {
                for _ in 0..<100 { await Task.yield() }
                return await failure { () async throws(SmallocError) in _ = try await b.get(0) }?
                    .status
            }
            #expect(await after.value == .closed)
        }
    }

    @Test("close() and release from a task that runs there")
    func closeInside() async throws {
        let daemon = try DaemonProcess()
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        let task = Task(executorPreference: smalloc.executor) {
            let a = try await smalloc.alloc(1)
            smalloc.close()
            return await failure { () async throws(SmallocError) in _ = try await a.get(0) }?.status
        }
        #expect(try await task.value == .closed)
        for _ in 0..<20 {
            let other = try await AsyncSmalloc("unix:\(daemon.path)")
            let number = Task(executorPreference: other.executor) {
                let a = try await other.alloc(1)
                try await a.set(3, at: 0)
                return try await a.get(0)
            }
            #expect(try await number.value == 3)
        }
        let watcher = try Smalloc("unix:\(daemon.path)")
        #expect(try eventually { try watcher.stats().number("connections") == 1 })
    }

    @Test("a daemon that is killed while tasks ask, and started anew")
    func killed() async throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let first = try DaemonProcess(folder: folder)
        let smalloc = try await AsyncSmalloc(
            "unix:\(first.path)", options: impatient(asking: .seconds(20)))
        let a = try await smalloc.alloc(4)
        let tasks = (0..<100).map { _ in
            Task(executorPreference: smalloc.executor) { () -> Smalloc.Status? in
                while true {
                    let error = await failure { () async throws(SmallocError) in
                        _ = try await a.get(0)
                    }
                    if let error { return error.status }
                }
            }
        }
        try await Task.sleep(for: .milliseconds(50))
        first.kill()
        for task in tasks { #expect(await task.value == .connectionLost) }
        let second = try DaemonProcess(folder: folder)
        let again = Task(executorPreference: smalloc.executor) {
            let b = try await smalloc.alloc(4)
            try await b.set(2, at: 1)
            return try await b.get(1)
        }
        #expect(try await again.value == 2)
        #expect(second.isRunning)
    }
}

/// The thread that asks, as a number.
private func currentThread() -> UInt { UInt(pthread_self()) }
