import SmallocWire
import Testing
import TestSupport

@Suite("Frames to requests", .timed)
struct FrameCodecTests {
    /// A header and payload, and what they should become: a request in words, or a status.
    struct Example: CustomTestStringConvertible, Sendable {
        var operation: Operation
        var flags: UInt8 = 0
        var type: UInt8 = 0
        var handle: UInt32 = 0
        var name = ""
        var offset: UInt64 = 0
        var size: UInt64 = 0
        var rest: [UInt8] = []
        var becomes = "malformedRequest"
        var testDescription: String { "\(operation) \(becomes)" }

        var result: String {
            var header = FrameHeader(magic: 0xE5, operation: operation.rawValue)
            header.flags = flags
            header.type = type
            header.handle = handle
            header.nameSize = UInt8(name.utf8.count)
            header.offset = offset
            header.size = size
            let payload = Array(name.utf8) + rest
            header.payloadSize = UInt32(payload.count)
            return decoded(header, operation, payload)
        }
    }

    private static func decoded(
        _ header: FrameHeader, _ operation: Operation, _ payload: [UInt8]
    ) -> String {
        withSpan(payload) { payload in
            do throws(SmallocError) {
                return describe(try FrameCodec.decode(header, operation, payload: payload))
            } catch {
                return error.status.name
            }
        }
    }

