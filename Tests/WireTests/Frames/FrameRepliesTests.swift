import SmallocWire
import Testing
import TestSupport

@Suite("Answers as frames", .timed)
struct FrameRepliesTests {
    /// What `body` writes, as header and payload; a reply must be one frame.
    private func reply(
        _ operation: Operation, _ body: (inout FrameReplies) -> Void
    ) -> (header: FrameHeader, payload: [UInt8]) {
        let output = UnsafeMutablePointer<Output>.allocate(capacity: 1)
        output.initialize(to: Output(capacity: 1))
        defer {
            output.deinitialize(count: 1)
            output.deallocate()
        }
        // Something stands in front, as in a batch.
        output.pointee.append("before")
        var replies = FrameReplies(output: output, operation: operation.rawValue, cookie: 0xC0FFEE)
        body(&replies)
        let bytes = Array(output.pointee.bytes)
        #expect(bytes.prefix(6) == ArraySlice("before".utf8))
        let frame = Array(bytes.dropFirst(6))
        let header = frame.withUnsafeBytes { FrameHeader(from: $0.baseAddress!) }
        #expect(header.magic == 0xE6 && header.version == 1)
        #expect(header.operation == operation.rawValue && header.cookie == 0xC0FFEE)
        #expect(header.flags == 0)
        #expect(Int(header.payloadSize) == frame.count - FrameHeader.byteCount)
        return (header, Array(frame.dropFirst(FrameHeader.byteCount)))
    }

    private func empty(_ operation: Operation) -> FrameHeader {
        FrameHeader(magic: 0xE6, operation: operation.rawValue, cookie: 0xC0FFEE)
    }

    @Test("plain answers have no fields but cookie and operation")
    func plain() {
        #expect(reply(.close) { $0.ok() }.header == empty(.close))
        #expect(reply(.ping) { $0.pong() }.header == empty(.ping))
        #expect(reply(.quit) { $0.bye() }.header == empty(.quit))
        var done = empty(.write)
        done.size = 77
        #expect(reply(.write) { $0.done(size: 77) }.header == done)
    }

    @Test("an opened allocation tells handle, type and size")
    func opened() {
        var header = empty(.alloc)
        header.handle = 5
        header.type = 8
        header.size = 1 << 40
        let found = reply(.alloc) { $0.opened(handle: 5, type: .double, size: 1 << 40) }
        #expect(found.header == header)
    }

    @Test("an old value is 8 bytes, with the type of its cell")
    func old() {
        var header = empty(.atomic)
        header.type = 5
        header.size = 8
        header.payloadSize = 8
        let found = reply(.atomic) { $0.old(.max - 1, type: .int32) }
        #expect(found.header == header)
        #expect(found.payload == [0xFE] + [UInt8](repeating: 0xFF, count: 7))
    }

    @Test("an error tells status, class and message")
    func error() {
        for (status, _, errorClass) in Status.table where status != .ok {
            let found = reply(.read) { $0.error(SmallocError(status, errorClass, "wörds")) }
            #expect(found.header.status == status.rawValue)
            #expect(found.header.type == errorClass.rawValue)
            #expect(found.payload == Array("wörds".utf8))
            #expect(found.header.size == 0 && found.header.offset == 0 && found.header.handle == 0)
        }
    }

    @Test("data is announced and follows")
    func data() {
        let found = reply(.read) { replies in
            replies.beginData(size: 4, type: .uint16)
            [UInt8]([1, 2]).withUnsafeBytes { replies.appendData($0.baseAddress!, 2) }
            [UInt8]([3, 4]).withUnsafeBytes { replies.appendData($0.baseAddress!, 2) }
            replies.endData()
        }
        #expect(found.header.type == 4 && found.header.size == 4)
        #expect(found.payload == [1, 2, 3, 4])
    }

