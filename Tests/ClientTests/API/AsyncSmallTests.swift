// Calls of the async face for a few elements, which suspend where they are called: what they make
// of refusals, of answers that take long, and of cancelled tasks.

import Smalloc
import Testing
import TestSupport

@Suite("A few elements, asynchronously", .timed)
struct AsyncSmallTests {
    /// Each call for elements 0 and 1, by its name.
    private static let calls = [
        "get", "set", "read", "readBytes", "write", "writeBytes", "numbers",
    ]

    private func make(_ call: String, _ a: AsyncAllocation) async throws(SmallocError) {
        switch call {
        case "get": #expect(try await a.get(1) == 0)
        case "set": try await a.set(1, at: 1)
        case "read": #expect(try await a.read(Int32.self, from: 0, count: 2) == [0, 0])
        case "readBytes": #expect(try await a.readBytes(from: 0, count: 2).count == 8)
        case "write": try await a.write([1, 1] as [Int32])
        case "writeBytes": try await a.write(bytes: [1, 1, 1, 1, 1, 1, 1, 1])
        default: #expect(try await a.numbers(from: 0, count: 2) == [0, 0])
        }
    }

    private func status(_ call: String, _ a: AsyncAllocation) async -> Smalloc.Status? {
        await failure { () async throws(SmallocError) in try await make(call, a) }?.status
    }

    @Test("tell what the daemon refuses", arguments: calls, Place.allCases)
    func refused(_ call: String, _ place: Place) async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let other = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name()
        let a = try await smalloc.alloc(2, named: name, .int32)
        try await place.tasks(1, on: smalloc) { _ in
            #expect(await status(call, a) == nil)
        }
        // Nobody here knows of it.
        try await other.open(name).truncate(1)
        try await place.tasks(3, on: smalloc) { _ in
            #expect(await status(call, a) == .outOfRange)
        }
        try await other.open(name).dispose()
        try await place.tasks(3, on: smalloc) { _ in
            #expect(await status(call, a) == .noData)
        }
    }

    @Test("ask for nothing when their task has been cancelled", arguments: calls, Place.allCases)
    func cancelledBefore(_ call: String, _ place: Place) async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(2, .int32)
        let task = Task(executorPreference: place.executor(of: smalloc)) {
            while !Task.isCancelled { await Task.yield() }
            return await status(call, a)
        }
        task.cancel()
        #expect(await task.value == .cancelled)
        #expect(try await a.numbers() == [0, 0])
    }

    @Test("wait for answers that take long, and can be cancelled then", arguments: Place.allCases)
    func late(_ place: Place) async throws {
        let gate = Gate()
        let server = try FakeServer.stalling(until: gate)
        let smalloc = try await AsyncSmalloc(server.address)
        let a = try await smalloc.alloc(2, .int32)
        let executor = place.executor(of: smalloc)
        let patient = Self.calls.map { call in
            Task(executorPreference: executor) { await status(call, a) }
        }
        let impatient = Self.calls.map { call in
            Task(executorPreference: executor) { await status(call, a) }
        }
        try await Task.sleep(for: .milliseconds(100))
        for task in impatient { task.cancel() }
        for task in impatient { #expect(await task.value == .cancelled) }
        gate.open()
        for task in patient { #expect(await task.value == nil) }
        try await smalloc.ping()
    }
}
