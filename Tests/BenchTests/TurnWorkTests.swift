// The works of one client that could keep a loop from others.

import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Works of turns", .timed)
struct TurnWorkTests {
    @Test("each has a name of its own, and what is idle comes first")
    func names() {
        let names = TurnWorks().all.map(\.name)
        #expect(Set(names).count == names.count)
        #expect(names.first == "idle")
        #expect(names.count > 20)
    }

    @Test("frames of vectored requests and of pages are as long as they say")
    func frames() {
        var bytes = ByteBuilder()
        SmallocDialect().frame(
            &bytes, magic: 0xe5, operation: SmallocDialect.Operation.list,
            flags: SmallocDialect.vectored, payload: 5, offset: 0x0102, size: 3)
        let frame = Array(UnsafeRawBufferPointer(start: bytes.base, count: bytes.count))
        #expect(frame.count == SmallocDialect.headerSize)
        #expect(Array(frame[0..<4]) == [0xe5, 1, 7, 1])
        #expect(Array(frame[20..<26]) == [5, 0, 0, 0, 2, 1])
        #expect(frame[32] == 3)
    }
}
