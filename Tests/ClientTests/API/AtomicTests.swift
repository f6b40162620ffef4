// Atomics, waits and notifies of both faces: values of every type, errors, times, many at once, and
// tasks that are cancelled while they wait.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Atomics and waits", .timed)
struct AtomicTests {
    private func walk<Value: Smalloc.AtomicValue>(_ type: Value.Type) throws {
        let a = try SharedDaemon.connect().alloc(4, Value.elementType)
        #expect(try a.atomicLoad(1) as Value == 0)
        try a.atomicStore(Value.max, at: 1)
        #expect(try a.atomicAdd(1, at: 1) == Value.max)
        #expect(try a.atomicLoad(1, as: type) == Value.min)
        #expect(try a.atomicSubtract(1, at: 1) == Value.min)
        #expect(try a.atomicExchange(0b1100, at: 1) == Value.max)
        #expect(try a.atomicAnd(0b0110 as Value, at: 1) == 0b1100)
        #expect(try a.atomicOr(0b0001 as Value, at: 1) == 0b0100)
        #expect(try a.atomicXor(0b0111 as Value, at: 1) == 0b0101)
        let missed = try a.atomicCompareExchange(at: 1, expected: 3 as Value, desired: 9)
        #expect(!missed.exchanged && missed.original == 0b0010)
        let hit = try a.atomicCompareExchange(at: 1, expected: 2 as Value, desired: .min)
        #expect(hit.exchanged && hit.original == 2)
        #expect(try a.read(type, from: 0) == [0, Value.min, 0, 0])
        // Of a slice, and of the least value as the expected one.
        let slice = try a.slice(1, 3)
        let again = try slice.atomicCompareExchange(at: 0, expected: Value.min, desired: 7)
        #expect(again.exchanged)
        #expect(try a.atomicLoad(1) as Value == 7)
    }

    private func walkAsync<Value: Smalloc.AtomicValue>(_ type: Value.Type) async throws {
        let a = try await SharedDaemon.connectAsync().alloc(4, Value.elementType)
        try await a.atomicStore(Value.max, at: 1)
        #expect(try await a.atomicAdd(1, at: 1) == Value.max)
        #expect(try await a.atomicSubtract(1, at: 1) == Value.min)
        #expect(try await a.atomicExchange(0b1100, at: 1) == Value.max)
        #expect(try await a.atomicAnd(0b0110 as Value, at: 1) == 0b1100)
        #expect(try await a.atomicOr(0b0001 as Value, at: 1) == 0b0100)
        #expect(try await a.atomicXor(0b0111 as Value, at: 1) == 0b0101)
        let hit = try await a.atomicCompareExchange(at: 1, expected: 2 as Value, desired: .min)
        #expect(hit.exchanged && hit.original == 2)
        #expect(try await a.atomicLoad(1, as: type) == Value.min)
    }

    @Test("each integer type has all of them, in both faces")
    func types() async throws {
        try walk(Int8.self)
        try walk(UInt8.self)
        try walk(Int16.self)
        try walk(UInt16.self)
        try walk(Int32.self)
        try walk(UInt32.self)
        try await walkAsync(Int8.self)
        try await walkAsync(UInt32.self)
    }

