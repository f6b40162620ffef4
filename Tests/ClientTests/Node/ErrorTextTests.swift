// Every error of Node's smalloc: its text, its class, and that the first that fails is the answer.

import Foundation
import Smalloc
import Testing
import TestSupport

private final class Plain {}

@Suite("Error texts", .timed)
struct ErrorTextTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    private func text(_ body: () throws(SmallocError) -> Void) -> String? {
        failure(body).map { "\($0.errorClass.name): \($0.message)" }
    }

    @Test("alloc checks the receiver, the type, the array, the length, the data, in this order")
    func alloc() throws {
        let held = try smalloc.alloc(1)
        let value = 5 as AnyObject
        let array = [1, 2] as AnyObject
        let over = smalloc.kMaxLength + 1
        #expect(
            text { () throws(SmallocError) in try smalloc.alloc(-1, value, 77) }
                == "TypeError: obj must be an Object")
        #expect(
            text { () throws(SmallocError) in try smalloc.alloc(-1, array, 77) }
                == "TypeError: unknown external array type: 77")
        #expect(
            text { () throws(SmallocError) in _ = try smalloc.alloc(-1, 0) }
                == "TypeError: unknown external array type: 0")
        #expect(
            text { () throws(SmallocError) in _ = try smalloc.alloc(-1, -1) }
                == "TypeError: unknown external array type: -1")
        #expect(
            text { () throws(SmallocError) in try smalloc.alloc(-1, array, 2) }
                == "TypeError: Arrays are not supported")
        #expect(
            text { () throws(SmallocError) in try smalloc.alloc(-1, held) }
                == "RangeError: n > kMaxLength")
        #expect(
            text { () throws(SmallocError) in try smalloc.alloc(over, held) }
                == "RangeError: n > kMaxLength")
        #expect(
            text { () throws(SmallocError) in try smalloc.alloc(over / 8 + 1, held, .double) }
                == "RangeError: n > kMaxLength")
        #expect(
            text { () throws(SmallocError) in try smalloc.alloc(1, held) }
                == "TypeError: object already has external array data")
        #expect(held.length == 1)
    }

    @Test("nothing at all is no object, with Foundation's NSNull or without")
    func null() throws {
        let nothing: [AnyObject] = [
            (nil as Int?) as AnyObject, (nil as String?) as AnyObject, NSNull(),
            Optional<Plain>.none as AnyObject,
        ]
        let a = try smalloc.alloc(1)
        for null in nothing {
            #expect(
                text { () throws(SmallocError) in try smalloc.alloc(1, null) }
                    == "TypeError: obj must be an Object")
            #expect(
                text { () throws(SmallocError) in try smalloc.dispose(null) }
                    == "TypeError: obj must be an Object")
            #expect(
                text { () throws(SmallocError) in try smalloc.copyOnto(null, 0, a, 0, 1) }
                    == "TypeError: source must be an object")
            #expect(
                text { () throws(SmallocError) in try smalloc.copyOnto(a, 0, null, 0, 1) }
                    == "TypeError: dest must be an object")
            #expect(
                text { () throws(SmallocError) in try smalloc.sliceOnto(a, null, 0, 1) }
                    == "TypeError: dest must be an object")
            #expect(!smalloc.hasExternalData(null))
        }
    }

    @Test(
        "lengths that can't be are over kMaxLength", arguments: [-1, Int.min, Int.max, Int.max / 4])
    func overlong(length: Int) throws {
        for type in ElementType.allCases {
            #expect(
                text { () throws(SmallocError) in _ = try smalloc.alloc(length, type) }
                    == "RangeError: n > kMaxLength")
        }
    }

    @Test("a name that is taken already has data")
    func taken() throws {
        let name = SharedDaemon.name()
        let first = try smalloc.alloc(1, named: name)
        #expect(
            text { () throws(SmallocError) in _ = try smalloc.alloc(2, named: name) }
                == "TypeError: object already has external array data")
        #expect(
            text { () throws(SmallocError) in _ = try smalloc.alloc(2, named: "a b") }?
                .hasPrefix("TypeError: ") == true)
        try first.dispose()
    }

    @Test("copyOnto checks objects, data, then ranges in Node's order")
    func copyOnto() throws {
        let a = try smalloc.alloc(4)
        let b = try smalloc.alloc(6)
        let empty = Plain()
        let value = 5 as AnyObject
        func copy(
            _ source: AnyObject, _ from: Int, _ dest: AnyObject, _ onto: Int, _ count: Int
        ) -> String? {
            text { () throws(SmallocError) in
                try smalloc.copyOnto(source, from, dest, onto, count)
            }
        }
        #expect(copy(value, 0, value, 0, 9) == "TypeError: source must be an object")
        #expect(copy(empty, 0, value, 0, 9) == "TypeError: dest must be an object")
        #expect(copy(empty, 0, empty, 0, 0) == "Error: source has no external array data")
        #expect(copy(a, 0, empty, 0, 0) == "Error: dest has no external array data")
        #expect(copy(a, 9, b, 9, 5) == "RangeError: copy_length > source_length")
        #expect(copy(b, 9, a, 9, 5) == "RangeError: copy_length > dest_length")
        #expect(copy(a, 5, b, 9, 1) == "RangeError: source_start > source_length")
        #expect(copy(a, 0, b, 7, 1) == "RangeError: dest_start > dest_length")
        #expect(copy(a, 3, b, 6, 2) == "RangeError: source_start + copy_length > source_length")
        #expect(copy(a, 0, b, 5, 2) == "RangeError: dest_start + copy_length > dest_length")
        #expect(copy(a, 0, b, 0, -1) == "RangeError: copy_length > source_length")
        #expect(copy(a, -1, b, 0, 1) == "RangeError: source_start > source_length")
        #expect(copy(a, 0, b, -1, 1) == "RangeError: dest_start > dest_length")
        #expect(copy(a, .max, b, .max, .max) == "RangeError: copy_length > source_length")
        #expect(copy(a, 4, b, 6, 0) == nil)
        #expect(copy(a, 5, b, 0, 0) == "RangeError: source_start > source_length")
        #expect(try b.numbers() == [0, 0, 0, 0, 0, 0])
    }

    @Test("slices are checked against their own ends, in the same order")
    func copySlices() throws {
        let whole = try smalloc.alloc(10)
        let a = try whole.slice(2, 6)
        let b = try smalloc.alloc(6)
        func copy(_ from: Int, _ onto: Int, _ count: Int) -> String? {
            text { () throws(SmallocError) in try smalloc.copyOnto(a, from, b, onto, count) }
        }
        #expect(copy(0, 0, 5) == "RangeError: copy_length > source_length")
        #expect(copy(5, 7, 1) == "RangeError: source_start > source_length")
        #expect(copy(0, 7, 1) == "RangeError: dest_start > dest_length")
        #expect(copy(3, 6, 2) == "RangeError: source_start + copy_length > source_length")
        #expect(copy(0, 5, 2) == "RangeError: dest_start + copy_length > dest_length")
        #expect(copy(-1, 0, 0) == "RangeError: source_start > source_length")
        #expect(copy(4, 6, 0) == nil)
    }

    @Test("dispose checks the object, the Buffer, the data")
    func dispose() throws {
        let value = 5 as AnyObject
        #expect(
            text { () throws(SmallocError) in try smalloc.dispose(value) }
                == "TypeError: obj must be an Object")
        #expect(
            text { () throws(SmallocError) in try smalloc.dispose(Plain()) }
                == "Error: obj has no external array data")
        let a = try smalloc.alloc(1)
        try smalloc.dispose(a)
        #expect(
            text { () throws(SmallocError) in try smalloc.dispose(a) }
                == "Error: obj has no external array data")
        let name = SharedDaemon.name()
        let first = try smalloc.alloc(1, named: name)
        let second = try smalloc.open(name)
        try smalloc.dispose(first)
        #expect(
            text { () throws(SmallocError) in try smalloc.dispose(second) }
                == "Error: obj has no external array data")
        #expect(
            text { () throws(SmallocError) in try smalloc.dispose(named: name) }
                == "Error: obj has no external array data")
    }

    @Test("truncate checks the data, kMaxLength, the length")
    func truncate() throws {
        let a = try smalloc.alloc(4, .int16)
        #expect(
            text { () throws(SmallocError) in try smalloc.truncate(Plain(), 1) }
                == "TypeError: object has no external array data")
        #expect(
            text { () throws(SmallocError) in try smalloc.truncate(a, -1) }
                == "RangeError: truncate length is bigger than kMaxLength")
        #expect(
            text { () throws(SmallocError) in try smalloc.truncate(a, .max) }
                == "RangeError: truncate length is bigger than kMaxLength")
        #expect(
            text { () throws(SmallocError) in try smalloc.truncate(a, 5) }
                == "RangeError: truncate length is bigger than current one")
        try smalloc.truncate(a, 2)
        #expect(a.length == 2)
        try smalloc.truncate(a, 0)
        #expect(a.length == 0)
        try smalloc.dispose(a)
        #expect(
            text { () throws(SmallocError) in try smalloc.truncate(a, 0) }
                == "TypeError: object has no external array data")
    }

    @Test("reads and writes outside are range errors and change nothing")
    func outside() throws {
        let a = try smalloc.alloc(4, .int32)
        try a.write([1, 2, 3, 4] as [Int32])
        for (start, count, message) in [
            (5, 0, "start > length"), (-1, 1, "start > length"), (.max, 1, "start > length"),
            (.min, 1, "start > length"), (3, 2, "start + count > length"),
            (0, -1, "start + count > length"), (0, .max, "start + count > length"),
        ] {
            #expect(
                text { () throws(SmallocError) in
                    _ = try a.read(Int32.self, from: start, count: count)
                } == "RangeError: \(message)")
            #expect(
                text { () throws(SmallocError) in try a.fill(1, from: start, count: count) }
                    == "RangeError: \(message)")
        }
        #expect(
            text { () throws(SmallocError) in _ = try a.get(4) }
                == "RangeError: start + count > length")
        #expect(
            text { () throws(SmallocError) in try a.set(1, at: -1) }
                == "RangeError: start > length")
        #expect(
            text { () throws(SmallocError) in try a.write([1, 2] as [Int32], at: 3) }
                == "RangeError: start + count > length")
        #expect(
            text { () throws(SmallocError) in try a.write([] as [Int32], at: 5) }
                == "RangeError: start > length")
        #expect(try a.read(Int32.self) == [1, 2, 3, 4])
        try a.dispose()
        #expect(
            text { () throws(SmallocError) in _ = try a.get(0) }
                == "Error: object has no external array data")
    }

    @Test("sliceOnto checks objects, data and range")
    func sliceOnto() throws {
        let a = try smalloc.alloc(4)
        let taken = try smalloc.alloc(1)
        let value = 5 as AnyObject
        func slice(_ source: AnyObject, _ dest: AnyObject, _ start: Int, _ end: Int) -> String? {
            text { () throws(SmallocError) in _ = try smalloc.sliceOnto(source, dest, start, end) }
        }
        #expect(slice(value, value, 0, 0) == "TypeError: source must be an object")
        #expect(slice(a, value, 0, 0) == "TypeError: dest must be an object")
        #expect(slice(Plain(), taken, 9, 9) == "Error: source has no external array data")
        #expect(slice(a, taken, 9, 9) == "TypeError: object already has external array data")
        #expect(slice(a, Plain(), 5, 9) == "RangeError: start > length")
        #expect(slice(a, Plain(), 0, 5) == "RangeError: end > length")
        #expect(slice(a, Plain(), -1, -1) == "RangeError: start > length")
        #expect(slice(a, Plain(), 3, 2) == "RangeError: start > end")
    }
}
