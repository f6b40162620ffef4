// Slices by range, and what is closed or disposed of: the same on both faces.

import Smalloc
import TestSupport
import Testing

@Suite("Slices and closing, on both faces", .timed)
struct SliceTests {
    let smalloc: Smalloc
    let tasks: AsyncSmalloc

    init() async throws {
        smalloc = try SharedDaemon.connect()
        tasks = try await SharedDaemon.connectAsync()
    }

    @Test("a range of the language is a slice")
    func ranges() async throws {
        let name = SharedDaemon.name("range")
        let a = try smalloc.alloc(8, named: name, .int16)
        try a.write([0, 1, 2, 3, 4, 5, 6, 7] as [Int16])
        let b = try await tasks.open(name)
        #expect(try a[2..<5].read(Int16.self) == [2, 3, 4])
        #expect(try a[2...5].read(Int16.self) == [2, 3, 4, 5])
        #expect(try a[6...].read(Int16.self) == [6, 7])
        #expect(try a[..<2].read(Int16.self) == [0, 1])
        #expect(try a[...2].read(Int16.self) == [0, 1, 2])
        #expect(try a[...].read(Int16.self).count == 8)
        #expect(try a[8...].length == 0)
        #expect(try a[3..<3].length == 0)
        #expect(try a[2..<7][1..<3].read(Int16.self) == [3, 4])
        #expect(try await b[2..<5].read(Int16.self) == [2, 3, 4])
        #expect(try await b[2...5].read(Int16.self) == [2, 3, 4, 5])
        #expect(try await b[6...].read(Int16.self) == [6, 7])
        #expect(try await b[..<2].read(Int16.self) == [0, 1])
        #expect(try await b[...2].read(Int16.self) == [0, 1, 2])
        #expect(try b[...].length == 8)
        #expect(try await b[2..<7][1..<3].read(Int16.self) == [3, 4])
        // The element's subscript is still the other one.
        a[3] = 9
        #expect(a[3] == 9)
        try a.dispose()
    }

