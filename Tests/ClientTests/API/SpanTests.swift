// Memory that is there already: collections, spans and buffers, read into and written from, on both
// faces.

import Foundation
import Smalloc
import Synchronization
import TestSupport
import Testing

@Suite("Spans, buffers and collections, on both faces", .timed)
struct SpanTests {
    /// Parts of 1,024 `Int32`s on the async face.
    private static func options(maps: Bool) -> Smalloc.Options {
        var options = Smalloc.Options()
        options.chunkSize = 4096
        options.chunksInFlight = 1
        options.mapsLargeTransfers = maps
        return options
    }

    private func numbers(_ count: Int, _ seed: Int32) -> [Int32] {
        (0..<count).map { Int32(truncatingIfNeeded: $0) &* 7919 &+ seed }
    }

    @Test(
        "tasks read into what they have", arguments: [0, 1, 256, 1024, 1025, 5000, 200_000],
        [true, false])
    func reading(count: Int, maps: Bool) async throws {
        let smalloc = try await SharedDaemon.connectAsync(Self.options(maps: maps))
        let a = try await smalloc.alloc(count + 2, .int32)
        let wanted = numbers(count, 1)
        try await a.write(wanted, at: 1)

        var array = [Int32](repeating: -1, count: count)
        try await a.read(into: &array, from: 1)
        #expect(array == wanted)

        let buffer = UnsafeMutableBufferPointer<Int32>.allocate(capacity: count + 2)
        defer { buffer.deallocate() }
        func check(_ way: String) {
            #expect(buffer.first == -1 && buffer.last == -1, "\(way)")
            #expect(buffer[1..<count + 1].elementsEqual(wanted), "\(way)")
            buffer.update(repeating: -1)
        }
        buffer.initialize(repeating: -1)
        let middle = UnsafeMutableBufferPointer(rebasing: buffer[1..<count + 1])
        try await a.read(into: middle, from: 1)
        check("buffer")
        try await a.read(into: UnsafeMutableRawBufferPointer(middle), from: 1)
        check("raw buffer")
        do {
            var span = middle.mutableSpan
            try await a.read(into: &span, from: 1)
        }
        check("span")
        do {
            var span = UnsafeMutableRawBufferPointer(middle).mutableBytes
            try await a.read(into: &span, from: 1)
        }
        check("raw span")
    }

    @Test(
        "tasks write from what they have", arguments: [0, 1, 256, 1024, 1025, 5000, 200_000],
        [true, false])
    func writing(count: Int, maps: Bool) async throws {
        let smalloc = try await SharedDaemon.connectAsync(Self.options(maps: maps))
        let a = try await smalloc.alloc(count + 2, .int32)
        var seed: Int32 = 0
        func check(
            _ way: String, _ write: ([Int32]) async throws -> Void
        ) async throws {
            seed += 1
            let values = numbers(count, seed)
            try await write(values)
            #expect(try await a.read(Int32.self) == [0] + values + [0], "\(way)")
        }
        try await check("slice") { try await a.write(([9] + $0 + [9])[1..<count + 1], at: 1) }
        try await check("contiguous") { try await a.write(ContiguousArray($0), at: 1) }
        try await check("lazy") { try await a.write($0.lazy.map { $0 }, at: 1) }
        try await check("span") { try await a.write($0.span, at: 1) }
        try await check("raw span") { try await a.write($0.span.bytes, at: 1) }
        try await check("bytes") {
            try await a.write(bytes: $0.withUnsafeBytes { Data($0) }, at: 1)
        }
        try await check("buffers") { values in
            let buffer = UnsafeMutableBufferPointer<Int32>.allocate(capacity: count)
            defer { buffer.deallocate() }
            _ = buffer.initialize(from: values)
            try await a.write(UnsafeBufferPointer(buffer), at: 1)
            try await a.fill(0)
            try await a.write(UnsafeRawBufferPointer(buffer), at: 1)
        }
    }