    @Test("stat tells the name, then eighteen numbers and the metadata")
    func stat() {
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        var status = AllocationStatus(
            type: .float, size: 12, created: 0x0102_0304_0506_0708, handles: 3, storage: .mapping)
        let found = reply(.stat) { replies in
            Array("ab".utf8).withUnsafeBytes { replies.stat(status, name: $0, metadata: none) }
        }
        #expect(found.header.nameSize == 2 && found.header.type == 7 && found.header.size == 12)
        #expect(
            found.payload == Array("ab".utf8)
                + numbers(
                    0x0102_0304_0506_0708, 3, 1, 0, 0, .max, .max, .max, .max, 0, 0, 0, 0, 0, 0, 0,
                    0, 0))
        status.flags = .described
        status.maps = .write
        status.owner = 1000
        status.shape = withSpan("512x256") { Shape(text: $0) }
        let anonymous = reply(.stat) { replies in
            ([7, 8, 9] as [UInt8]).withUnsafeBytes {
                replies.stat(status, name: none, metadata: $0)
            }
        }
        #expect(anonymous.header.nameSize == 0)
        #expect(
            anonymous.payload
                == numbers(
                    0x0102_0304_0506_0708, 3, 1, 32, 2, .max, .max, 1000, 2, 512, 256, 0, 0, 0, 0,
                    0,
                    0, 3) + [7, 8, 9])
    }

    private func numbers(_ values: UInt64...) -> [UInt8] {
        values.flatMap { withUnsafeBytes(of: $0.littleEndian) { Array($0) } }
    }

    @Test("a listing tells entries, their number and the next cursor")
    func list() {
        let found = reply(.list) { replies in
            replies.beginList()
            for (name, size) in [("a", UInt64(4)), ("bcd", 1 << 33)] {
                Array(name.utf8).withUnsafeBytes {
                    replies.listEntry(name: $0, type: .uint8, size: size)
                }
            }
            replies.endList(nextCursor: 99)
        }
        #expect(found.header.offset == 99 && found.header.size == 2)
        #expect(
            found.payload == [4, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0x61]
                + [0, 0, 0, 0, 2, 0, 0, 0, 2, 3, 0x62, 0x63, 0x64])
    }

    @Test("events tell kind, sizes and names, the next cursor and what was missed")
    func events() {
        let found = reply(.watch) { replies in
            replies.beginEvents()
            for (kind, name, newName) in [
                (EventKind.allocated, "ab", ""), (.renamed, "c", "def"),
            ] {
                Array(name.utf8).withUnsafeBytes { name in
                    Array(newName.utf8).withUnsafeBytes {
                        replies.event(kind, name: name, newName: $0)
                    }
                }
            }
            replies.endEvents(nextCursor: 99, missed: 3)
        }
        #expect(found.header.offset == 99 && found.header.size == 3)
        #expect(
            found.payload == [1, 2, 0, 0x61, 0x62] + [3, 1, 3, 0x63, 0x64, 0x65, 0x66])
    }

    @Test("statistics are lines of key and value")
    func stats() {
        let found = reply(.stats) { replies in
            replies.beginStats()
            replies.statistic("allocations", 2)
            replies.statistic("pid", .max)
            replies.endStats()
        }
        #expect(found.header.size == 0)
        #expect(
            String(decoding: found.payload, as: UTF8.self)
                == "allocations 2\npid 18446744073709551615\n")
    }

    @Test("the greeting's numbers read back to the same limits")
    func hello() {
        var limits = Limits()
        limits.lengthSizeMax = 12345
        limits.idleTimeoutMilliseconds = .max
        let found = reply(.hello) { $0.hello(limits, features: Limits.features, sharesMax: 0) }
        let fields = stride(from: 0, to: found.payload.count, by: 8).map { at in
            (0..<8).reduce(UInt64(0)) { $0 | UInt64(found.payload[at + $1]) << UInt64(8 * $1) }
        }
        #expect(fields == limits.helloFields)
        #expect(Limits(helloFields: fields) == limits)
    }
}
