import SmallocWire
import Testing
import TestSupport

@Suite("Output", .timed)
struct OutputTests {
    @Test("what is appended stands in order, over every growth")
    func appends() {
        var out = Output(capacity: 1)
        var expected: [UInt8] = []
        for number in 0..<300 {
            out.append(UInt8(truncatingIfNeeded: number))
            out.append("é\(number)")
            withSpan([1, 2, 3]) { out.append($0) }
            [UInt8]([9, 8]).withUnsafeBytes { out.append($0.baseAddress!, 2) }
            expected += [UInt8(truncatingIfNeeded: number)] + Array("é\(number)".utf8)
            expected += [1, 2, 3, 9, 8]
            #expect(out.count == expected.count)
        }
        #expect(contents(out) == expected)
    }

    @Test("nothing is appended by nothing")
    func nothing() {
        var out = Output(capacity: 4)
        out.append("")
        withSpan([]) { out.append($0) }
        _ = out.reserve(0)
        #expect(out.count == 0 && out.bytes.isEmpty)
    }

    @Test("one large reserve grows to its size at once")
    func large() {
        var out = Output(capacity: 16)
        out.append(7)
        let place = out.reserve(1_000_000)
        place.initializeMemory(as: UInt8.self, repeating: 5, count: 1_000_000)
        #expect(out.count == 1_000_001)
        #expect(out.bytes[0] == 7 && out.bytes[1_000_000] == 5)
    }

    @Test("the first bytes can be dropped, the rest stays")
    func removeFirst() {
        var out = Output(capacity: 4)
        out.append("abcdef")
        out.removeFirst(0)
        out.removeFirst(2)
        #expect(contents(out) == Array("cdef".utf8))
        out.append("g")
        out.removeFirst(5)
        #expect(out.count == 0)
    }

    @Test("after a reset it is empty, small, and of use")
    func reset() {
        var out = Output(capacity: 16)
        _ = out.reserve(100_000)
        out.reset(keeping: 32)
        #expect(out.count == 0)
        for _ in 0..<100 { out.append("0123456789") }
        #expect(out.count == 1000)
        #expect(out.bytes.last == UInt8(ascii: "9"))
    }

    @Test("an output made, or left, without any room grows all the same")
    func noRoom() {
        var out = Output(capacity: 0)
        out.append("abc")
        out.reset(keeping: 0)
        out.append("def")
        #expect(contents(out) == Array("def".utf8))
    }
}
