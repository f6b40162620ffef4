// The Buffer-like class.

import Smalloc
import Testing
import TestSupport

@Suite("Buffer", .timed)
struct BufferTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("is written, read, sliced, copied and filled as Node's")
    func basics() throws {
        let buffer = try Smalloc.Buffer("hello", on: smalloc)
        #expect(buffer.length == 5)
        buffer[0] = 72
        #expect(try buffer.toString() == "Hello")
        #expect(try buffer.toString(1, 3) == "el")
        let slice = try buffer.slice(1, 4)
        slice[0] = 69
        #expect(try buffer.toString() == "HEllo")
        #expect(try buffer.write("xy", at: 3) == 2)
        #expect(try slice.toString() == "Elx")
        let other = try Smalloc.Buffer(8, on: smalloc)
        try buffer.copy(other, 2, 1, 3)
        #expect(try other.bytes() == [0, 0, 69, 108, 0, 0, 0, 0])
        try other.fill(257, 6)
        #expect(try other.bytes(5) == [0, 1, 1])
        try buffer.throwIfFailed()
    }

    @Test("integers go in and out in both byte orders")
    func integers() throws {
        let buffer = try Smalloc.Buffer(8, on: smalloc)
        try buffer.writeInteger(UInt32(0x0102_0304), at: 1)
        #expect(try buffer.bytes(0, 6) == [0, 4, 3, 2, 1, 0])
        #expect(try buffer.readInteger(UInt32.self, at: 1, bigEndian: true) == 0x0403_0201)
        try buffer.writeInteger(Int16(-2), at: 0, bigEndian: true)
        #expect(try buffer.bytes(0, 2) == [0xFF, 0xFE])
        #expect(
            failure { () throws(SmallocError) in
                _ = try buffer.readInteger(UInt64.self, at: 1)
            }?.status == .outOfRange)
    }

    @Test("nothing is cut off to fit")
    func violations() throws {
        let buffer = try Smalloc.Buffer(4, on: smalloc)
        #expect(
            failure { () throws(SmallocError) in _ = try buffer.write("hello") }?.status
                == .outOfRange)
        #expect(try buffer.bytes() == [0, 0, 0, 0])
        #expect(
            failure { () throws(SmallocError) in _ = try buffer.bytes(3, 1) }?.message
                == "start > end")
        #expect(
            failure { () throws(SmallocError) in _ = try buffer.bytes(0, 5) }?.status
                == .outOfRange)
        #expect(
            failure { () throws(SmallocError) in _ = try buffer.bytes(-1, 2) }?.status
                == .outOfRange)
    }
}
