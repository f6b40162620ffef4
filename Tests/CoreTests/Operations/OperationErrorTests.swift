// Every operation with every error that it can give: statuses, classes, texts, and their order.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Errors of operations", .timed)
struct OperationErrorTests {
    /// A small world: a (Uint8, 100 bytes, handle 1), d (Double, 80 bytes, handle 2), handle 3 to
    /// something that is gone, handle 4 to an anonymous one of 16 bytes, empty (no handle).
    private func world(_ change: (inout Limits) -> Void = { _ in }) -> (TestDaemon, TestPeer) {
        let daemon = TestDaemon {
            $0.lengthSizeMax = 10_000
            change(&$0)
        }
        let peer = daemon.greeted()
        #expect(peer.call(.alloc, type: 2, name: "a", size: 100).header.handle == 1)
        #expect(peer.call(.alloc, type: 8, name: "d", size: 80).header.handle == 2)
        #expect(peer.call(.alloc, type: 2, name: "gone", size: 50).header.handle == 3)
        #expect(peer.call(.dispose, name: "gone").outcome == "ok")
        #expect(peer.call(.alloc, type: 4, size: 16).header.handle == 4)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "empty").outcome == "ok")
        return (daemon, peer)
    }

    /// One request and what it must be answered.
    struct Example: CustomTestStringConvertible, Sendable {
        var operation: Operation
        var flags: UInt8 = 0
        var type: UInt8 = 0
        var handle: UInt32 = 0
        var name = ""
        var offset: UInt64 = 0
        var size: UInt64 = 0
        var payload: [UInt8] = []
        var outcome: String
        var testDescription: String { "\(operation) \(outcome)" }

        var bytes: [UInt8] {
            frame(
                operation, flags: flags, type: type, cookie: 7, handle: handle, name: name,
                offset: offset, size: size, payload: payload)
        }
    }

    static let noData = "noData Error: object has no external array data"
    static let badName =
        "invalidName TypeError: a name is 1 to 255 bytes of printable ASCII without spaces"
    static let start = "outOfRange RangeError: start > length"
    static let startAndCount = "outOfRange RangeError: start + count > length"
    static let exists = "alreadyExists TypeError: object already has external array data"
    private static let max = UInt64.max

