// What an error says beyond Node's text, and how it is caught.

import Foundation
import Smalloc
import TestSupport
import Testing

@Suite("Errors in a program", .timed)
struct ErrorDetailTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("an error says which allocation and which numbers")
    func details() throws {
        let name = SharedDaemon.name("detail")
        let a = try smalloc.alloc(3, named: name, .int16)
        func text(_ body: () throws(SmallocError) -> Void) -> String? {
            failure(body)?.description
        }
        #expect(
            text { () throws(SmallocError) in _ = try a.get(77) }
                == "RangeError: start > length (\(name): start 77, length 3)")
        #expect(
            text { () throws(SmallocError) in try a.set(1, at: -1) }
                == "RangeError: start > length (\(name): start -1, length 3)")
        #expect(
            text { () throws(SmallocError) in _ = try a.read(Int16.self, from: 1, count: 9) }
                == "RangeError: start + count > length (\(name): start 1, count 9, length 3)")
        #expect(
            text { () throws(SmallocError) in try a.write([1, 2] as [Int16], at: 2) }
                == "RangeError: start + count > length (\(name): start 2, count 2, length 3)")
        #expect(
            text { () throws(SmallocError) in try a.fill(1, from: 4) }
                == "RangeError: start > length (\(name): start 4, length 3)")
        #expect(
            text { () throws(SmallocError) in try a.truncate(9) }
                == "RangeError: truncate length is bigger than current one (\(name): length 3)")
        let slice = try a.slice(1)
        #expect(
            text { () throws(SmallocError) in _ = try slice.get(2) }
                == "RangeError: start + count > length (a slice of \(name): start 2, length 2)")
        let anonymous = try smalloc.alloc(3)
        #expect(
            text { () throws(SmallocError) in _ = try anonymous.get(3) }
                == "RangeError: start + count > length (start 3, length 3)")
        try SharedDaemon.connect().dispose(named: name)
        #expect(
            text { () throws(SmallocError) in _ = try a.get(0) }
                == "Error: object has no external array data (\(name))")
        #expect(
            text { () throws(SmallocError) in try a.dispose() }
                == "Error: obj has no external array data (\(name))")
    }

    @Test("the same by tasks")
    func detailsOfTasks() async throws {
        let tasks = try await SharedDaemon.connectAsync()
        let name = SharedDaemon.name("detail")
        let a = try await tasks.alloc(3, named: name, .double)
        func text(_ body: () async throws(SmallocError) -> Void) async -> String? {
            await failure(body)?.description
        }
        let get = await text { () async throws(SmallocError) in _ = try await a.get(77) }
        #expect(get == "RangeError: start > length (\(name): start 77, length 3)")
        let set = await text { () async throws(SmallocError) in try await a.set(1, at: 3) }
        #expect(set == "RangeError: start + count > length (\(name): start 3, length 3)")
        let read = await text { () async throws(SmallocError) in
            _ = try await a.read(Double.self, from: 1, count: 9)
        }
        #expect(
            read == "RangeError: start + count > length (\(name): start 1, count 9, length 3)")
        // Known here as long enough, and shortened by another client meanwhile.
        try SharedDaemon.connect().open(name).truncate(1)
        let small = await text { () async throws(SmallocError) in
            _ = try await a.read(Double.self)
        }
        #expect(small == "RangeError: start + count > length (\(name): start 0, count 3)")
        try SharedDaemon.connect().dispose(named: name)
        let gone = await text { () async throws(SmallocError) in try await a.dispose() }
        #expect(gone == "Error: obj has no external array data (\(name))")
    }

    @Test("what asks by a name says it, and what is too large says how large, on both faces")
    func names() async throws {
        let (smalloc, tasks) = (try SharedDaemon.connect(), try await SharedDaemon.connectAsync())
        let name = SharedDaemon.name("named")
        let made = try smalloc.alloc(4, named: name)
        #expect(
            failure { () throws(SmallocError) in
                _ = try smalloc.alloc(4, named: name)
            }?.description
                == "TypeError: object already has external array data (\(name): the name is taken)"
        )
        let other = try smalloc.alloc(4, named: SharedDaemon.name("other"))
        let taken = "\(name): the name is taken"
        #expect(
            failure { () throws(SmallocError) in try other.rename(to: name) }?.detail == taken)
        #expect(
            failure { () throws(SmallocError) in
                try smalloc.rename(other.name ?? "", to: name)
            }?.detail == taken)
        #expect(
            await failure { () async throws(SmallocError) in
                try await tasks.open(other.name ?? "").rename(to: name)
            }?.detail == taken)
        try other.dispose()
        let tooLarge = failure { () throws(SmallocError) in
            _ = try smalloc.alloc(smalloc.kMaxLength + 1, named: name)
        }
        #expect(tooLarge?.detail == "\(name): \(smalloc.kMaxLength + 1) bytes")
        #expect(failure { () throws(SmallocError) in _ = try smalloc.alloc(-1) }?.detail == nil)
        try made.dispose()
        let missing =
            "Error: object has no external array data (\(name): no allocation has this name)"
        #expect(
            failure { () throws(SmallocError) in
                _ = try smalloc.open(name)
            }?.description == missing)
        #expect(
            failure { () throws(SmallocError) in
                try smalloc.dispose(named: name)
            }?.detail == "\(name): no allocation has this name")
        #expect(
            failure { () throws(SmallocError) in
                try smalloc.freeze(name)
            }?.detail == "\(name): no allocation has this name")
        #expect(
            await failure { () async throws(SmallocError) in
                _ = try await tasks.open(name)
            }?.description == missing)
        #expect(
            await failure { () async throws(SmallocError) in
                _ = try await tasks.alloc(tasks.kMaxLength + 1, named: name)
            }?.detail == "\(name): \(smalloc.kMaxLength + 1) bytes")
    }

    @Test("a copy says the numbers of both sides, and which of them is gone, on both faces")
    func copies() async throws {
        let tasks = try await SharedDaemon.connectAsync()
        let (from, onto) = (SharedDaemon.name("from"), SharedDaemon.name("onto"))
        let (a, b) = (try smalloc.alloc(4, named: from), try smalloc.alloc(3, named: onto))
        let (c, d) = (try await tasks.open(from), try await tasks.open(onto))
        let numbers =
            "RangeError: dest_start + copy_length > dest_length "
            + "(from \(from): start 1, count 2, length 4; onto \(onto): start 2, length 3)"
        #expect(
            failure { () throws(SmallocError) in
                try smalloc.copyOnto(a, 1, b, 2, 2)
            }?.description == numbers)
        #expect(
            await failure { () async throws(SmallocError) in
                try await tasks.copyOnto(c, 1, d, 2, 2)
            }?.description == numbers)
        let slice = try b.slice(0, 2)
        #expect(
            failure { () throws(SmallocError) in
                try smalloc.copyOnto(a, 0, slice, 1, 2)
            }?.detail
                == "from \(from): start 0, count 2, length 4; "
                + "onto a slice of \(onto): start 1, length 2")
        try SharedDaemon.connect().dispose(named: onto)
        let gone = "Error: dest has no external array data (\(onto))"
        #expect(
            failure { () throws(SmallocError) in
                try smalloc.copyOnto(a, 0, b, 0, 1)
            }?.description == gone)
        #expect(
            await failure { () async throws(SmallocError) in
                try await tasks.copyOnto(c, 0, d, 0, 1)
            }?.description == gone)
        try a.dispose()
    }

    @Test("Foundation says the same of it, where it is any error")
    func localized() throws {
        let a = try smalloc.alloc(3)
        do {
            _ = try a.get(77)
            Issue.record("nothing was thrown")
        } catch let error as any Error {
            #expect(error.localizedDescription == "RangeError: start > length (start 77, length 3)")
            #expect((error as? any LocalizedError)?.errorDescription == "\(error)")
        }
    }

    @Test("details are neither compared nor a part of the message")
    func equality() throws {
        let a = try smalloc.alloc(1)
        let first = failure { () throws(SmallocError) in _ = try a.get(5) }
        let second = failure { () throws(SmallocError) in _ = try a.get(6) }
        #expect(first == second && first?.detail != second?.detail)
        #expect(first?.hashValue == second?.hashValue)
        #expect(first?.message == "start > length")
        #expect(first?.localizedDescription == first?.description)
        #expect(first != SmallocError.noData)
    }

    /// Whether a program that catches `SmallocError.noData` catches what a body throws.
    private func isNoData(_ body: () throws -> Void) -> Bool {
        do {
            try body()
        } catch SmallocError.noData {
            return true
        } catch {
            return false
        }
        return false
    }

    /// The same where nothing else can be thrown.
    private func isNoDataTyped(_ body: () throws(SmallocError) -> Void) -> Bool {
        do throws(SmallocError) {
            try body()
        } catch SmallocError.noData {
            return true
        } catch {
            return false
        }
        return false
    }

    @Test("catching an error catches every one of its status")
    func catching() throws {
        let a = try smalloc.alloc(1)
        let b = try smalloc.alloc(1)
        let unknown = SharedDaemon.name()
        try a.dispose()
        #expect(isNoData { _ = try a.get(0) })
        #expect(isNoData { try a.dispose() })
        #expect(isNoData { try a.truncate(0) })
        #expect(isNoData { try smalloc.dispose(named: unknown) })
        #expect(isNoData { try smalloc.copyOnto(b, 0, a, 0, 1) })
        #expect(!isNoData { _ = try b.get(9) })
        #expect(isNoDataTyped { () throws(SmallocError) in try a.truncate(0) })
        #expect(isNoDataTyped { () throws(SmallocError) in try smalloc.copyOnto(a, 0, b, 0, 1) })
        #expect(!isNoDataTyped { () throws(SmallocError) in _ = try b.get(9) })
    }

    /// A loop in the manual's form: others crash the compiler of Swift 6.3.1.
    private func openWhenThere(_ name: String, _ tries: inout Int) throws -> Allocation {
        while true {
            do throws(SmallocError) {
                return try smalloc.open(name)
            } catch {
                guard error.status == .noData else { throw error }
            }
            tries += 1
            if tries == 2 { try smalloc.create(name, 5) }
        }
    }

    @Test("a loop in the manual's form waits for an allocation")
    func retrying() throws {
        var tries = 0
        let a = try openWhenThere(SharedDaemon.name("retry"), &tries)
        #expect(a.length == 5 && tries == 2)
        try a.dispose()
    }
}
