// Names that come and go through the library, on both faces: to wait for one, to ask for one, and
// to have one whoever was first.

import Smalloc
import Testing
import TestSupport

@Suite("Names that come and go", .timed)
struct NameTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("an open that waits has what another client makes, freezes or renames")
    func waits() async throws {
        let tasks = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name()
        async let plain = tasks.open(name, timeout: .seconds(30))
        async let frozen = tasks.open(name, frozen: true, timeout: nil)
        // A call of the same connection goes on meanwhile.
        try await tasks.ping()
        let made = try smalloc.alloc(4, named: name, .int32)
        try made.set(7, at: 1)
        let opened = try await plain
        #expect(opened.length == 4 && opened.type == .int32)
        #expect(try await opened.numbers() == [0, 7, 0, 0])
        try made.freeze()
        #expect(try await frozen.length == 4)
        // There already.
        #expect(try smalloc.open(name, timeout: .zero).length == 4)
        #expect(try smalloc.open(name, frozen: true, timeout: nil).length == 4)
        let other = SharedDaemon.name()
        async let renamed = tasks.open(other, frozen: true, timeout: .seconds(30))
        try await tasks.ping()
        try smalloc.rename(name, to: other)
        #expect(try await renamed.type == .int32)
        try smalloc.dispose(named: other)
    }

    @Test("when the time is up there is no data, and the error says the name")
    func times() async throws {
        let name = SharedDaemon.name()
        let missing = "\(name): no allocation has this name"
        let tasks = try await SharedDaemon.connectAsync()
        let clock = ContinuousClock()
        let taken = clock.measure {
            let error = failure { () throws(SmallocError) in
                _ = try smalloc.open(name, timeout: .milliseconds(60))
            }
            #expect(error?.status == .noData && error?.detail == missing)
        }
        #expect(taken >= .milliseconds(60))
        for timeout in [Duration.zero, .microseconds(1), .seconds(-1)] {
            let error = await failure { () async throws(SmallocError) in
                _ = try await tasks.open(name, timeout: timeout)
            }
            #expect(error?.status == .noData && error?.detail == missing)
        }
        let made = try smalloc.alloc(1, named: name)
        let error = failure { () throws(SmallocError) in
            _ = try smalloc.open(name, frozen: true, timeout: .milliseconds(1))
        }
        #expect(error?.status == .noData)
        #expect(error?.detail == "\(name): no frozen allocation has this name")
        try made.dispose()
        #expect(
            failure { () throws(SmallocError) in _ = try smalloc.open("a b", timeout: nil) }?.status
                == .invalidName)
    }

    @Test("a task that is cancelled takes its open back")
    func cancelled() async throws {
        let tasks = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name()
        let task = Task { () async -> SmallocError? in
            await failure { () async throws(SmallocError) in
                _ = try await tasks.open(name, timeout: nil)
            }
        }
        try await tasks.ping()
        task.cancel()
        #expect(await task.value?.status == .cancelled)
        // It waits no more: what is made now has no handle open.
        try smalloc.create(name, 1)
        #expect(try smalloc.stat(name).handles == 0)
        try smalloc.dispose(named: name)
    }

    @Test("exists asks, and opens nothing")
    func exists() async throws {
        let tasks = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name()
        #expect(try smalloc.exists(name) == false)
        #expect(try await tasks.exists(name) == false)
        try smalloc.create(name, 1)
        #expect(try smalloc.exists(name))
        #expect(try await tasks.exists(name))
        #expect(try smalloc.stat(name).handles == 0)
        try smalloc.dispose(named: name)
        #expect(
            failure { () throws(SmallocError) in _ = try smalloc.exists("a b") }?.status
                == .invalidName)
        let error = await failure { () async throws(SmallocError) in
            _ = try await tasks.exists("")
        }
        #expect(error?.status == .invalidName)
    }

    @Test("open or alloc gives what is there if it fits, and says why it does not")
    func fits() async throws {
        let tasks = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name()
        let made = try smalloc.openOrAlloc(6, named: name, .double)
        try made.set(2.5, at: 5)
        #expect(try smalloc.openOrAlloc(6, named: name, .double).numbers()[5] == 2.5)
        #expect(try await tasks.openOrAlloc(6, named: name, .double).length == 6)
        for (length, type) in [(5, ElementType.double), (12, .float), (48, .uint8)] {
            let error = failure { () throws(SmallocError) in
                _ = try smalloc.openOrAlloc(length, named: name, type)
            }
            #expect(error?.status == .alreadyExists)
            #expect(error?.detail == "\(name): it has 6 elements of Double")
            let other = await failure { () async throws(SmallocError) in
                _ = try await tasks.openOrAlloc(length, named: name, type)
            }
            #expect(other == error)
        }
        let unshaped = failure { () throws(SmallocError) in
            _ = try smalloc.openOrAlloc(shape: [2, 3], named: name, .double)
        }
        #expect(unshaped?.detail == "\(name): it has 6 elements of Double and no shape")
        // Nothing that did not fit is open.
        #expect(try smalloc.stat(name).handles <= 2)
        try smalloc.dispose(named: name)
        let first = try await tasks.openOrAlloc(
            shape: [2, 3], named: name, .int64, metadata: [1, 2])
        #expect(try await first.shape == [2, 3])
        let second = try smalloc.openOrAlloc(shape: [2, 3], named: name, .int64, metadata: [3])
        #expect(try second.shape == [2, 3])
        #expect(try second.metadata == [1, 2])
        #expect(try smalloc.openOrAlloc(6, named: name, .int64).length == 6)
        let shaped = failure { () throws(SmallocError) in
            _ = try smalloc.openOrAlloc(shape: [3, 2], named: name, .int64)
        }
        #expect(shaped?.detail == "\(name): it has 6 elements of Int64 in the shape [2, 3]")
        try smalloc.dispose(named: name)
    }

    @Test("many that want one name at a time, while others dispose of it, all get it")
    func races() async throws {
        let name = SharedDaemon.name()
        let rounds = Scale.count(60)
        try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<4 {
                let tasks = try await SharedDaemon.connectAsync()
                group.addTask {
                    var count = 0
                    for round in 0..<rounds {
                        let found = try await tasks.openOrAlloc(3, named: name, .uint16)
                        if found.length == 3 { count += 1 }
                        if round % 3 == 0 { try? await tasks.dispose(named: name) }
                    }
                    return count
                }
            }
            for try await count in group { #expect(count == rounds) }
        }
        _ = try? smalloc.dispose(named: name)
    }
}