    @Test("a range outside is an error, and stops nothing")
    func outside() throws {
        let name = SharedDaemon.name("range")
        let a = try smalloc.alloc(3, named: name)
        func text(_ body: () throws(SmallocError) -> Void) -> String? {
            failure(body)?.description
        }
        #expect(
            text { () throws(SmallocError) in _ = try a[2..<5] }
                == "RangeError: end > length (\(name): start 2, count 3, length 3)")
        #expect(
            text { () throws(SmallocError) in _ = try a[4...] }
                == "RangeError: start > length (\(name): start 4, length 3)")
        for status in [
            failure { () throws(SmallocError) in _ = try a[(-1)...] }?.status,
            failure { () throws(SmallocError) in _ = try a[..<(-1)] }?.status,
            failure { () throws(SmallocError) in _ = try a[...3] }?.status,
            failure { () throws(SmallocError) in _ = try a[...Int.max] }?.status,
            failure { () throws(SmallocError) in _ = try a[0...Int.max] }?.status,
            failure { () throws(SmallocError) in _ = try a[Int.min..<1] }?.status,
            failure { () throws(SmallocError) in _ = try a[Int.max...] }?.status,
        ] { #expect(status == .outOfRange) }
        try a.dispose()
    }

    @Test(
        "disposing of a slice lets go of the slice, and closing does not dispose of what has a name"
    )
    func slices() async throws {
        let name = SharedDaemon.name("slice")
        let a = try smalloc.alloc(4, named: name)
        let b = try await tasks.open(name)
        let (c, d) = (try a[1...], try b[1...])
        try c.truncate(2)
        try await d.truncate(2)
        #expect(c.length == 2 && d.length == 2 && a.length == 4 && b.length == 4)
        let longer = failure { () throws(SmallocError) in try c.truncate(3) }
        let longerOfTasks = await failure { () async throws(SmallocError) in
            try await d.truncate(3)
        }
        #expect(longer?.status == .outOfRange && longer == longerOfTasks)
        #expect(longer?.detail == longerOfTasks?.detail)
        try c.dispose()
        try await d.dispose()
        #expect(try a.get(1) == 0)
        #expect(try await b.get(1) == 0)
        #expect(c.length == 0 && d.length == 0 && !c.isSlice && !d.isSlice)
        for error in [
            failure { () throws(SmallocError) in _ = try c.get(0) },
            await failure { () async throws(SmallocError) in _ = try await d.get(0) },
            await failure { () async throws(SmallocError) in _ = try await d.read(UInt8.self) },
            await failure { () async throws(SmallocError) in try await d.write([1] as [UInt8]) },
            await failure { () async throws(SmallocError) in _ = try d[...] },
            await failure { () async throws(SmallocError) in _ = try await d.shape },
            await failure { () async throws(SmallocError) in _ = try await d.map(UInt8.self) },
        ] { #expect(error == .noData) }
        let again = failure { () throws(SmallocError) in try c.dispose() }
        let againOfTasks = await failure { () async throws(SmallocError) in
            try await d.dispose()
        }
        #expect(again == .noDataToDispose && againOfTasks == .noDataToDispose)

        try a.close()
        b.close()
        b.close()
        let replies = try await tasks.batch { _ = $0.get(0, of: b) }
        for error in [
            failure { () throws(SmallocError) in _ = try a.get(0) },
            await failure { () async throws(SmallocError) in _ = try await b.get(0) },
            failure { () throws(SmallocError) in try replies.check() },
        ] { #expect(error == .noData) }
        // What it was told before is done when it answers.
        try await tasks.ping()
        #expect(try smalloc.stat(name).handles == 0)
        try smalloc.dispose(named: name)
    }

    @Test("closing what has no name disposes of it, unless a slice or a mapping is there still")
    func closing() async throws {
        let daemon = try DaemonProcess()
        let tasks = try await AsyncSmalloc("unix:\(daemon.path)")
        let onlooker = try Smalloc("unix:\(daemon.path)")
        let a = try await tasks.alloc(4)
        let b = try await tasks.alloc(4)
        let slice = try b[2...]
        try await b.set(7, at: 3)
        let c = try await tasks.alloc(4, .int32)
        let map = try await c.map(Int32.self)
        #expect(try allocations(onlooker) == 3)
        a.close()
        b.close()
        c.close()
        try await tasks.ping()
        #expect(try allocations(onlooker) == 2)
        #expect(try await slice.get(1) == 7)
        #expect(map.isLive)
        slice.close()
        try await tasks.ping()
        #expect(try allocations(onlooker) == 1)
        withExtendedLifetime((a, b, c, map)) {}
    }

    @Test("a handle that is closed while tasks use it is nobody else's for them")
    func race() async throws {
        var options = Smalloc.Options()
        // A write takes many requests, one after another.
        options.chunkSize = 4096
        options.chunksInFlight = 1
        let tasks = try await SharedDaemon.connectAsync(options)
        let ones = [UInt8](repeating: 1, count: 100_000)
        let zeros = [UInt8](repeating: 0, count: ones.count)
        var cut = 0
        for round in 0..<100 {
            let a = try await tasks.alloc(ones.count)
            async let writing = failure { () async throws(SmallocError) in
                try await a.write(ones)
            }
            for _ in 0..<round % 10 { try await tasks.ping() }
            a.close()
            // It gets the number that the handle had.
            let b = try await tasks.alloc(ones.count)
            if let error = await writing {
                #expect(error.status == .noData)
                cut += 1
            }
            #expect(try await b.readBytes() == zeros, "round \(round)")
        }
        #expect(cut > 0)
    }

    @Test("an allocation says what it is")
    func descriptions() async throws {
        let name = SharedDaemon.name("described")
        let a = try smalloc.alloc(77, named: name, .double)
        let b = try await tasks.open(name)
        #expect("\(a)" == "Allocation(\(name), Double, length 77)")
        #expect("\(b)" == "AsyncAllocation(\(name), Double, length 77)")
        #expect(try "\(a[2..<5])" == "Allocation(a slice of \(name), Double, length 3)")
        #expect(try "\(smalloc.alloc(3))" == "Allocation(anonymous, Uint8, length 3)")
        try a.dispose()
        #expect("\(a)" == "Allocation(no data)" && "\(Allocation())" == "Allocation(no data)")
        b.close()
        #expect("\(b)" == "AsyncAllocation(no data)")
    }
}