    static let examples: [Example] = [
        Example(operation: .alloc, type: 2, name: "a b", size: 1, outcome: badName),
        Example(
            operation: .alloc, type: 17, name: "n", size: 1,
            outcome: "unknownType TypeError: unknown external array type: 17"),
        Example(
            operation: .alloc, type: 0, name: "n", size: 1,
            outcome: "unknownType TypeError: unknown external array type: 0"),
        Example(
            operation: .alloc, type: 2, name: "n", size: 10_001,
            outcome: "tooLarge RangeError: n > kMaxLength"),
        Example(
            operation: .alloc, type: 8, name: "n", size: 12,
            outcome: "invalidArgument TypeError: the size is not a whole number of elements"),
        Example(operation: .alloc, type: 2, name: "a", size: 1, outcome: exists),
        Example(operation: .alloc, type: 2, name: "empty", outcome: exists),
        Example(operation: .open, name: "a\u{7f}", outcome: badName),
        Example(operation: .open, name: "n", outcome: noData),
        Example(operation: .close, handle: 9, outcome: noData),
        Example(operation: .stat, name: "\u{1f}", outcome: badName),
        Example(operation: .stat, name: "n", outcome: noData),
        Example(operation: .stat, handle: 3, outcome: noData),
        Example(operation: .stat, handle: 5, outcome: noData),
        Example(
            operation: .list, offset: 1 << 40,
            outcome: "invalidArgument TypeError: no page starts at this cursor"),
        Example(operation: .read, name: " ", outcome: badName),
        Example(operation: .read, name: "n", offset: max, size: max, outcome: noData),
        Example(operation: .read, handle: 3, outcome: noData),
        Example(operation: .read, handle: UInt32.max, outcome: noData),
        Example(operation: .read, handle: 1, offset: 101, outcome: start),
        Example(operation: .read, handle: 1, offset: max, size: max, outcome: start),
        Example(operation: .read, handle: 1, offset: 100, size: 1, outcome: startAndCount),
        Example(operation: .read, handle: 1, offset: 1, size: max, outcome: startAndCount),
        Example(
            operation: .read, flags: 1, handle: 1, size: 0,
            outcome: "invalidArgument TypeError: a vectored request has 1 to 1024 ranges"),
        Example(
            operation: .read, flags: 1, handle: 1, size: 2, payload: numbers(0, 101, 101, 0),
            outcome: startAndCount),
        Example(
            operation: .read, flags: 1, handle: 1, size: 2, payload: numbers(0, 100, 101, 0),
            outcome: start),
        Example(operation: .write, name: "é", size: 1, payload: [1], outcome: badName),
        Example(operation: .write, name: "n", size: 1, payload: [1], outcome: noData),
        Example(operation: .write, handle: 3, size: 1, payload: [1], outcome: noData),
        Example(operation: .write, handle: 1, offset: 101, outcome: start),
        Example(operation: .write, handle: 1, offset: 101, size: 1, payload: [1], outcome: start),
        Example(
            operation: .write, handle: 1, offset: 100, size: 1, payload: [1],
            outcome: startAndCount),
        Example(
            operation: .write, flags: 1, handle: 1, size: 1025,
            outcome: "invalidArgument TypeError: a vectored request has 1 to 1024 ranges"),
        Example(
            operation: .write, flags: 1, handle: 1, size: 2,
            payload: numbers(99, 1, 100, 1) + [1, 2], outcome: startAndCount),
        Example(
            operation: .write, flags: 1, handle: 3, size: 1, payload: numbers(0, 1) + [1],
            outcome: noData),
        Example(
            operation: .write, flags: 1, handle: 9, size: 1, payload: numbers(0, 2) + [1],
            outcome: "malformedRequest Error: the ranges do not add up to the data"),
        Example(operation: .fill, name: "a\t", size: 1, payload: [1], outcome: badName),
        Example(operation: .fill, name: "n", size: 1, outcome: noData),
        Example(operation: .fill, handle: 3, size: 1, payload: [1], outcome: noData),
        Example(operation: .fill, handle: 3, outcome: noData),
        Example(
            operation: .fill, handle: 1, offset: 101, size: 1,
            outcome: "invalidArgument TypeError: a fill pattern has 1 to 64 bytes"),
        Example(
            operation: .fill, handle: 1, size: 65, payload: [UInt8](repeating: 1, count: 65),
            outcome: "invalidArgument TypeError: a fill pattern has 1 to 64 bytes"),
        Example(
            operation: .fill, handle: 1, offset: 101, size: 3, payload: [1, 2], outcome: start),
        Example(
            operation: .fill, handle: 1, offset: 99, size: 3, payload: [1, 2],
            outcome: startAndCount),
        Example(
            operation: .fill, handle: 1, offset: max, size: max, payload: [1], outcome: start),
        Example(
            operation: .fill, handle: 1, size: 3, payload: [1, 2],
            outcome: "invalidArgument TypeError: the size is not a multiple of the pattern's"),
        Example(
            operation: .dispose, name: "",
            outcome: "malformedRequest Error: "
                + FrameCodec.shape.message),
        Example(operation: .dispose, name: "\u{7}", outcome: badName),
        Example(
            operation: .dispose, name: "n",
            outcome: "noData Error: obj has no external array data"),
        Example(
            operation: .dispose, handle: 3,
            outcome: "noData Error: obj has no external array data"),
        Example(
            operation: .dispose, handle: 77,
            outcome: "noData Error: obj has no external array data"),
        Example(operation: .truncate, name: "a b", outcome: badName),
        Example(
            operation: .truncate, name: "n", size: max,
            outcome: "noData TypeError: object has no external array data"),
        Example(
            operation: .truncate, handle: 3,
            outcome: "noData TypeError: object has no external array data"),
        Example(
            operation: .truncate, handle: 2, size: 10_001,
            outcome: "tooLarge RangeError: truncate length is bigger than kMaxLength"),
        Example(
            operation: .truncate, handle: 2, size: max,
            outcome: "tooLarge RangeError: truncate length is bigger than kMaxLength"),
        Example(
            operation: .truncate, handle: 2, size: 81,
            outcome: "outOfRange RangeError: truncate length is bigger than current one"),
        Example(
            operation: .truncate, handle: 2, size: 79,
            outcome: "invalidArgument TypeError: the size is not a whole number of elements"),
        Example(operation: .rename, handle: 3, payload: Array("a b".utf8), outcome: badName),
        Example(operation: .rename, handle: 3, outcome: badName),
        Example(
            operation: .rename, handle: 1, payload: [UInt8](repeating: 0x61, count: 256),
            outcome: badName),
        Example(operation: .rename, name: "\u{1}", payload: Array("b".utf8), outcome: badName),
        Example(operation: .rename, handle: 3, payload: Array("a".utf8), outcome: noData),
        Example(operation: .rename, name: "n", payload: Array("a".utf8), outcome: noData),
        Example(operation: .rename, handle: 1, payload: Array("d".utf8), outcome: exists),
        Example(operation: .rename, handle: 4, payload: Array("empty".utf8), outcome: exists),
    ]

