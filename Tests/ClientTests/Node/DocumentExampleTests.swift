// The examples of Node's document, one by one, in its order.

import Smalloc
import Testing
import TestSupport

/// The document's `SimpleData`.
private final class SimpleData: Smalloc.Holder {
    var allocation: Allocation?
    let length: Int

    init(_ n: Int, _ smalloc: Smalloc) throws {
        length = n
        try smalloc.alloc(length, self)
    }
}

/// A class that knows nothing of allocations, as the document's function does.
private final class AllocMe {}

@Suite("The document's examples", .timed)
struct DocumentExampleTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("a class of one's own holds an allocation")
    func simpleData() throws {
        let data = try SimpleData(3, smalloc)
        #expect(data.length == 3)
        #expect(smalloc.hasExternalData(data))
        data[0] = 7
        data[2] = 300
        #expect([data[0], data[1], data[2]] == [7, 0, 44])
        try data.throwIfFailed()
    }

    @Test("an object of any class holds an allocation")
    func anyObject() throws {
        let allocMe = AllocMe()
        #expect(try smalloc.alloc(3, allocMe) === allocMe)
        #expect(smalloc.hasExternalData(allocMe))
        let other = try smalloc.alloc(3)
        try other.write([1, 2, 3] as [UInt8])
        try smalloc.copyOnto(other, 0, allocMe, 0, 3)
        try smalloc.copyOnto(allocMe, 1, other, 0, 2)
        #expect(try other.numbers() == [2, 3, 3])
        try smalloc.dispose(allocMe)
        #expect(!smalloc.hasExternalData(allocMe))
    }

    @Test("an allocation of doubles holds tenths")
    func doubles() throws {
        let doubleArr = try smalloc.alloc(3, smalloc.Types.Double)
        for i in 0..<3 { doubleArr[i] = Double(i) / 10 }
        #expect([doubleArr[0], doubleArr[1], doubleArr[2]] == [0, 0.1, 0.2])
        #expect(doubleArr.type == Smalloc.Types.Double)
        #expect(try smalloc.alloc(3, 8).type == .double)
    }

    @Test("copyOnto copies b's end over a's start")
    func copyOnto() throws {
        let a = try smalloc.alloc(4)
        let b = try smalloc.alloc(4)
        for i in 0..<4 {
            a[i] = Double(i)
            b[i] = Double(i * 2)
        }
        #expect(try a.numbers() == [0, 1, 2, 3])
        #expect(try b.numbers() == [0, 2, 4, 6])
        try smalloc.copyOnto(b, 2, a, 0, 2)
        #expect(try a.numbers() == [4, 6, 2, 3])
    }

    @Test("dispose empties an object, which can then be a receiver again")
    func dispose() throws {
        let a = Allocation()
        try smalloc.alloc(3, a)
        #expect(try a.numbers() == [0, 0, 0])
        try smalloc.dispose(a)
        #expect(!smalloc.hasExternalData(a))
        #expect(a.length == 0)
        try smalloc.alloc(2, a, .int16)
        #expect(a.length == 2)
        #expect(a.type == .int16)
    }

    @Test("copying out of what was disposed of is an error")
    func copyAfterDispose() throws {
        let a = try smalloc.alloc(4)
        let b = try smalloc.alloc(4)
        try smalloc.dispose(b)
        let error = failure { () throws(SmallocError) in try smalloc.copyOnto(b, 2, a, 0, 2) }
        #expect(error?.description == "Error: source has no external array data")
    }

    @Test("dispose refuses Buffers")
    func disposeBuffer() throws {
        let buffer = try Smalloc.Buffer(4, on: smalloc)
        let error = failure { () throws(SmallocError) in try smalloc.dispose(buffer) }
        #expect(error?.description == "TypeError: obj cannot be a Buffer")
        #expect(smalloc.hasExternalData(buffer))
    }

    @Test("kMaxLength is the daemon's")
    func kMaxLength() throws {
        #expect(smalloc.kMaxLength > 0)
        #expect(smalloc.limits.lengthSizeMax == UInt64(smalloc.kMaxLength))
    }

    @Test("Types has Node's nine")
    func types() {
        let types = Smalloc.Types
        let all: [ElementType] = [
            types.Int8, types.Uint8, types.Int16, types.Uint16, types.Int32, types.Uint32,
            types.Float, types.Double, types.Uint8Clamped,
        ]
        #expect(all.map(\.rawValue) == [1, 2, 3, 4, 5, 6, 7, 8, 9])
    }
}
