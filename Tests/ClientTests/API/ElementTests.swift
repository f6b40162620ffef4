// Elements of all types through the library, on both faces, exactly as they are.

import Smalloc
import Testing
import TestSupport

@Suite("Elements", .timed)
struct ElementTests {
    /// Values of a type that no Double in between would leave alone, where there are such.
    private func check<Element: Smalloc.Element & Hashable>(
        _ values: [Element]
    ) async throws {
        let name = SharedDaemon.name()
        let smalloc = try SharedDaemon.connect()
        let daemon = try await SharedDaemon.connectAsync()
        let type = Element.elementType
        let a = try smalloc.alloc(values.count, named: name, type)
        let b = try await daemon.open(name)
        #expect(b.type == type && a.size == values.count * type.size)
        try a.write(values)
        #expect(try a.read(Element.self) == values)
        #expect(try await b.read(Element.self) == values)
        for (index, value) in values.enumerated() {
            #expect(try a.get(index, as: Element.self) == value)
            #expect(try await b.get(index, as: Element.self) == value)
        }
        let backwards = Array(values.reversed())
        for (index, value) in backwards.enumerated() {
            if index % 2 == 0 {
                try a.set(value, at: index)
            } else {
                try await b.set(value, at: index)
            }
        }
        #expect(try a.read(Element.self, ranges: [0..<values.count]) == backwards)
        #expect(try await b.read(Element.self, ranges: [0..<values.count]) == backwards)
        try a.fill(repeating: [values[0]])
        #expect(try await b.read(Element.self) == values.map { _ in values[0] })
        try await b.fill(repeating: values.suffix(2), count: 2)
        #expect(try a.read(Element.self, count: 2) == Array(values.suffix(2)))
        try values.prefix(1).withUnsafeBytes { try a.fill(repeating: $0, from: 1) }
        try await b.fill(repeatingBytes: values.prefix(1).withUnsafeBytes { Array($0) }, count: 1)
        #expect(try a.read(Element.self) == values.map { _ in values[0] })
        let part = await failure { () async throws(SmallocError) in
            try await b.fill(repeatingBytes: [UInt8](repeating: 0, count: type.size + 1), count: 2)
        }
        // Of one byte each, two are two elements.
        #expect(part?.status == (type.size == 1 ? nil : .invalidArgument))
        var read: Smalloc.Batch.Ticket?
        let replies = try smalloc.batch { batch in
            batch.write(values, of: a)
            read = batch.read(values.count, of: a)
        }
        let ticket = try #require(read)
        #expect(try replies.array(ticket, as: Element.self) == values)
        var array = backwards
        try replies.read(ticket, into: &array)
        #expect(array == values)
        try smalloc.dispose(named: name)
    }

    @Test("every type's values come and go as they are, by every call")
    func all() async throws {
        try await check([Int64.min, -1, 0, 1 << 53 + 1, .max])
        try await check([0, 1, UInt64.max, 1 << 63, 1 << 53 + 1])
        try await check([0.1, -2.5, 65_504, .infinity, .leastNonzeroMagnitude] as [Float16])
        try await check([0.1, -2.5, 1e38, .infinity, 9e-41].map { Smalloc.Bfloat16($0) })
        try await check([true, false, false, true, true])
        try await check(
            [(0.1, -0.2), (1, 0), (.infinity, 5), (0, 1)].map { Smalloc.ComplexFloat($0.0, $0.1) })
        try await check(
            [(0.1, 1e300), (1, 0), (-.infinity, 5), (0, 1)].map {
                Smalloc.ComplexDouble($0.0, $0.1)
            })
        try await check([1, -2, 3] as [Int8])
        try await check([1, -2.5, 3] as [Double])
    }

    @Test("what no Double can hold is not read or stored by way of one")
    func refused() async throws {
        let smalloc = try SharedDaemon.connect()
        let daemon = try await SharedDaemon.connectAsync()
        for type in ElementType.allCases {
            let name = SharedDaemon.name()
            let a = try smalloc.alloc(4, named: name, type)
            let b = try await daemon.open(name)
            var statuses: [Smalloc.Status?] = [
                failure { () throws(SmallocError) in _ = try a.get(0) }?.status,
                failure { () throws(SmallocError) in try a.set(1, at: 0) }?.status,
                failure { () throws(SmallocError) in _ = try a.numbers() }?.status,
                failure { () throws(SmallocError) in try a.store([1, 2]) }?.status,
                failure { () throws(SmallocError) in try a.fill(1) }?.status,
                await failure { () async throws(SmallocError) in _ = try await b.get(0) }?.status,
                await failure { () async throws(SmallocError) in try await b.set(1, at: 0) }?
                    .status,
                await failure { () async throws(SmallocError) in _ = try await b.numbers() }?
                    .status,
                await failure { () async throws(SmallocError) in try await b.store([1, 2]) }?
                    .status,
                await failure { () async throws(SmallocError) in try await b.fill(1) }?.status,
            ]
            var tickets: [Smalloc.Batch.Ticket] = []
            let replies = try smalloc.batch { batch in
                tickets.append(batch.set(1, at: 0, of: a))
                tickets.append(batch.fill(1, of: a))
                tickets.append(batch.get(0, of: a))
            }
            statuses.append(replies.failure(of: tickets[0])?.status)
            statuses.append(replies.failure(of: tickets[1])?.status)
            statuses.append(
                failure { () throws(SmallocError) in _ = try replies.number(tickets[2]) }?.status)
            statuses.append(
                failure { () throws(SmallocError) in _ = try replies.numbers(tickets[2]) }?.status)
            let expected: Smalloc.Status? = type.isDouble ? nil : .invalidArgument
            #expect(statuses.allSatisfy { $0 == expected }, "\(type.name): \(statuses)")
            // A subscript reads NaN, stores nothing, and leaves the failure behind.
            a[1] = 1
            #expect(a[1].isNaN == !type.isDouble)
            let left = failure { () throws(SmallocError) in try a.throwIfFailed() }?.status
            #expect(left == expected)
            if !type.isDouble {
                var bytes = [UInt8](repeating: 1, count: a.size)
                try bytes.withUnsafeMutableBytes { try a.read(into: $0) }
                #expect(bytes.allSatisfy { $0 == 0 })
            }
            try smalloc.dispose(named: name)
        }
    }

