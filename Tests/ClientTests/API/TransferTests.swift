// Bulk reads and writes: arrays, buffers, spans, ranges, fills, in one piece and in chunks.

import Smalloc
import Testing
import TestSupport

@Suite("Bulk transfers", .timed)
struct TransferTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    private func roundTrip<Element: Smalloc.Element & Equatable>(_ values: [Element]) throws {
        let a = try smalloc.alloc(values.count + 2, Element.elementType)
        try a.write(values, at: 1)
        #expect(try a.read(Element.self, from: 1, count: values.count) == values)
        #expect(try a.read(Element.self).count == values.count + 2)
        var into = [Element](repeating: values[0], count: 2)
        try a.read(into: &into, from: 2)
        #expect(into == [values[1], values[2]])
    }

    @Test("every element type goes out and in unchanged")
    func types() throws {
        try roundTrip([1, -1, .min, .max] as [Int8])
        try roundTrip([1, 2, 0, .max] as [UInt8])
        try roundTrip([1, -1, .min, .max] as [Int16])
        try roundTrip([1, 2, 0, .max] as [UInt16])
        try roundTrip([1, -1, .min, .max] as [Int32])
        try roundTrip([1, 2, 0, .max] as [UInt32])
        try roundTrip([1, -0.5, .infinity, .leastNonzeroMagnitude] as [Float])
        try roundTrip([1, -0.5, .infinity, .leastNonzeroMagnitude] as [Double])
    }

    @Test("raw buffers, typed buffers and spans go out and in")
    func memory() throws {
        let a = try smalloc.alloc(4, .uint16)
        let values: [UInt16] = [1, 2, 3, 4]
        try values.withUnsafeBytes { bytes throws(any Error) in try a.write(bytes) }
        #expect(try a.read(UInt16.self) == values)
        try values.withUnsafeBufferPointer { buffer throws(any Error) in
            try a.write(UnsafeBufferPointer(rebasing: buffer[2...]), at: 0)
        }
        #expect(try a.read(UInt16.self) == [3, 4, 3, 4])
        let more: [UInt16] = [9, 8]
        try a.write(more.span, at: 1)
        try a.write(more.span.bytes, at: 2)
        #expect(try a.read(UInt16.self) == [3, 9, 9, 8])
        var target: [UInt16] = [0, 0]
        do {
            var span = target.mutableSpan
            try a.read(into: &span, from: 2)
        }
        #expect(target == [9, 8])
        do {
            var span = target.mutableSpan
            var bytes = span.mutableBytes
            try a.read(into: &bytes, from: 0)
        }
        #expect(target == [3, 9])
        try target.withUnsafeMutableBytes { bytes throws(any Error) in
            try a.read(into: bytes, from: 1)
        }
        #expect(target == [9, 9])
    }

    @Test("another element type, and a part of an element, are refused")
    func mismatch() throws {
        let a = try smalloc.alloc(4, .double)
        #expect(
            failure { () throws(SmallocError) in _ = try a.read(Float.self) }?.status
                == .invalidArgument)
        #expect(
            failure { () throws(SmallocError) in try a.write([1] as [Float]) }?.message
                == "the allocation holds Double elements, not Float")
        let bytes = [UInt8](repeating: 1, count: 12)
        #expect(
            failure { () throws(SmallocError) in try a.write(bytes.span.bytes) }?.message
                == "12 bytes are no whole number of Double elements")
        let clamped = try smalloc.alloc(2, .uint8Clamped)
        try clamped.write([7, 8] as [UInt8])
        #expect(try clamped.read(UInt8.self) == [7, 8])
    }

    @Test("nothing can be moved at the very end, and nowhere behind it")
    func nothing() throws {
        let a = try smalloc.alloc(3)
        try a.write([] as [UInt8], at: 3)
        #expect(try a.read(UInt8.self, from: 3) == [])
        #expect(try a.read(UInt8.self, from: 1, count: 0) == [])
        #expect(try smalloc.alloc(0).read(UInt8.self) == [])
    }

    @Test("transfers in many chunks are whole", arguments: [1, 2, 3, 7])
    func chunks(inFlight: Int) throws {
        var options = Smalloc.Options()
        options.chunkSize = 4096
        options.chunksInFlight = inFlight
        let smalloc = try SharedDaemon.connect(options)
        for count in [511, 512, 513, 1024, 5000, 40_001] {
            let values = (0..<count).map { Double($0) }
            let a = try smalloc.alloc(count + 1, .double)
            try a.write(values, at: 1)
            #expect(try a.read(Double.self, from: 1) == values)
            #expect(a[0] == 0)
        }
        try smalloc.ping()
    }

    @Test("a write of many chunks that doesn't fit changes nothing")
    func chunkedOverlong() throws {
        var options = Smalloc.Options()
        options.chunkSize = 4096
        let smalloc = try SharedDaemon.connect(options)
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(10_000, named: name)
        let other = try SharedDaemon.connect()
        try other.open(name).truncate(9000)
        // This side still believes in 10,000.
        let ones = [UInt8](repeating: 1, count: 9500)
        #expect(failure { () throws(SmallocError) in try a.write(ones) }?.status == .outOfRange)
        #expect(try a.read(UInt8.self, count: 9000) == [UInt8](repeating: 0, count: 9000))
        #expect(
            failure { () throws(SmallocError) in _ = try a.read(UInt8.self) }?.status
                == .outOfRange)
        try smalloc.ping()
        try a.dispose()
    }

    @Test("64 MiB go out and in")
    func large() throws {
        let count = 8 << 20
        var values = [Double](repeating: 0, count: count)
        for index in stride(from: 0, to: count, by: 4099) { values[index] = Double(index) }
        let a = try smalloc.alloc(count, .double)
        try a.write(values)
        let read = try a.read(Double.self)
        #expect(read == values)
        try a.dispose()
    }

    @Test("many ranges go in one request")
    func ranges() throws {
        let a = try smalloc.alloc(100, .int16)
        try a.write((0..<100).map { Int16($0) })
        #expect(try a.read(Int16.self, ranges: [5..<7, 0..<1, 6..<6, 99..<100]) == [5, 6, 0, 99])
        try a.write([-1, -2, -3] as [Int16], to: [50..<52, 0..<1])
        #expect(try a.read(Int16.self, ranges: [0..<2, 49..<53]) == [-3, 1, 49, -1, -2, 52])
        #expect(
            failure { () throws(SmallocError) in
                _ = try a.read(Int16.self, ranges: [0..<1, 99..<101])
            }?.status == .outOfRange)
        #expect(
            failure { () throws(SmallocError) in
                try a.write([1, 2] as [Int16], to: [0..<1])
            }?.status == .invalidArgument)
        let many = (0..<2500).map { ($0 % 100)..<($0 % 100 + 1) }
        #expect(try a.read(Int16.self, ranges: many).count == 2500)
        #expect(try a.read(Int16.self, ranges: []) == [])
    }

    @Test("fill stores one number, or repeats a pattern")
    func fill() throws {
        let a = try smalloc.alloc(6, .uint16)
        try a.fill(65537)
        #expect(try a.numbers() == [1, 1, 1, 1, 1, 1])
        try a.fill(repeating: [7, 8] as [UInt16], from: 1, count: 4)
        #expect(try a.numbers() == [1, 7, 8, 7, 8, 1])
        #expect(
            failure { () throws(SmallocError) in
                try a.fill(repeating: [7, 8] as [UInt16], from: 1, count: 3)
            }?.status == .invalidArgument)
        #expect(
            failure { () throws(SmallocError) in try a.fill(repeating: [] as [UInt16]) }?.status
                == .invalidArgument)
    }

    @Test("over TCP too")
    func tcp() throws {
        let port = try #require(try SharedDaemon.process.port)
        let smalloc = try Smalloc("tcp:127.0.0.1:\(port)")
        let values = (0..<1_000_000).map { Float($0) }
        let a = try smalloc.alloc(values.count, .float)
        try a.write(values)
        #expect(try a.read(Float.self) == values)
    }
}