    private static func numbers(_ values: UInt64...) -> [UInt8] {
        values.flatMap { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
    }

    private static func target(
        _ offset: UInt64, _ handle: UInt32, _ name: String, pad: UInt64 = 0
    ) -> [UInt8] {
        numbers(offset, UInt64(handle) | UInt64(name.utf8.count) << 32 | pad << 40)
            + Array(name.utf8)
    }

    static let good: [Example] = [
        Example(operation: .hello, becomes: "hello"),
        Example(operation: .hello, rest: Array("example/1.0".utf8), becomes: "hello"),
        Example(operation: .hello, rest: [UInt8](repeating: 0x61, count: 64), becomes: "hello"),
        Example(operation: .ping, becomes: "ping"),
        Example(operation: .stats, becomes: "stats"),
        Example(operation: .clients, offset: 7, size: 9, becomes: "clients from 7 count 9"),
        Example(operation: .slowlog, size: 9, becomes: "slowlog 9"),
        Example(operation: .quit, becomes: "quit"),
        Example(
            operation: .alloc, type: 2, name: "a", size: 4,
            becomes: "alloc 'a' type 2 '' length 4 bytes flags 0"),
        Example(
            operation: .alloc, flags: 2, type: 255, name: "a", size: .max,
            becomes: "alloc 'a' type 255 '' length \(UInt64.max) bytes flags 2"),
        Example(
            operation: .alloc, type: 8, becomes: "alloc '' type 8 '' length 0 bytes flags 0"),
        Example(operation: .open, name: "a", becomes: "open 'a'"),
        Example(operation: .close, handle: .max, becomes: "close \(UInt32.max)"),
        Example(operation: .stat, name: "a", becomes: "stat 'a'"),
        Example(operation: .stat, handle: 7, becomes: "stat #7"),
        Example(operation: .dispose, name: "a", becomes: "dispose 'a'"),
        Example(operation: .dispose, handle: 7, becomes: "dispose #7"),
        Example(operation: .list, becomes: "list '' cursor 0 count 0 sorted false"),
        Example(
            operation: .list, name: "p", offset: 3, size: .max,
            becomes: "list 'p' cursor 3 count \(UInt64.max) sorted false"),
        Example(
            operation: .read, handle: 1, offset: 2, size: .max,
            becomes: "read #1 from 2 count \(UInt64.max) bytes"),
        Example(
            operation: .read, name: "a", size: 4, becomes: "read 'a' from 0 count 4 bytes"),
        Example(
            operation: .read, flags: 1, handle: 1, size: 2, rest: numbers(2, 2, 0, 1),
            becomes: "read #1 ranges 2+2,0+1"),
        Example(
            operation: .read, flags: 1, name: "a", size: 1, rest: numbers(.max, .max),
            becomes: "read 'a' ranges \(UInt64.max)+\(UInt64.max)"),
        Example(
            operation: .write, handle: 1, offset: 2, size: 3, rest: Array("xyz".utf8),
            becomes: "write #1 from 2 bytes 'xyz' bytes"),
        Example(
            operation: .write, name: "a", offset: .max,
            becomes: "write 'a' from \(UInt64.max) bytes '' bytes"),
        Example(
            operation: .write, flags: 1, name: "a", size: 2,
            rest: numbers(0, 1, 4, 2) + Array("xyz".utf8),
            becomes: "write 'a' ranges 0+1,4+2 data 'xyz'"),
        Example(
            operation: .fill, handle: 1, offset: 2, size: 4, rest: Array("ab".utf8),
            becomes: "fill #1 from 2 count 4 bytes 'ab' bytes"),
        Example(
            operation: .fill, name: "a", size: 64, rest: [UInt8](repeating: 0x61, count: 64),
            becomes: "fill 'a' from 0 count 64 bytes '\(String(repeating: "a", count: 64))' bytes"),
        Example(
            operation: .copy, handle: 1, offset: 2, size: 3, rest: target(4, 2, ""),
            becomes: "copy #1 from 2 to #2 at 4 count 3 bytes"),
        Example(
            operation: .copy, name: "a", offset: .max, size: .max, rest: target(.max, 0, "bcd"),
            becomes: "copy 'a' from \(UInt64.max) to 'bcd' at \(UInt64.max) count \(UInt64.max)"
                + " bytes"),
        Example(
            operation: .truncate, name: "a", size: 3, becomes: "truncate 'a' to 3 bytes"),
        Example(
            operation: .atomic, name: "a", offset: .max, rest: numbers(1, 0, 0),
            becomes: "atomic 'a' at \(UInt64.max) load 0,0 bytes"),
        Example(
            operation: .atomic, handle: 1, offset: 4, rest: numbers(3, .max, 0),
            becomes: "atomic #1 at 4 add \(UInt64.max),0 bytes"),
        Example(
            operation: .wait, name: "a", offset: 8, size: .max, rest: [1, 2, 3, 0xFF],
            becomes: "wait 'a' at 8 while \(0xFF03_0201) for \(UInt64.max) bytes"),
        Example(
            operation: .notify, handle: 3, offset: 8, size: 2,
            becomes: "notify #3 at 8 count 2 bytes"),
        Example(operation: .watch, becomes: "watch '' from 0 for 0"),
        Example(
            operation: .watch, name: "cam/", offset: .max, size: 9,
            becomes: "watch 'cam/' from \(UInt64.max) for 9"),
        Example(operation: .cancel, rest: numbers(.max), becomes: "cancel \(UInt64.max)"),
        Example(
            operation: .atomic, handle: 1, rest: numbers(9, 2, 3),
            becomes: "atomic #1 at 0 compareExchange 2,3 bytes"),
        Example(
            operation: .truncate, handle: 1, size: .max,
            becomes: "truncate #1 to \(UInt64.max) bytes"),
        Example(
            operation: .rename, name: "a", rest: Array("b".utf8), becomes: "rename 'a' to 'b'"),
        Example(operation: .rename, handle: 1, becomes: "rename #1 to ''"),
        Example(operation: .map, name: "a", becomes: "map 'a' flags 0"),
        Example(operation: .map, flags: 3, handle: 1, becomes: "map #1 flags 3"),
        Example(operation: .unmap, handle: 1, becomes: "unmap #1"),
        Example(operation: .freeze, name: "a", becomes: "freeze 'a'"),
    ]

    @Test("each operation decodes to its request", arguments: good)
    func decodes(_ example: Example) { #expect(example.result == example.becomes) }

    static let invalid: [Example] = [
        Example(operation: .read, flags: 1, handle: 1, size: 0, becomes: "invalidArgument"),
        Example(operation: .read, flags: 1, handle: 1, size: 1025, becomes: "invalidArgument"),
        Example(operation: .read, flags: 1, handle: 1, size: .max, becomes: "invalidArgument"),
        Example(operation: .write, flags: 1, handle: 1, size: 0, becomes: "invalidArgument"),
        Example(operation: .write, flags: 1, handle: 1, size: 1 << 60, becomes: "invalidArgument"),
        Example(
            operation: .read, flags: 1, handle: 1, size: 1024,
            rest: [UInt8](repeating: 0, count: 1023 * 16)),
        Example(operation: .read, flags: 1, handle: 1, size: 1, rest: numbers(1)),
        Example(operation: .read, flags: 1, handle: 1, offset: 1, size: 1, rest: numbers(1, 1)),
        Example(operation: .read, flags: 1, handle: 1, size: 1, rest: numbers(1, 1) + [1]),
        Example(
            operation: .write, flags: 1, handle: 1, offset: 1, size: 1, rest: numbers(1, 1) + [1]),
        Example(operation: .write, flags: 1, handle: 1, size: 2, rest: numbers(1, 1) + [1]),
        Example(operation: .write, handle: 1, size: 2, rest: [1]),
        Example(operation: .write, handle: 1, size: 0, rest: [1]),
        Example(operation: .write, name: "a", size: 2, rest: [1]),
        Example(operation: .write, handle: 1, size: .max, rest: [1]),
        Example(operation: .read, handle: 1, size: 1, rest: [1]),
        Example(operation: .copy, handle: 1),
        Example(operation: .copy, handle: 1, rest: [UInt8](repeating: 0, count: 15)),
        Example(operation: .copy, handle: 1, rest: target(0, 0, "")),
        Example(operation: .copy, handle: 1, rest: target(0, 2, "b")),
        Example(operation: .copy, handle: 1, rest: target(0, 2, "", pad: 1)),
        Example(operation: .copy, handle: 1, rest: target(0, 2, "", pad: 1 << 23)),
        Example(operation: .copy, handle: 1, rest: target(0, 2, "") + [1]),
        Example(operation: .copy, handle: 1, rest: target(0, 0, "b").dropLast()),
        Example(operation: .hello, rest: [UInt8](repeating: 0x61, count: 65)),
        Example(operation: .alloc, flags: 2, type: 1, size: 1),
        Example(operation: .alloc, type: 1, name: "a", rest: [1]),
        Example(operation: .alloc, type: 1, rest: [1]),
        Example(operation: .alloc, type: 1, name: "a", offset: 1),
        Example(operation: .alloc, type: 1, handle: 1, size: 1),
        Example(operation: .list, handle: 1), Example(operation: .list, rest: [1]),
        Example(operation: .watch, handle: 1), Example(operation: .watch, name: "a", rest: [1]),
        Example(operation: .open), Example(operation: .open, handle: 1),
        Example(operation: .close), Example(operation: .close, name: "a"),
        Example(operation: .close, handle: 1, name: "a"),
        Example(operation: .truncate, name: "a", offset: 1),
    ]

    @Test("every contradiction in a frame is refused", arguments: invalid)
    func refuses(_ example: Example) { #expect(example.result == example.becomes) }

    /// Operations that take one of handle and name, with all else in order.
    private static let targeted: [Example] = [
        Example(operation: .stat), Example(operation: .read), Example(operation: .write),
        Example(operation: .fill, rest: [1]), Example(operation: .copy, rest: target(0, 1, "")),
        Example(operation: .dispose), Example(operation: .truncate), Example(operation: .rename),
    ]

    @Test("handle or name: exactly one of them", arguments: targeted)
    func oneTarget(_ example: Example) {
        var example = example
        #expect(example.result == "malformedRequest")
        example.name = "a"
        #expect(example.result != "malformedRequest")
        example.handle = 1
        #expect(example.result == "malformedRequest")
        example.name = ""
        #expect(example.result != "malformedRequest")
    }

    @Test("fields that an operation does not use must be zero", arguments: Operation.allCases)
    func unusedFields(_ operation: Operation) {
        let base = FrameCodecTests.good.first { $0.operation == operation && $0.flags == 0 }!
        #expect(base.result == base.becomes)
        let usesOffset: Set<Operation> = [
            .list, .read, .write, .fill, .copy, .atomic, .wait, .notify, .watch, .clients,
        ]
        let usesSize: Set<Operation> = [
            .alloc, .list, .read, .write, .fill, .copy, .truncate, .wait, .notify, .clients,
            .slowlog, .watch,
        ]
        let usesName: Set<Operation> = [.alloc, .open, .list, .watch]
        if operation != .alloc {
            var changed = base
            changed.type = 1
            #expect(changed.result == "malformedRequest")
        }
        if !usesOffset.contains(operation) {
            var changed = base
            changed.offset = 1 << 63
            #expect(changed.result == "malformedRequest")
        }
        if !usesSize.contains(operation) {
            var changed = base
            changed.size = 1 << 63
            #expect(changed.result == "malformedRequest")
        }
        if base.name.isEmpty, base.handle == 0 || operation == .close,
            !usesName.contains(operation)
        {
            var changed = base
            changed.name = "a"
            #expect(changed.result == "malformedRequest")
        }
        if base.handle == 0 {
            var changed = base
            changed.handle = 1
            #expect(changed.result == "malformedRequest")
        }
    }

    @Test("a name longer than the payload is refused, for every operation")
    func longName() {
        for operation in Operation.allCases {
            for flags: UInt8 in [0, 1] {
                var header = FrameHeader(magic: 0xE5, operation: operation.rawValue)
                header.nameSize = 255
                header.flags = flags
                let payload = [UInt8](repeating: 0x61, count: 254)
                header.payloadSize = 254
                #expect(FrameCodecTests.decoded(header, operation, payload) == "malformedRequest")
            }
        }
    }

    @Test("random headers and payloads never trap")
    func random() {
        var random = SplitMix(for: "frames to requests")
        for _ in 0..<20_000 {
            var bytes = random.bytes(FrameHeader.byteCount)
            for index in bytes.indices where random.next() % 3 != 0 { bytes[index] = 0 }
            let payload = random.bytes(Int(random.next() % 80))
            var header = bytes.withUnsafeBytes { FrameHeader(from: $0.baseAddress!) }
            header.payloadSize = UInt32(payload.count)
            let operation = Operation.allCases.randomElement(using: &random)!
            #expect(!FrameCodecTests.decoded(header, operation, payload).isEmpty)
        }
    }
}