    @Test("threads write any collection, and read and write bytes of any type")
    func blocking() throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(5, .int32)
        let values = numbers(5, 3)
        try a.write(([9] + values + [9])[1..<6])
        #expect(try a.read(Int32.self) == values)
        try a.write(repeatElement(7 as Int32, count: 2), at: 3)
        #expect(try a.read(Int32.self, from: 2) == [values[2], 7, 7])
        try a.write(ContiguousArray(values[1...]))
        #expect(try a.read(Int32.self, count: 4) == Array(values[1...]))
        let data = values.withUnsafeBytes { Data($0) }
        try a.fill(0)
        try a.write(bytes: data)
        #expect(try a.readBytes() == Array(data))
        try a.write(bytes: Array(data[4...]))
        #expect(try a.read(Int32.self, count: 4) == Array(values[1...]))
        try a.fill(repeatingBytes: [1, 0, 0, 0], from: 1)
        #expect(try a.read(Int32.self, from: 1) == [1, 1, 1, 1])
        let bytes = try smalloc.alloc(3)
        try bytes.write(Data([4, 5, 6]))
        #expect(try bytes.readBytes(from: 1) == [5, 6])
        try bytes.write(Data([7, 8]).span, at: 1)
        #expect(try bytes.readBytes() == [4, 7, 8])
        try a.write(data.bytes)
        #expect(try a.read(Int32.self) == values)
        // The type of the elements has to be the allocation's, whatever they come in.
        let wrong = failure { () throws(SmallocError) in try a.write(Data([1, 2, 3, 4])) }
        #expect(wrong?.message == "the allocation holds Int32 elements, not UInt8")
        let part = failure { () throws(SmallocError) in try a.write(bytes: Data([1, 2, 3])) }
        #expect(part?.message == "3 bytes are no whole number of Int32 elements")
        let long = failure { () throws(SmallocError) in try a.write(values[...], at: 1) }
        #expect(long?.detail == "start 1, count 5, length 5")
    }

    @Test("what does not fit moves nothing, and says the whole of its numbers")
    func outside() async throws {
        let smalloc = try await SharedDaemon.connectAsync(Self.options(maps: false))
        let a = try await smalloc.alloc(5000, .int32)
        let values = numbers(4000, 1)
        let long = await failure { () async throws(SmallocError) in
            try await a.write(values.span, at: 1001)
        }
        #expect(long?.detail == "start 1001, count 4000, length 5000")
        #expect(try await a.read(Int32.self) == [Int32](repeating: 0, count: 5000))
        var array = values
        let far = await failure { () async throws(SmallocError) in
            try await a.read(into: &array, from: 1001)
        }
        #expect(far?.detail == "start 1001, count 4000, length 5000" && array == values)
        var wrong = [Float](repeating: 1, count: 2)
        let type = await failure { () async throws(SmallocError) in
            try await a.read(into: &wrong)
        }
        #expect(type?.message == "the allocation holds Int32 elements, not Float")
        let part = await failure { () async throws(SmallocError) in
            try await a.write(wrong.span.bytes.extracting(first: 3))
        }
        #expect(part?.message == "3 bytes are no whole number of Int32 elements")
        let gone = try await smalloc.alloc(2, .int32)
        try await gone.dispose()
        let none = await failure { () async throws(SmallocError) in
            try await gone.write([] as ArraySlice<Int32>)
        }
        #expect(none?.status == .noData)
    }

    @Test("any byte becomes a Bool that is one, into spans as well")
    func bools() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(4, .bool)
        try await a.write(bytes: [0, 1, 2, 255])
        var array = [Bool](repeating: false, count: 4)
        try await a.read(into: &array)
        #expect(array == [false, true, true, true])
        #expect(array.withUnsafeBytes { Array($0) } == [0, 1, 1, 1])
    }

    @Test("a cancelled task's memory is touched no more, though the answer comes")
    func cancelled() async throws {
        let gate = Gate()
        let server = try FakeServer.stalling(until: gate)
        let smalloc = try await AsyncSmalloc(server.address)
        let a = try await smalloc.alloc(4096)
        let memory = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 4096)
        memory.initialize(repeating: 0xAB)
        let place = UInt(bitPattern: memory.baseAddress)
        let task = Task { () -> Smalloc.Status? in
            let memory = UnsafeMutableRawBufferPointer(
                start: UnsafeMutableRawPointer(bitPattern: place), count: 4096)
            return await failure { () async throws(SmallocError) in
                try await a.read(into: memory)
            }?.status
        }
        try await Task.sleep(for: .milliseconds(50))
        task.cancel()
        #expect(await task.value == .cancelled)
        gate.open()
        try await smalloc.ping()
        #expect(memory.allSatisfy { $0 == 0xAB })
        memory.deallocate()
    }

    @Test("tasks ask for many names together, and make without opening")
    func names() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let stem = SharedDaemon.name("many")
        for number in 0..<150 where number % 2 == 0 {
            try await smalloc.create("\(stem)/\(number)", number, .int16)
        }
        let stats = try await smalloc.stat((0..<150).map { "\(stem)/\($0)" })
        #expect(stats.map { $0?.length } == (0..<150).map { $0 % 2 == 0 ? $0 : nil })
        #expect(stats.allSatisfy { $0 == nil || $0?.handles == 0 })
        let wrong = await failure { () async throws(SmallocError) in
            _ = try await smalloc.stat(["a", "b c"])
        }
        #expect(wrong?.status == .invalidName)
        for number in 0..<150 where number % 2 == 0 {
            try await smalloc.dispose(named: "\(stem)/\(number)")
        }
        try await smalloc.quit()
        let closed = await failure { () async throws(SmallocError) in try await smalloc.ping() }
        #expect(closed?.status == .closed)
    }
}
