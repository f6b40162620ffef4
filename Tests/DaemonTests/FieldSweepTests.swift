// Every field of every frame at its borders: the status that the specification names, and no trap.
// Test 3 of the reliability bar, 20,000 combinations.

import Testing
import TestSupport

@Suite(.timed) struct FieldSweepTests {
    /// Where arithmetic goes wrong, around the 4 bytes of the allocation that is asked for.
    static let borders: [UInt64] = [
        0, 1, 3, 4, 5, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 32) - 1, 1 << 32, (1 << 32) + 1,
        1 << 53,
        (1 << 63) - 1, 1 << 63, (1 << 63) + 1, .max - 1, .max,
    ]

    @Test("all pairs of offset and size, in every operation that has both")
    func offsetsAndSizes() throws {
        let sweep = try Sweep()
        for offset in Self.borders {
            for size in Self.borders {
                let range = FrameModel.range(offset, size)
                sweep.add(TestFrame(8, handle: 1, offset: offset, size: size), range)
                sweep.add(TestFrame(8, name: "a", offset: offset, size: size), range)
                sweep.add(
                    TestFrame(8, flags: 1, handle: 1, size: 1, payload: littleEndian(offset, size)),
                    range)
                sweep.add(
                    TestFrame(
                        8, flags: 1, handle: 1, size: 3,
                        payload: littleEndian(0, 4, offset, size, 0, 1)), range)
                sweep.add(
                    TestFrame(10, handle: 1, offset: offset, size: size, payload: [7]), range)
                sweep.add(
                    TestFrame(10, name: "a", offset: offset, size: size, payload: [7, 8]),
                    range ?? (size % 2 == 0 ? nil : "invalidArgument"))
                let data = size <= 5 ? [UInt8](repeating: 1, count: Int(size)) : []
                if size <= 5 {
                    sweep.add(
                        TestFrame(9, handle: 1, offset: offset, size: size, payload: data), range)
                } else {
                    sweep.add(
                        TestFrame(9, handle: 1, offset: offset, size: size), "malformedRequest")
                }
                sweep.add(
                    TestFrame(
                        9, flags: 1, handle: 1, size: 1,
                        payload: littleEndian(offset, size) + data),
                    size <= 5 ? range : "malformedRequest")
                sweep.add(TestFrame(7, offset: offset, size: size), FrameModel.list(offset))
            }
        }
        try sweep.finish()
    }

    @Test("all triples of a copy's offsets and size")
    func copies() throws {
        let sweep = try Sweep()
        for offset in Self.borders {
            for target in Self.borders {
                for size in Self.borders {
                    sweep.add(
                        TestFrame(
                            11, handle: 1, offset: offset, size: size,
                            payload: copyTarget(offset: target, handle: 2)),
                        FrameModel.copy(offset, 4, target, 16, size))
                }
            }
        }
        try sweep.finish()
    }

    @Test(
        "every operation with every byte of flags, type and name size, and numbers at their borders"
    )
    func headers() throws {
        let sweep = try Sweep()
        let payloads: [[UInt8]] = [[], [0x61], Array("zz".utf8), copyTarget(offset: 0, handle: 2)]
        for operation in Array(UInt8(0)...22) + [26, 27] {
            for byte in UInt8(0)...255 {
                for payload in payloads.prefix(2) {
                    var frame = TestFrame(operation, payload: payload)
                    frame.flags = byte
                    sweep.add(frame, FrameModel.status(frame))
                    frame.flags = 0
                    frame.type = byte
                    sweep.add(frame, FrameModel.status(frame))
                    frame.nameSize = UInt8(payload.count)
                    sweep.add(frame, FrameModel.status(frame))
                    frame.type = 0
                    frame.nameSize = byte
                    sweep.add(frame, FrameModel.status(frame))
                }
            }
            for value in Self.borders {
                for payload in payloads {
                    for nameSize in [0, 1] {
                        var frame = TestFrame(operation, payload: payload)
                        frame.nameSize = UInt8(nameSize)
                        frame.offset = value
                        sweep.add(frame, FrameModel.status(frame))
                        frame.offset = 0
                        frame.size = value
                        sweep.add(frame, FrameModel.status(frame))
                        frame.size = 0
                        frame.handle = UInt32(truncatingIfNeeded: value)
                        sweep.add(frame, FrameModel.status(frame))
                        frame.handle = 0
                        frame.status = UInt16(truncatingIfNeeded: value >> 3 | value)
                        sweep.add(frame, FrameModel.status(frame))
                        frame.status = 0
                        frame.version = UInt8(truncatingIfNeeded: value)
                        sweep.add(frame, FrameModel.status(frame))
                    }
                }
            }
        }
        for operation in UInt8(25)...255 where operation != 26 && operation != 27 {
            sweep.add(
                TestFrame(operation, flags: operation, payload: [1, 2, 3]), "unknownOperation")
        }
        try sweep.finish()
    }

    @Test("all sizes of alloc and truncate at their borders")
    func lengths() throws {
        let sweep = try Sweep()
        for size in Self.borders {
            for type in UInt8(0)...18 {
                let unit = UInt64(FrameModel.elementSize(type) ?? 1)
                let expected =
                    FrameModel.elementSize(type) == nil
                    ? "unknownType"
                    : size > 1 << 20
                        ? "tooLarge" : size % unit != 0 ? "invalidArgument" : "alreadyExists"
                sweep.add(TestFrame(3, type: type, name: "a", size: size), expected)
            }
            sweep.add(
                TestFrame(13, name: "d", size: size),
                size > 1 << 20
                    ? "tooLarge"
                    : size > 16 ? "outOfRange" : size % 8 != 0 ? "invalidArgument" : nil,
                unless: size == 0)
        }
        try sweep.finish()
    }
}

/// Sends frames in batches and compares the statuses that come back.
private final class Sweep {
    private let daemon: DaemonProcess
    private let client: FrameClient
    private var batch: [(frame: TestFrame, expected: String?)] = []
    private var cookie: UInt64 = 1000
    private var count = 0

    /// A daemon with `a` (4 bytes, handle 1) and `d` (two doubles, handle 2); kMaxLength is 1 MiB.
    init() throws {
        daemon = try DaemonProcess(["--length-max", "1M"])
        client = try daemon.frames()
        #expect(try client.alloc("a", size: 4).handle == 1)
        #expect(try client.alloc("d", size: 16, type: 8).handle == 2)
    }

    /// Adds a frame. `expected` nil is "ok"; a request that would change what is there is left out.
    func add(_ frame: TestFrame, _ expected: String?, unless skipped: Bool = false) {
        guard !skipped, expected != "skip" else { return }
        cookie += 1
        var frame = frame
        frame.cookie = cookie
        batch.append((frame, expected))
        if batch.count == 500 { try? flush() }
    }

    private func flush() throws {
        try client.socket.send(batch.flatMap(\.frame.bytes))
        for (frame, expected) in batch {
            let reply = try client.socket.receiveFrame()
            let got = FrameClient.statusName(reply)
            #expect(
                got == expected ?? "ok" && reply.cookie == frame.cookie
                    && reply.operation == frame.operation,
                "\(frame) \(expected ?? "ok") flags \(frame.flags) type \(frame.type) nameSize \(frame.nameSize): \(got) \(reply.text)"
            )
        }
        count += batch.count
        batch = []
    }

    func finish() throws {
        try flush()
        #expect(daemon.isRunning)
        #expect(try client.call("stat", handle: 1).size == 4)
        #expect(try client.call("stat", handle: 2).size == 16)
        print("field sweep: \(count) frames")
    }
}
