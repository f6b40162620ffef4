// The async face against the daemon: results, order, many tasks, cancellation, lifetime.

import Smalloc
import Synchronization
import Testing
import TestSupport

@Suite("The async face", .timed)
struct AsyncTests {
    @Test("the document's copy, asynchronously")
    func example() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(4)
        let b = try await smalloc.alloc(4)
        for i in 0..<4 {
            try await a.set(Double(i), at: i)
            try await b.set(Double(i * 2), at: i)
        }
        try await smalloc.copyOnto(b, 2, a, 0, 2)
        #expect(try await a.numbers() == [4, 6, 2, 3])
        try await smalloc.dispose(b)
        #expect(await smalloc.hasExternalData(a))
        #expect(await !smalloc.hasExternalData(b))
        let error = await failure { () async throws(SmallocError) in
            try await smalloc.copyOnto(b, 2, a, 0, 2)
        }
        #expect(error?.description == "Error: source has no external array data")
        let again = await failure { () async throws(SmallocError) in try await b.dispose() }
        #expect(again?.description == "Error: obj has no external array data")
    }

    @Test("everything that can be asked by name")
    func names() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name("async")
        let a = try await smalloc.alloc(3, named: name, .float)
        try await a.fill(1.5)
        let b = try await smalloc.open(name)
        #expect(try await b.numbers() == [1.5, 1.5, 1.5])
        try await b.fill(repeating: [2, 3] as [Float], from: 1)
        #expect(try await a.read(Float.self) == [1.5, 2, 3])
        #expect(try await smalloc.stat(name).handles == 2)
        #expect(try await a.stat().length == 3)
        try await smalloc.rename(name, to: name + "x")
        try await a.truncate(2)
        #expect(a.length == 2)
        var seen: [String] = []
        for try await entry in smalloc.list(name) { seen.append(entry.name) }
        #expect(seen == [name + "x"])
        #expect(try await smalloc.stats().number("allocations") != nil)
        try await smalloc.ping()
        // In the place of another one.
        _ = try await smalloc.alloc(5, named: name + "y")
        let c = try await smalloc.alloc(6)
        try await c.rename(to: name + "y", replacing: true)
        #expect(try await smalloc.open(name + "y").length == 6)
        try await smalloc.rename(name + "x", to: name + "y", replacing: true)
        #expect(try await smalloc.open(name + "y").length == 2)
        try await smalloc.rename(name + "y", to: name + "x", replacing: true)
        try await smalloc.dispose(named: name + "x")
        // By handle, the daemon says that somebody else was quicker.
        let error = await failure { () async throws(SmallocError) in try await a.dispose() }
        #expect(error?.status == .noData)
    }

    @Test("bulk transfers in chunks, with slices and ranges")
    func bulk() async throws {
        var options = Smalloc.Options()
        options.chunkSize = 8192
        let smalloc = try await SharedDaemon.connectAsync(options)
        let values = (0..<100_001).map { Int32($0) }
        let a = try await smalloc.alloc(values.count, .int32)
        try await a.write(values)
        #expect(try await a.read(Int32.self) == values)
        #expect(try await a.read(Int32.self, from: 99_999) == [99_999, 100_000])
        #expect(try await a.numbers(from: 5, count: 2) == [5, 6])
        let slice = try a.slice(10, 20)
        #expect(try await slice.read(Int32.self, from: 8) == [18, 19])
        try await slice.store([1e20, -1.9], at: 0)
        #expect(
            try await a.read(Int32.self, ranges: [9..<12, 0..<1]) == [9, 1_661_992_960, -1, 0])
        try await a.write([7, 8, 9] as [Int32], to: [0..<2, 50..<51])
        #expect(try await a.read(Int32.self, ranges: [0..<2, 50..<51]) == [7, 8, 9])
        let error = await failure { () async throws(SmallocError) in
            _ = try await slice.read(Int32.self, from: 9, count: 2)
        }
        #expect(error?.message == "start + count > length")
        let large = await failure { () async throws(SmallocError) in
            try await a.write(values, at: 1)
        }
        #expect(large?.message == "start + count > length")
        let bytes = await failure { () async throws(SmallocError) in
            try await a.write(bytes: [1, 2, 3])
        }
        #expect(bytes?.status == .invalidArgument)
        try await smalloc.ping()
    }

    @Test(
        "a thousand tasks share one connection, each with its own answers",
        arguments: Place.allCases)
    func manyTasks(_ place: Place) async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(1000, .double)
        try await place.tasks(1000, on: smalloc) { task in
            for round in 0..<10 {
                try await a.set(Double(task * 10 + round), at: task)
                #expect(try await a.get(task) == Double(task * 10 + round))
            }
        }
        #expect(try await a.numbers() == (0..<1000).map { Double($0 * 10 + 9) })
    }

    @Test("more tasks than requests may be in flight", arguments: Place.allCases)
    func overLimit(_ place: Place) async throws {
        let daemon = try DaemonProcess(["--requests-in-flight-max", "4"])
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        #expect(smalloc.limits.requestsInFlightMax == 4)
        let a = try await smalloc.alloc(500, .int32)
        try await place.tasks(500, on: smalloc) { task in
            try await a.set(Double(task), at: task)
            #expect(try await a.get(task) == Double(task))
        }
        #expect(try await a.numbers() == (0..<500).map(Double.init))
    }

    @Test("small arrays of every type come and go as they are", arguments: Place.allCases)
    func smallArrays(_ place: Place) async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        func check<Element: Smalloc.Element & Equatable>(
            _ values: [Element]
        ) async throws {
            let a = try await smalloc.alloc(values.count + 2, Element.elementType)
            try await place.tasks(20, on: smalloc) { _ in
                try await a.write(values, at: 1)
                #expect(try await a.read(Element.self, from: 1, count: values.count) == values)
                #expect(try await a.read(Element.self, from: values.count + 2) == [])
                try await a.write([] as [Element], at: 2)
            }
            let bytes = values.withUnsafeBytes { Array($0) }
            #expect(try await a.readBytes(from: 1, count: values.count) == bytes)
            try await a.write(bytes: [UInt8](repeating: 0, count: bytes.count), at: 1)
            #expect(try await a.numbers() == Array(repeating: 0, count: values.count + 2))
        }
        try await check([1, -2, 3] as [Int8])
        try await check([1, 2, 255] as [UInt8])
        try await check([1, -2, 30_000] as [Int16])
        try await check([1, 2, 60_000] as [UInt16])
        try await check((-128..<127).map { Int32($0) })
        try await check((0..<256).map { UInt32($0) })
        try await check([0.5, -2, 3] as [Float])
        try await check((0..<129).map { Double($0) })
        let wrong = await failure { () async throws(SmallocError) in
            _ = try await smalloc.alloc(1, .float).read(Double.self)
        }
        #expect(wrong?.status == .invalidArgument)
        let unwritten = await failure { () async throws(SmallocError) in
            try await smalloc.alloc(1, .float).write([1] as [Double])
        }
        #expect(unwritten?.status == .invalidArgument)
    }

    @Test("small requests go on beside bulk transfers")
    func beside() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let large = try await smalloc.alloc(16 << 20)
        let small = try await smalloc.alloc(1)
        let data = [UInt8](repeating: 3, count: 16 << 20)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { for _ in 0..<3 { try await large.write(data) } }
            group.addTask { for _ in 0..<3 { _ = try await large.read(UInt8.self) } }
            for _ in 0..<20 {
                group.addTask { for _ in 0..<20 { _ = try await small.get(0) } }
            }
            try await group.waitForAll()
        }
        #expect(try await large.read(UInt8.self) == data)
    }

    @Test(
        "a cancelled call leaves the others on the connection unharmed", arguments: Place.allCases)
    func cancellation(_ place: Place) async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let count = Scale.count(1000)
        let a = try await smalloc.alloc(count, .int32)
        let large = try await smalloc.alloc(4 << 20)
        let cancelled = Counter()
        let executor = place.executor(of: smalloc)
        try await place.tasks(count, on: smalloc) { task in
            let victim = Task(executorPreference: executor) {
                do {
                    if task % 3 == 0 { _ = try await large.read(UInt8.self) }
                    if task % 3 == 1 { _ = try await smalloc.alloc(10) }
                    for _ in 0..<3 { _ = try await a.get(task) }
                } catch let error as SmallocError where error.status == .cancelled {
                    cancelled.increment()
                }
            }
            if task % 2 == 0 { await Task.yield() }
            victim.cancel()
            try await a.set(Double(task), at: task)
            #expect(try await a.get(task) == Double(task))
            try await victim.value
        }
        #expect(try await a.numbers() == (0..<count).map(Double.init))
        #expect(cancelled.value > 0)
    }

    @Test("what a cancelled alloc allocated does not stay")
    func cancelledAlloc() async throws {
        let daemon = try DaemonProcess()
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        for _ in 0..<200 {
            let task = Task { try await smalloc.alloc(100) }
            await Task.yield()
            task.cancel()
            _ = try? await task.value
        }
        let watcher = try Smalloc("unix:\(daemon.path)")
        #expect(try eventually { try allocations(watcher) == 0 })
        #expect(try watcher.stats().number("handles") ?? 0 == 0)
    }

    @Test("a task that is cancelled before it asks asks nothing")
    func cancelledBefore() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(1)
        let task = Task { () -> SmallocError? in
            while !Task.isCancelled { await Task.yield() }
            return await failure { () async throws(SmallocError) in try await a.set(1, at: 0) }
        }
        task.cancel()
        #expect(await task.value?.status == .cancelled)
        #expect(try await a.get(0) == 0)
    }

    @Test("releasing an anonymous allocation disposes of it; a slice keeps it")
    func released() async throws {
        let daemon = try DaemonProcess()
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        let watcher = try Smalloc("unix:\(daemon.path)")
        var a: AsyncAllocation? = try await smalloc.alloc(10)
        var slice: AsyncAllocation? = try a?.slice(1, 2)
        a = nil
        #expect(try await slice?.get(0) == 0)
        slice = nil
        #expect(try eventually { try allocations(watcher) == 0 })
        a = try await smalloc.alloc(10)
        let rest = try a?.slice(0)
        try await a?.dispose()
        let other = try await smalloc.alloc(10)
        let error = await failure { () async throws(SmallocError) in
            try await rest?.set(1, at: 0)
        }
        #expect(error?.status == .noData)
        #expect(try await other.get(0) == 0)
    }

    @Test("a connection that nobody holds leaves no descriptor and no thread behind")
    func leaks() async throws {
        let daemon = try DaemonProcess()
        for _ in 0..<20 {
            let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
            let a = try await smalloc.alloc(1)
            try await a.set(1, at: 0)
        }
        let watcher = try Smalloc("unix:\(daemon.path)")
        #expect(try eventually { try watcher.stats().number("connections") == 1 })
    }
}

/// A number that tasks count up.
final class Counter: Sendable {
    private let state = Atomic<Int>(0)
    func increment() { state.add(1, ordering: .relaxed) }
    var value: Int { state.load(ordering: .relaxed) }
}