    @Test("a Bool that another client has written is false or true, whatever byte it is")
    func foreignBools() async throws {
        let name = SharedDaemon.name()
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(256, named: name, .bool)
        let bytes = (UInt8.min...UInt8.max).map { $0 }
        try bytes.withUnsafeBytes { try a.write($0) }
        let expected = bytes.map { $0 != 0 }
        /// The bytes that the values have, which compare as they should only if they are 0 and 1.
        func isSettled(_ values: [Bool]) -> Bool {
            values.withUnsafeBytes { Array($0) } == expected.map { $0 ? 1 : 0 }
        }
        #expect(isSettled(try a.read(Bool.self)))
        var array = expected
        try a.read(into: &array)
        #expect(isSettled(array))
        #expect(isSettled(try a.read(Bool.self, ranges: [0..<256])))
        #expect(try a.get(7, as: Bool.self))
        #expect(try a.numbers() == expected.map { $0 ? 1 : 0 })
        let b = try await SharedDaemon.connectAsync().open(name)
        #expect(isSettled(try await b.read(Bool.self)))
        #expect(isSettled(try await b.read(Bool.self, ranges: [0..<256])))
        var read: Smalloc.Batch.Ticket?
        let replies = try smalloc.batch { read = $0.read(256, of: a) }
        let ticket = try #require(read)
        #expect(isSettled(try replies.array(ticket, as: Bool.self)))
        try replies.read(ticket, into: &array)
        #expect(isSettled(array))
        try smalloc.dispose(named: name)
        // Large ones go another way.
        let large = try smalloc.alloc(300_000, named: name, .bool)
        try large.fill(repeating: [true])
        try [UInt8(9)].withUnsafeBytes { try large.write($0, at: 299_999) }
        let all = try large.read(Bool.self)
        #expect(all.withUnsafeBytes { $0.allSatisfy { $0 == 1 } })
        let other = try await SharedDaemon.connectAsync().open(name).read(Bool.self)
        #expect(other.withUnsafeBytes { $0.allSatisfy { $0 == 1 } })
        try smalloc.dispose(named: name)
    }

    @Test("Bool elements are mapped as bytes, since another client may store any byte there")
    func mappedBools() async throws {
        let name = SharedDaemon.name()
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(4, named: name, .bool)
        let b = try await SharedDaemon.connectAsync().open(name)
        let refused = failure { () throws(SmallocError) in _ = try a.map(Bool.self) }
        #expect(refused?.status == .invalidArgument)
        #expect(refused?.message.contains("UInt8") == true)
        let late = await failure { () async throws(SmallocError) in _ = try await b.map(Bool.self) }
        #expect(late?.status == .invalidArgument)
        let map = try a.map(UInt8.self)
        let other = try await b.map(UInt8.self, writable: false)
        try [0, 1, 2, 255 as UInt8].withUnsafeBytes { try a.write($0) }
        #expect(map.indices.map { map[$0] } == [0, 1, 2, 255])
        map[0] = 7
        #expect(other[0] == 7)
        #expect(try a.get(0, as: Bool.self))
        // Reading and writing values convert, so they take the element's own type.
        let read = failure { () throws(SmallocError) in _ = try a.read(UInt8.self) }
        #expect(read?.status == .invalidArgument)
        try smalloc.dispose(named: name)
    }

    @Test("a Swift type of another element type is refused")
    func wrong() throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(2, .int64)
        #expect(
            failure { () throws(SmallocError) in _ = try a.get(0, as: UInt64.self) }?.status
                == .invalidArgument)
        #expect(
            failure { () throws(SmallocError) in try a.set(UInt64(1), at: 0) }?.status
                == .invalidArgument)
        #expect(
            failure { () throws(SmallocError) in _ = try a.get(2, as: Int64.self) }?.status
                == .outOfRange)
        #expect(
            failure { () throws(SmallocError) in try a.set(Int64(1), at: -1) }?.status
                == .outOfRange)
    }

    @Test("a Bfloat16 is rounded, printed and compared as a number")
    func bfloats() {
        #expect(Smalloc.Bfloat16(0.1).description == "0.1")
        #expect(Smalloc.Bfloat16(0.1).bitPattern == 0x3DCD)
        #expect(Smalloc.Bfloat16(257).float == 256)
        #expect(Smalloc.Bfloat16(259).float == 260)
        #expect(Smalloc.Bfloat16(1e39).float == .infinity)
        #expect(Smalloc.Bfloat16(.nan).bitPattern == 0x7FC0)
        #expect(Smalloc.Bfloat16(.nan) != Smalloc.Bfloat16(.nan))
        #expect(Smalloc.Bfloat16(-0.0) == Smalloc.Bfloat16(0))
        #expect(Set([Smalloc.Bfloat16(-0.0), Smalloc.Bfloat16(0)]).count == 1)
    }
}