    static let copies: [Example] = {
        let source = "noData Error: source has no external array data"
        let dest = "noData Error: dest has no external array data"
        func copy(
            _ handle: UInt32, _ name: String, _ offset: UInt64, _ size: UInt64, _ target: [UInt8],
            _ outcome: String
        ) -> Example {
            Example(
                operation: .copy, handle: handle, name: name, offset: offset, size: size,
                payload: target, outcome: outcome)
        }
        func range(_ text: String) -> String { "outOfRange RangeError: \(text)" }
        return [
            copy(0, "n", max, max, copyDest(max, name: "m"), source),
            copy(3, "", max, max, copyDest(max, handle: 3), source),
            copy(99, "", 0, 0, copyDest(0, handle: 98), source),
            copy(3, "", 0, 0, copyDest(0, name: "m"), source),
            copy(3, "", 0, 0, copyDest(0, handle: 99), source),
            copy(3, "", 0, 0, copyDest(0, handle: 1), source),
            copy(1, "", max, max, copyDest(max, name: "m"), dest),
            copy(1, "", 0, 0, copyDest(0, handle: 3), dest),
            copy(1, "", 0, 0, copyDest(0, handle: .max), dest),
            copy(0, "n\u{1}", 0, 0, copyDest(0, name: "a"), badName),
            copy(0, "a", 0, 0, copyDest(0, name: "m "), badName),
            copy(0, "n", 0, 0, copyDest(0, name: "m "), badName),
            copy(9, "", 0, 0, copyDest(0, name: "m "), badName),
            copy(1, "", 101, 101, copyDest(81, handle: 2), range("copy_length > source_length")),
            copy(1, "", max, max, copyDest(max, handle: 2), range("copy_length > source_length")),
            copy(1, "", 101, 81, copyDest(81, handle: 2), range("copy_length > dest_length")),
            copy(1, "", 101, 80, copyDest(81, handle: 2), range("source_start > source_length")),
            copy(1, "", max, 0, copyDest(max, handle: 2), range("source_start > source_length")),
            copy(1, "", 100, 80, copyDest(81, handle: 2), range("dest_start > dest_length")),
            copy(1, "", 0, 0, copyDest(max, handle: 2), range("dest_start > dest_length")),
            copy(
                1, "", 21, 80, copyDest(1, handle: 2),
                range("source_start + copy_length > source_length")),
            copy(
                1, "", 20, 80, copyDest(1, handle: 2),
                range("dest_start + copy_length > dest_length")),
            copy(1, "", 101, 0, copyDest(0, handle: 2), range("source_start > source_length")),
            copy(0, "empty", 0, 1, copyDest(0, handle: 2), range("copy_length > source_length")),
            copy(1, "", 0, 1, copyDest(0, name: "empty"), range("copy_length > dest_length")),
            copy(1, "", 20, 80, copyDest(0, handle: 2), "ok"),
            copy(1, "", 100, 0, copyDest(80, handle: 2), "ok"),
            copy(0, "empty", 0, 0, copyDest(0, name: "empty"), "ok"),
        ]
    }()

    @Test("each error has its status, class and text", arguments: examples + copies)
    func errors(_ example: Example) {
        let (_, peer) = world()
        let reply = peer.call(example.bytes)
        #expect(reply.outcome == example.outcome)
        #expect(reply.header.cookie == 7)
        #expect(reply.header.operation == example.operation.rawValue)
        if reply.status != .ok {
            #expect(reply.header.handle == 0 && reply.header.offset == 0 && reply.header.size == 0)
        }
        #expect(!peer.isClosed)
        #expect(peer.call(.ping).outcome == "ok")
    }

    @Test("a refused request changes nothing, not even which handles are open")
    func unchanged() {
        let (daemon, peer) = world()
        let before = daemon.registry.budget.usedSize
        peer.call(.fill, handle: 1, size: 100, payload: [9])
        for example in OperationErrorTests.examples { peer.call(example.bytes) }
        #expect(daemon.registry.budget.usedSize == before)
        #expect(daemon.registry.budget.allocationCount == 4)
        #expect(peer.openHandles == 4)
        let seen = peer.call(.read, handle: 1, size: 100).payload
        #expect(seen == [UInt8](repeating: 9, count: 100))
        #expect(peer.call(.close, handle: 3).outcome == "ok")
    }

