// The ends of replies are found, however they arrive.

import Foundation
import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Reply counter", .timed)
struct ReplyCounterTests {
    private func frame(
        status: UInt16 = 0, payload: Int = 0, offset: Int = 0, magic: UInt8 = 0xe6
    ) -> [UInt8] {
        var bytes = ByteBuilder()
        SmallocDialect().frame(
            &bytes, magic: magic, operation: 8, payload: payload, offset: offset)
        bytes.base.storeBytes(of: status.littleEndian, toByteOffset: 4, as: UInt16.self)
        return Array(UnsafeRawBufferPointer(start: bytes.base, count: bytes.count))
            + Array(repeating: 0x0a, count: payload)
    }

    /// Feeds `bytes` in pieces of each size up to 50, and as a whole.
    private func counts(_ bytes: [UInt8], isText: Bool) throws -> Set<Int> {
        var counts: Set<Int> = []
        for size in Array(1...50) + [bytes.count] {
            var counter = ReplyCounter(isText: isText)
            for start in stride(from: 0, to: bytes.count, by: size) {
                try Array(bytes[start..<min(start + size, bytes.count)])
                    .withUnsafeBytes { try counter.take($0) }
            }
            counts.insert(counter.count)
        }
        return counts
    }

    @Test("frames with and without a payload")
    func frames() throws {
        let bytes = frame() + frame(payload: 1) + frame(payload: 100) + frame()
        #expect(try counts(bytes, isText: false) == [4])
        #expect(try counts(bytes + frame(payload: 9).dropLast(), isText: false) == [4])
        #expect(try counts(bytes + frame().dropLast(), isText: false) == [4])
    }

    @Test("the cursor is the last frame's offset")
    func cursor() throws {
        var counter = ReplyCounter(isText: false)
        try (frame(offset: 7) + frame(payload: 3, offset: 9)).withUnsafeBytes {
            try counter.take($0)
        }
        #expect(counter.offset == 9)
    }

    @Test("lines that close a reply, and those before them")
    func lines() throws {
        let long = "OK " + String(repeating: "1 ", count: 200) + "\n"
        let text = "ITEM OK Uint8 4\nSTAT pid 4711\n\(long)OK\nOK 2\nOK un"
        #expect(try counts(Array(text.utf8), isText: true) == [3])
    }

    @Test("errors are thrown")
    func errors() {
        #expect(throws: BenchError.self) {
            try counts(frame() + frame(status: 0x8001), isText: false)
        }
        #expect(throws: BenchError.self) { try counts(frame(magic: 0xe5), isText: false) }
        #expect(throws: BenchError.self) {
            try counts(Array("OK\nERR noData Error: no\n".utf8), isText: true)
        }
    }
}
