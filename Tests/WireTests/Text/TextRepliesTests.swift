@testable import SmallocWire
import Testing
import TestSupport

@Suite("Answers as lines", .timed)
struct TextRepliesTests {
    private func reply(
        _ format: TextFormat = .numbers, _ body: (inout TextReplies) -> Void
    ) -> String {
        let output = UnsafeMutablePointer<Output>.allocate(capacity: 1)
        output.initialize(to: Output(capacity: 1))
        defer {
            output.deinitialize(count: 1)
            output.deallocate()
        }
        var replies = TextReplies(output: output, format: format)
        body(&replies)
        return String(decoding: output.pointee.bytes, as: UTF8.self)
    }

    @Test("plain answers are OK, pong and bye")
    func plain() {
        #expect(reply { $0.ok() } == "OK\n")
        #expect(reply { $0.done(size: 3) } == "OK\n")
        #expect(reply { $0.opened(handle: 0, type: .uint8, size: 3) } == "OK\n")
        #expect(reply { $0.pong() } == "OK pong\n")
        #expect(reply { $0.bye() } == "OK bye\n")
    }

    @Test("an old value is shown as its element")
    func old() {
        #expect(reply { $0.old(.max, type: .int8) } == "OK -1\n")
        #expect(reply { $0.old(255, type: .uint8) } == "OK 255\n")
        #expect(reply { $0.old(1 << 31, type: .uint32) } == "OK 2147483648\n")
        #expect(reply { $0.old(.max << 31, type: .int32) } == "OK -2147483648\n")
    }

    @Test("a wait is told by a word, and how many were notified by a number")
    func waits() {
        #expect(reply { $0.waited(.differs) } == "OK differs\n")
        #expect(reply { $0.waited(.disposed) } == "OK disposed\n")
        #expect(reply { $0.count(7) } == "OK 7\n")
    }

    @Test("an error is symbol, class and message")
    func error() {
        #expect(
            reply { $0.error(.noSourceData) }
                == "ERR noData Error: source has no external array data\n")
        #expect(reply { $0.error(.overMaxLength) } == "ERR tooLarge RangeError: n > kMaxLength\n")
    }

    @Test("data is shown in the format that was asked for")
    func data() {
        func shown(_ bytes: [UInt8], _ type: ElementType, _ format: TextFormat) -> String {
            reply(format) { replies in
                replies.beginData(size: bytes.count, type: type)
                bytes.withUnsafeBytes {
                    if let start = $0.baseAddress { replies.appendData(start, bytes.count) }
                }
                replies.endData()
            }
        }
        #expect(shown([4, 6, 2, 3], .uint8, .numbers) == "OK 4 6 2 3\n")
        #expect(shown([4, 6, 2, 3], .uint16, .numbers) == "OK 1540 770\n")
        #expect(shown([4, 6, 2, 3], .uint8, .hex) == "OK hex:04060203\n")
        #expect(shown([4, 6, 2, 3], .uint8, .base64) == "OK base64:BAYCAw==\n")
        #expect(shown([], .double, .numbers) == "OK\n")
        #expect(shown([], .double, .hex) == "OK hex:\n")
        #expect(shown([], .double, .base64) == "OK base64:\n")
        #expect(shown([255, 128], .int8, .numbers) == "OK -1 -128\n")
    }

    @Test("stat is words of key and value")
    func stat() {
        var status = AllocationStatus(
            type: .double, size: 32, created: 1_795_420_800_000, handles: 2, storage: .heap)
        func line(_ metadata: [UInt8] = []) -> String {
            reply { replies in
                Array("a".utf8).withUnsafeBytes { name in
                    metadata.withUnsafeBytes { replies.stat(status, name: name, metadata: $0) }
                }
            }
        }
        let words =
            "OK name=a type=Double length=4 size=32 handles=2 storage=heap"
            + " created=2026-11-23T08:00:00Z"
        #expect(line() == words + " flags=none maps=none owner=none\n")
        status.flags = .described
        status.maps = .read
        status.owner = 0
        #expect(
            line([1, 2, 3]) == words + " flags=described maps=read owner=0 meta=base64:AQID\n")
        status.shape = Shape()
        #expect(line() == words + " flags=described maps=read owner=0 shape=scalar\n")
        status.shape = withSpan("2x2") { Shape(text: $0) }
        #expect(
            line([255]) == words
                + " flags=described maps=read owner=0 shape=2x2 meta=base64:/w==\n")
    }

    @Test("times are in UTC, with leading zeros")
    func times() {
        #expect(TextReplies.utc(milliseconds: 0) == "1970-01-01T00:00:00Z")
        #expect(TextReplies.utc(milliseconds: 951_782_399_999) == "2000-02-28T23:59:59Z")
        #expect(TextReplies.utc(milliseconds: 951_868_799_000) == "2000-02-29T23:59:59Z")
    }

    @Test("a listing counts its items over all of its pages")
    func list() {
        let lines = reply { replies in
            replies.beginList()
            Array("a".utf8).withUnsafeBytes {
                replies.listEntry(name: $0, type: .int32, size: 16)
            }
            replies.endList(nextCursor: 5)
            replies.beginList()
            Array("b".utf8).withUnsafeBytes {
                replies.listEntry(name: $0, type: .uint8, size: 3)
            }
            replies.endList(nextCursor: 0)
        }
        #expect(lines == "ITEM a Int32 4\nITEM b Uint8 3\nOK 2\n")
    }

    @Test("events are lines of a kind and one name, or two")
    func events() {
        let lines = reply { replies in
            replies.beginEvents()
            Array("a".utf8).withUnsafeBytes { name in
                let none = UnsafeRawBufferPointer(start: nil, count: 0)
                replies.event(.frozen, name: name, newName: none)
                replies.event(.replaced, name: name, newName: name)
            }
            replies.endEvents(nextCursor: .max, missed: 0)
        }
        #expect(lines == "EVENT frozen a\nEVENT replaced a a\nOK 18446744073709551615 0\n")
    }

    @Test("statistics end with their number")
    func stats() {
        let lines = reply { replies in
            replies.beginStats()
            replies.statistic("pid", 7)
            replies.endStats()
        }
        #expect(lines == "STAT pid 7\nOK 1\n")
    }

    @Test("help tells every verb that is parsed, and more about one")
    func help() {
        let all = reply { replies in withSpan("") { replies.help($0) } }
        let lines = all.split(separator: "\n")
        #expect(lines.last == "OK")
        #expect(lines.dropLast().allSatisfy { $0.hasPrefix("HELP ") })
        for verb in [
            "alloc", "write", "read", "copy", "fill", "dispose", "truncate", "rename", "stat",
            "list", "ping", "stats", "help", "quit", "clients", "slowlog",
        ] {
            #expect(lines.contains { $0.hasPrefix("HELP \(verb)") })
            let one = reply { replies in withSpan(verb.uppercased()) { replies.help($0) } }
            #expect(one.hasPrefix("HELP \(verb)") && one.hasSuffix("\nOK\n"))
        }
        for verb in ["frobnicate", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "hello"] {
            let none = reply { replies in withSpan(verb) { replies.help($0) } }
            #expect(none.hasPrefix("ERR unknownOperation Error: "))
        }
    }
}
