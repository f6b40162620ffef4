// A client's session without a connection: tests play the daemon, byte by byte.

import SmallocWire
import TestSupport

@testable import Smalloc

/// A session, its input, and what a test does with both.
final class SessionDriver {
    var session: ClientSession
    var input: ReplyInput
    let state = ReceivedState()
    private var completions = CompletionList()

    /// - Parameter capacity: Bytes that are received at a time.
    init(inFlightMax: UInt64 = 4096, capacity: Int = 4096) {
        var limits = Smalloc.Limits()
        limits.requestsInFlightMax = inFlightMax
        session = ClientSession(limits)
        input = ReplyInput(capacity: capacity, state)
    }

    /// Enters a request that no task waits for.
    func ask(
        _ operation: SmallocWire.Operation, offset: UInt64 = 0, size: Int = -1,
        room: UnsafeMutableRawPointer? = nil, sink: (any Sink)? = nil, descriptorsAt: Int = -1,
        deadline: UInt64 = .max
    ) -> UInt64 {
        session.start(
            .access(operation, 1, offset: offset, size: UInt64(max(size, 0))),
            UnsafeRawBufferPointer(start: nil, count: 0), size: size, room: room,
            sink: sink.map { ($0, 0) }, descriptorsAt: descriptorsAt, deadline: deadline)
    }

    /// Enters a batch of reads of so many bytes each.
    func batch(_ sizes: [Int]) throws -> (cookie: UInt64, record: BatchRecord) {
        var frames = ByteBuffer(capacity: 1024)
        var entries = BatchEntries(capacity: 4)
        for (place, size) in sizes.enumerated() {
            var header = FrameHeader.access(.read, 1, offset: UInt64(place), size: UInt64(size))
            header.cookie = BatchRecord.cookieMark | UInt64(place)
            frames.append(header, UnsafeRawBufferPointer(start: nil, count: 0))
            entries.append(
                BatchEntry(operation: SmallocWire.Operation.read.rawValue, size: size))
        }
        let record = BatchRecord(frames, entries, [:], expected: 0, number: 1)
        let entry = session.begin(record)
        entry.pointee.state = .asked
        let cookie = session.pending.cookie(of: entry)
        session.enqueue(record)
        return (cookie, record)
    }

    /// Takes the frames that are to be sent.
    func sent() -> [TestFrame] {
        var bytes: [UInt8] = []
        while var piece = session.output.takeFirst() {
            while piece.left > 0 {
                _ = piece.send { first, second in
                    bytes += Array(first) + Array(second)
                    return first.count + second.count
                }
            }
            session.output.recycle(piece)
        }
        var frames: [TestFrame] = []
        var at = 0
        while at < bytes.count {
            var frame = TestFrame(header: Array(bytes[at..<at + TestFrame.headerSize]))
            at += TestFrame.headerSize
            frame.payload = Array(bytes[at..<at + Int(frame.payloadSize)])
            at += Int(frame.payloadSize)
            frames.append(frame)
        }
        return frames
    }

    /// Receives bytes, at most `step` at a time.
    func receive(_ bytes: [UInt8], step: Int = .max) throws(SmallocError) {
        var at = 0
        while at < bytes.count {
            _ = input.receive { room in
                let size = min(step, room.count, bytes.count - at)
                bytes.withUnsafeBytes {
                    room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[at..<at + size]))
                }
                at += size
                return size
            }
            while try input.parse(&session, into: &completions) {}
        }
    }

    func take(_ cookie: UInt64) -> Answer? { session.take(cookie) }

    func checkDeadlines(_ now: UInt64) { session.checkDeadlines(now, into: &completions) }
}

/// A good reply to a request, or a bad one.
func reply(
    to request: TestFrame, status: Smalloc.Status = .ok, handle: UInt32 = 0, payload: [UInt8] = []
) -> TestFrame {
    var frame = TestFrame(
        request.operation, type: status == .ok ? 2 : 0, cookie: request.cookie, handle: handle,
        payload: payload)
    frame.magic = 0xE6
    frame.status = status.rawValue
    return frame
}
