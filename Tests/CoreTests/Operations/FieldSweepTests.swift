// Every number of a request at the edges of everything: the status that the specification says, and
// never a trap.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Fields at their boundaries", .timed)
struct FieldSweepTests {
    private static func edges(_ length: UInt64) -> [UInt64] {
        [
            0, 1, length - 1, length, length + 1, (1 << 31) - 1, 1 << 31, (1 << 31) + 1,
            (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 1 << 53, (1 << 63) - 1, 1 << 63, (1 << 63) + 1,
            .max - 1, .max,
        ]
    }

    /// x: Uint8, 100 bytes, handle 1. y: Uint8, 60 bytes, handle 2. d: Double, 80 bytes, handle 3.
    /// i: Int32, 100 bytes, handle 4.
    private final class World {
        let peer: TestPeer
        var count = 0

        init() {
            peer = TestDaemon { $0.lengthSizeMax = 1000 }.greeted()
            peer.call(.alloc, type: 2, name: "x", size: 100)
            peer.call(.alloc, type: 2, name: "y", size: 60)
            peer.call(.alloc, type: 8, name: "d", size: 80)
            peer.call(.alloc, type: 5, name: "i", size: 100)
        }

        func check(_ bytes: [UInt8], _ expected: Status) {
            count += 1
            let status = peer.call(bytes).status
            if status != expected {
                let header = CoreTests.header(of: bytes)
                Issue.record("\(header): \(status.name), not \(expected.name)")
            }
        }
    }

    /// The status of a range of an allocation of `length` bytes.
    private func inside(_ offset: UInt64, _ size: UInt64, _ length: UInt64) -> Status {
        UInt128(offset) + UInt128(size) <= UInt128(length) ? .ok : .outOfRange
    }

    @Test("all pairs of offset and size, for every operation")
    func pairs() {
        var count = 0
        for operation in Operation.allCases where operation != .copy {
            let world = World()
            for offset in FieldSweepTests.edges(operation == .list ? 1024 : 100) {
                for size in FieldSweepTests.edges(operation == .alloc ? 1000 : 100) {
                    sweep(world, operation, offset, size)
                }
            }
            count += world.count
        }
        #expect(count > 7000)
    }

    private func sweep(_ world: World, _ operation: Operation, _ offset: UInt64, _ size: UInt64) {
        let zero = offset == 0 && size == 0
        let neither: Status = zero ? .ok : .malformedRequest
        switch operation {
        case .hello, .ping, .stats:
            world.check(frame(operation, offset: offset, size: size), neither)
        case .quit:
            if !zero { world.check(frame(.quit, offset: offset, size: size), .malformedRequest) }
        case .open:
            world.check(frame(.open, name: "x", offset: offset, size: size), neither)
            // What is there need not be waited for.
            world.check(
                frame(.open, flags: 1, name: "x", offset: offset, size: size),
                offset == 0 ? .ok : .malformedRequest)
        case .map, .unmap:
            // Its peers can't be sent descriptors.
            world.check(
                frame(operation, handle: 1, offset: offset, size: size),
                zero ? .unknownOperation : .malformedRequest)
        case .freeze:
            if !zero {
                world.check(
                    frame(.freeze, handle: 1, offset: offset, size: size), .malformedRequest)
            }
        case .stat:
            world.check(frame(.stat, name: "x", offset: offset, size: size), neither)
            world.check(frame(.stat, handle: 1, offset: offset, size: size), neither)
        case .close, .dispose:
            if zero { return }
            world.check(frame(operation, handle: 1, offset: offset, size: size), .malformedRequest)
        case .rename:
            let name = Array("x".utf8)
            world.check(
                frame(.rename, handle: 1, offset: offset, size: size, payload: name), neither)
        case .alloc:
            for type: UInt8 in [2, 8] {
                let expected: Status =
                    offset != 0
                    ? .malformedRequest
                    : size > 1000
                        ? .tooLarge
                        : size % (type == 8 ? 8 : 1) != 0 ? .invalidArgument : .ok
                let bytes = frame(
                    .alloc, flags: 2, type: type, name: "new", offset: offset, size: size)
                world.check(bytes, expected)
                if expected == .ok { world.check(frame(.dispose, name: "new"), .ok) }
            }
        case .list:
            world.check(
                frame(.list, offset: offset, size: size), offset < 1024 ? .ok : .invalidArgument)
        case .truncate:
            let expected: Status =
                offset != 0
                ? .malformedRequest
                : size > 1000
                    ? .tooLarge
                    : size > 80
                        ? .outOfRange
                        : size % 8 != 0 ? .invalidArgument : .ok
            if expected != .ok || size == 80 {
                world.check(frame(.truncate, handle: 3, offset: offset, size: size), expected)
            }
        case .read: sweepRead(world, offset, size)
        case .write: sweepWrite(world, offset, size)
        case .fill:
            let whole = inside(offset, size, 100)
            world.check(
                frame(.fill, handle: 1, offset: offset, size: size, payload: [1]), whole)
            world.check(
                frame(.fill, name: "x", offset: offset, size: size, payload: [1, 2, 3]),
                whole == .ok && size % 3 != 0 ? .invalidArgument : whole)
        case .atomic:
            // Cells of 8 bytes there are none yet; of an Int32 every fourth offset is one.
            for (handle, isWhole) in [(UInt32(4), offset % 4 == 0), (1, true)] {
                let inside = self.inside(offset, handle == 1 ? 1 : 4, 100)
                let expected: Status =
                    size != 0
                    ? .malformedRequest : inside == .ok && !isWhole ? .invalidArgument : inside
                world.check(
                    frame(
                        .atomic, handle: handle, offset: offset, size: size,
                        payload: numbers(3, offset, 0)), expected)
            }
        case .wait, .notify: sweepWaits(world, offset, size)
        case .watch:
            // One from now on would wait.
            if offset != 0 || size == 0 {
                world.check(frame(.watch, offset: offset, size: size), .ok)
            }
        case .cancel:
            world.check(
                frame(.cancel, offset: offset, size: size, payload: numbers(offset)), neither)
        case .clients:
            world.check(
                frame(.clients, offset: offset, size: size),
                offset < 1 << 24 ? .ok : .invalidArgument)
        case .slowlog:
            world.check(
                frame(.slowlog, offset: offset, size: size),
                offset == 0 ? .ok : .malformedRequest)
        case .copy: break
        }
    }

    /// Of an Int32 every fourth offset is a cell; none holds what is waited for.
    private func sweepWaits(_ world: World, _ offset: UInt64, _ size: UInt64) {
        let inside = self.inside(offset, 4, 100)
        let expected: Status = inside == .ok && offset % 4 != 0 ? .invalidArgument : inside
        world.check(
            frame(.wait, name: "i", offset: offset, size: size, payload: [1, 0, 0, 0]), expected)
        world.check(frame(.notify, handle: 4, offset: offset, size: size), expected)
        world.check(
            frame(.wait, handle: 1, offset: offset, size: size, payload: [1, 0, 0, 0]),
            .invalidArgument)
    }

    private func sweepRead(_ world: World, _ offset: UInt64, _ size: UInt64) {
        world.check(
            frame(.read, handle: 1, offset: offset, size: size), inside(offset, size, 100))
        world.check(frame(.read, name: "x", offset: offset, size: size), inside(offset, size, 100))
        world.check(
            frame(.read, flags: 1, handle: 1, size: 1, payload: numbers(offset, size)),
            inside(offset, size, 100))
        world.check(
            frame(.read, flags: 1, handle: 1, size: 2, payload: numbers(1, 2, offset, size)),
            inside(offset, size, 100))
        let counted: Status =
            offset != 0
            ? .malformedRequest
            : size == 0 || size > 1024 ? .invalidArgument : size == 1 ? .ok : .malformedRequest
        world.check(
            frame(
                .read, flags: 1, handle: 1, offset: offset, size: size, payload: numbers(0, 1)),
            counted)
    }

    private func sweepWrite(_ world: World, _ offset: UInt64, _ size: UInt64) {
        let data: [UInt8] = [7]
        world.check(
            frame(.write, handle: 1, offset: offset, size: size, payload: data),
            size != 1 ? .malformedRequest : inside(offset, 1, 100))
        world.check(
            frame(.write, flags: 1, handle: 1, size: 1, payload: numbers(offset, size) + data),
            size != 1 ? .malformedRequest : inside(offset, 1, 100))
        // The second size makes the sum right, if only by wrapping.
        let wraps = UInt128(size) + UInt128(1 &- size) != 1
        world.check(
            frame(
                .write, flags: 1, handle: 1, size: 2,
                payload: numbers(offset, size, 0, 1 &- size) + data),
            wraps ? .malformedRequest : inside(offset, size, 100))
        // A large one goes another way.
        if size == 0 || size == .max {
            world.check(
                frame(
                    .write, handle: 1, offset: offset, size: 70_000,
                    payload: [UInt8](repeating: 1, count: 70_000)), .outOfRange)
            world.check(
                frame(
                    .write, handle: 1, offset: offset, size: size,
                    payload: [UInt8](repeating: 1, count: 70_000)), .malformedRequest)
            world.check(
                frame(
                    .write, flags: 1, handle: 1, size: 2,
                    payload: numbers(offset, 70_000, 0, 0) + [UInt8](repeating: 1, count: 70_000)),
                .outOfRange)
        }
    }

    @Test("all triples of copy's offset, size and dest offset, between two and within one")
    func copies() {
        let world = World()
        for (source, dest, length, destLength) in [
            (UInt32(1), UInt32(2), UInt64(100), UInt64(60)), (2, 1, 60, 100), (1, 1, 100, 100),
        ] {
            for offset in FieldSweepTests.edges(length) {
                for destOffset in FieldSweepTests.edges(destLength) {
                    for size in FieldSweepTests.edges(min(length, destLength)) {
                        let good =
                            inside(offset, size, length) == .ok
                            && inside(destOffset, size, destLength) == .ok
                        world.check(
                            frame(
                                .copy, handle: source, offset: offset, size: size,
                                payload: copyDest(destOffset, handle: dest)),
                            good ? .ok : .outOfRange)
                    }
                }
            }
        }
        #expect(world.count > 14_000)
    }

    @Test("every handle at an edge, for every operation that takes one")
    func handles() {
        let world = World()
        let handles: [UInt32] = [5, 6, 100, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, .max - 1, .max]
        for handle in handles {
            for operation: Operation in [
                .close, .stat, .read, .write, .fill, .dispose, .truncate, .rename, .copy, .atomic,
                .wait, .notify,
            ] {
                var payload: [UInt8] = []
                if operation == .fill { payload = [1] }
                if operation == .rename { payload = Array("n".utf8) }
                if operation == .copy { payload = copyDest(0, handle: 1) }
                if operation == .atomic { payload = numbers(1, 0, 0) }
                if operation == .wait { payload = [0, 0, 0, 0] }
                world.check(frame(operation, handle: handle, payload: payload), .noData)
            }
            world.check(frame(.copy, handle: 1, payload: copyDest(0, handle: handle)), .noData)
            for operation: Operation in [
                .hello, .ping, .alloc, .open, .list, .stats, .quit, .clients, .slowlog,
            ] {
                world.check(frame(operation, handle: handle), .malformedRequest)
            }
        }
    }

    @Test("every name size against a payload of 10 bytes, for every operation")
    func nameSizes() {
        let world = World()
        for operation in Operation.allCases {
            for nameSize in UInt8(11)...255 {
                var header = FrameHeader(magic: 0xE5, operation: operation.rawValue)
                header.nameSize = nameSize
                header.payloadSize = 10
                world.check(
                    bytes(of: header) + [UInt8](repeating: 0x61, count: 10), .malformedRequest)
            }
        }
        #expect(world.count == Operation.allCases.count * 245)
    }

    @Test("every element type, for every operation")
    func types() {
        let world = World()
        for type in UInt8.min...UInt8.max {
            world.check(
                frame(.alloc, flags: 2, type: type, name: "t\(type)", size: 16),
                (1...16).contains(type) ? .ok : .unknownType)
            for operation in Operation.allCases where operation != .alloc && type != 0 {
                world.check(frame(operation, type: type, name: "x"), .malformedRequest)
            }
        }
    }

    @Test(
        "every declared payload size at an edge: nothing is answered, and little is kept, until it is there"
    )
    func payloadSizes() {
        for operation in Operation.allCases {
            for size: UInt32 in [70_000, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, .max - 1, .max] {
                for handle: UInt32 in [0, 1] {
                    let world = World()
                    world.peer.output = []
                    let header = FrameHeader(
                        magic: 0xE5, operation: operation.rawValue, handle: handle,
                        payloadSize: size, size: UInt64(size))
                    world.peer.feed(bytes(of: header) + [UInt8](repeating: 0, count: 60_000))
                    #expect(world.peer.output.isEmpty && world.peer.tail.isEmpty)
                }
            }
        }
    }
}