    @Test("what can't be is refused, and says what it was about")
    func errors() async throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(4, .int32)
        #expect(throws: SmallocError.self) { try a.atomicAdd(1 as UInt32, at: 0) }
        let range = failure { () throws(SmallocError) in try a.atomicAdd(1 as Int32, at: 4) }
        #expect(range?.status == .outOfRange && range?.detail?.contains("start 4") == true)
        #expect(
            failure { () throws(SmallocError) in try a.wait(at: -1, while: 0 as Int32) }?.status
                == .outOfRange)
        let bytes = try smalloc.alloc(4, .uint8)
        #expect(
            failure { () throws(SmallocError) in try bytes.wait(at: 0, while: 0 as UInt8) }?.status
                == .invalidArgument)
        #expect(
            failure { () throws(SmallocError) in _ = try bytes.notify(at: 0) }?.status
                == .invalidArgument)
        try a.dispose()
        #expect(failure { () throws(SmallocError) in _ = try a.notify(at: 0) }?.status == .noData)
        let later = try await SharedDaemon.connectAsync().alloc(1, .int32)
        try await later.dispose()
        let gone = await failure { () async throws(SmallocError) in
            _ = try await later.wait(at: 0, while: 0 as Int32)
        }
        #expect(gone?.status == .noData)
    }

    @Test("a wait has its results, and its time beside the connection's")
    func results() async throws {
        var options = Smalloc.Options()
        options.requestTimeout = .milliseconds(300)
        let smalloc = try SharedDaemon.connect(options)
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(4, named: name, .uint32)
        #expect(try a.wait(at: 0, while: 1 as UInt32) == .differs)
        #expect(try a.wait(at: 0, while: 0 as UInt32, timeout: .zero) == .timeout)
        let start = ContinuousClock.now
        #expect(try a.wait(at: 0, while: 0 as UInt32, timeout: .milliseconds(700)) == .timeout)
        #expect(ContinuousClock.now - start >= .milliseconds(700))
        let other = try await SharedDaemon.connectAsync(options)
        let b = try await other.open(name)
        async let notified = b.wait(at: 2, while: 0 as UInt32)
        #expect(try eventually { try a.notify(at: 2, count: 1) == 1 })
        #expect(try await notified == .notified)
        async let long = b.wait(at: 2, while: 0 as UInt32, timeout: .milliseconds(700))
        #expect(try await long == .timeout)
        async let disposed = b.wait(at: 2, while: 0 as UInt32)
        usleep(400_000)
        try a.dispose()
        #expect(try await disposed == .disposed)
    }

    @Test("a blocking wait ends when a task notifies it")
    func blocking() async throws {
        let name = SharedDaemon.name()
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(1, named: name, .int32)
        let other = try await SharedDaemon.connectAsync()
        let b = try await other.open(name)
        let thread = Task.detached { try a.wait(at: 0, while: 0 as Int32) }
        var woken = 0
        for _ in 0..<2000 where woken == 0 {
            woken = try await b.notify(at: 0)
            if woken == 0 { try await Task.sleep(for: .milliseconds(5)) }
        }
        #expect(try await thread.value == .notified)
        try a.dispose()
    }

    @Test(
        "thousands of tasks wait on one connection, and others' calls go on",
        arguments: Place.allCases)
    func many(_ place: Place) async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name()
        let a = try await smalloc.alloc(16, named: name, .int32)
        let control = try await SharedDaemon.connectAsync()
        let cells = try await control.open(name)
        let count = 4096
        try await withThrowingTaskGroup(of: Smalloc.WaitResult.self) { group in
            for number in 0..<count {
                group.addTask(executorPreference: place.executor(of: smalloc)) {
                    try await a.wait(at: number % 16, while: 0 as Int32)
                }
            }
            // All of them wait, and a call on their connection is answered all the same.
            var woken = 0
            for round in 0..<4000 where woken < count {
                #expect(try await a.get(0) == 0)
                for cell in 0..<16 { woken += try await cells.notify(at: cell) }
                if round % 10 == 9 { try await Task.sleep(for: .milliseconds(1)) }
            }
            #expect(woken == count)
            for try await result in group { #expect(result == .notified) }
        }
        try await a.dispose()
    }

    @Test(
        "a cancelled task takes its wait back, and no notify is spent on it",
        arguments: Place.allCases)
    func cancelled(_ place: Place) async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name()
        let a = try await smalloc.alloc(1, named: name, .int32)
        let control = try await SharedDaemon.connectAsync()
        let cell = try await control.open(name)
        for round in 0..<100 {
            let task = Task(executorPreference: place.executor(of: smalloc)) {
                try await a.wait(at: 0, while: 0 as Int32)
            }
            // At each stage of its way.
            if round % 4 > 0 { try await Task.sleep(for: .microseconds(50 << (round % 4 * 2))) }
            task.cancel()
            await #expect(throws: SmallocError.cancelled) { try await task.value }
        }
        #expect(try await cell.notify(at: 0) == 0)
        // Cancelled and notified at once: one of the two, and the other side knows which.
        for _ in 0..<100 {
            let task = Task(executorPreference: place.executor(of: smalloc)) {
                try await a.wait(at: 0, while: 0 as Int32)
            }
            try await Task.sleep(for: .microseconds(300))
            async let woken = cell.notify(at: 0)
            task.cancel()
            let result = try? await task.value
            #expect(try await woken == (result == .notified ? 1 : 0))
        }
        #expect(try await smalloc.open(name).get(0) == 0)
        try await a.dispose()
    }

    @Test("many tasks and threads that add lose nothing")
    func sums() async throws {
        let name = SharedDaemon.name()
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(1, named: name, .uint32)
        let rounds = Scale.count(200)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    let other = try await SharedDaemon.connectAsync()
                    let b = try await other.open(name)
                    try await withThrowingTaskGroup(of: Void.self) { inner in
                        for _ in 0..<16 {
                            inner.addTask {
                                for _ in 0..<rounds { try await b.atomicAdd(1 as UInt32, at: 0) }
                            }
                        }
                        try await inner.waitForAll()
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try a.atomicLoad(0) as UInt32 == UInt32(64 * rounds))
        try a.dispose()
    }

    @Test("a stop of the daemon ends waits with an error of the connection's")
    func stop() async throws {
        let daemon = try DaemonProcess()
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        let a = try await smalloc.alloc(1, .int32)
        let task = Task { try await a.wait(at: 0, while: 0 as Int32) }
        try await Task.sleep(for: .milliseconds(100))
        daemon.signal(SIGTERM)
        let error = await failure { () async throws(SmallocError) in
            do { _ = try await task.value } catch let error as SmallocError { throw error } catch {}
        }
        #expect(error?.status == .cancelled && error?.isTransport == true)
        #expect(daemon.waitForExit(seconds: 10) == 0)
    }
}