    @Test("alloc gives the first of its errors, one after another")
    func allocOrder() {
        let (daemon, peer) = world {
            $0.handlesMax = 4
            $0.allocationsMax = 4
            $0.memorySizeMax = 2000
        }
        func alloc(_ name: String, _ type: UInt8, _ size: UInt64, flags: UInt8 = 0) -> Status {
            peer.call(.alloc, flags: flags, type: type, name: name, size: size).status
        }
        #expect(alloc("a ", 77, 99_999) == .invalidName)
        #expect(alloc("a", 77, 99_999) == .unknownType)
        #expect(alloc("a", 8, 99_999) == .tooLarge)
        #expect(alloc("a", 8, 9_999) == .invalidArgument)
        #expect(alloc("a", 8, 9_992) == .alreadyExists)
        #expect(alloc("n", 8, 9_992) == .handleLimit)
        #expect(alloc("a", 8, 9_992, flags: 2) == .alreadyExists)
        #expect(alloc("n", 8, 9_992, flags: 2) == .allocationLimit)
        #expect(peer.call(.dispose, name: "empty").status == .ok)
        #expect(alloc("a", 8, 9_992, flags: 2) == .alreadyExists)
        #expect(alloc("n", 8, 9_992, flags: 2) == .memoryLimit)
        #expect(alloc("n", 8, 80) == .handleLimit)
        #expect(alloc("n", 8, 80, flags: 2) == .ok)
        #expect(peer.call(.open, name: "n").status == .handleLimit)
        #expect(peer.call(.open, name: "m").status == .noData)
        #expect(daemon.registry.budget.allocationCount == 4)
    }

    @Test("rename tells of a name that is none before it tells of what is missing")
    func renameOrder() {
        let peer = TestDaemon().greeted()
        #expect(peer.call(.rename, handle: 99, payload: Array("a b".utf8)).status == .invalidName)
        #expect(peer.call(.rename, handle: 99, payload: Array("b".utf8)).status == .noData)
        #expect(peer.call(.rename, name: "gone", payload: []).status == .invalidName)
    }

    @Test(
        "a read whose reply would be over the frame size is refused, of one range or many",
        arguments: [4096, 65_536, 100_000])
    func frameTooLarge(_ limit: UInt64) {
        let daemon = TestDaemon { $0.frameSizeMax = limit }
        let peer = daemon.greeted()
        let handle = peer.call(.alloc, type: 2, size: limit + 100).header.handle
        #expect(peer.call(.read, handle: handle, size: limit).outcome == "ok")
        #expect(peer.call(.read, handle: handle, size: limit + 1).status == .frameTooLarge)
        #expect(peer.call(.read, handle: handle, size: limit + 101).status == .outOfRange)
        func vectored(_ extra: UInt64) -> Reply {
            peer.call(
                .read, flags: 1, handle: handle, size: 2,
                payload: numbers(0, limit / 2, 0, limit / 2 + extra))
        }
        #expect(vectored(0).outcome == "ok")
        #expect(vectored(1).status == .frameTooLarge)
    }

    @Test("1024 ranges whose sum is beyond every number are refused")
    func hugeSum() {
        let peer = TestDaemon().greeted()
        let handle = peer.call(.alloc, type: 2, size: 1 << 29).header.handle
        let ranges = (0..<1024).flatMap { _ in numbers(0, 1 << 29) }
        #expect(
            peer.call(.read, flags: 1, handle: handle, size: 1024, payload: ranges).status
                == .frameTooLarge)
    }

    /// What § 7 lets each operation answer besides what every frame can be answered.
    private static let possible: [Operation: Set<Status>] = [
        .alloc: [.invalidName, .unknownType, .tooLarge, .invalidArgument, .alreadyExists],
        .open: [.invalidName, .noData], .close: [.noData], .stat: [.invalidName, .noData],
        .list: [.invalidArgument],
        .read: [.invalidName, .noData, .outOfRange, .invalidArgument],
        .write: [.invalidName, .noData, .outOfRange, .invalidArgument],
        .fill: [.invalidName, .noData, .outOfRange, .invalidArgument],
        .copy: [.invalidName, .noData, .outOfRange], .dispose: [.invalidName, .noData],
        .truncate: [.invalidName, .noData, .tooLarge, .outOfRange, .invalidArgument],
        .rename: [.invalidName, .noData, .alreadyExists],
    ]

    @Test("every operation × status that the specification knows has an example above")
    func complete() {
        var seen: [Operation: Set<Status>] = [:]
        for example in OperationErrorTests.examples + OperationErrorTests.copies {
            let symbol = example.outcome.prefix { $0 != " " }
            let status = Status.table.first { $0.name == symbol }!.status
            if status != .ok, status != .malformedRequest {
                seen[example.operation, default: []].insert(status)
            }
        }
        #expect(seen == OperationErrorTests.possible)
    }
}
