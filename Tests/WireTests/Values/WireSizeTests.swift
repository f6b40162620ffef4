import SmallocWire
import Testing
import TestSupport

@Suite("Arithmetic on numbers from the wire", .timed)
struct WireSizeTests {
    static let boundaries: [UInt64] = {
        let powers = [0, 1, 2, 3, 15, 16, 31, 32, 52, 53, 60, 61, 62, 63].map { UInt64(1) << $0 }
        return Array(Set(powers.flatMap { [$0 &- 1, $0, $0 &+ 1] } + [.max, .max - 1])).sorted()
    }()

    @Test("elements become bytes, and saturate instead of wrapping")
    func elements() {
        for count in WireSizeTests.boundaries {
            for type in ElementType.allCases {
                let exact = count.multipliedFullWidth(by: UInt64(type.size))
                let size = WireSize(count, .elements, type)
                #expect(size.bytes == (exact.high == 0 ? exact.low : .max))
                #expect(WireSize(count, .bytes, type).bytes == count)
            }
        }
    }

    @Test("sums saturate")
    func sums() {
        for left in WireSizeTests.boundaries {
            for right in WireSizeTests.boundaries {
                let sum = WireSize(bytes: left) + WireSize(bytes: right)
                let (exact, overflow) = left.addingReportingOverflow(right)
                #expect(sum.bytes == (overflow ? .max : exact))
                #expect((WireSize(bytes: left) < WireSize(bytes: right)) == (left < right))
            }
        }
    }

    @Test("a range is inside or refused, for every pair of boundaries and several lengths")
    func extents() {
        for length in [UInt64(0), 1, 4, 65_536, 1 << 40, UInt64(Int.max)] {
            for offset in WireSizeTests.boundaries {
                for size in WireSizeTests.boundaries {
                    check(offset, size, length)
                }
            }
        }
    }

    private func check(_ offset: UInt64, _ size: UInt64, _ length: UInt64) {
        // Twice as wide, so that nothing can overflow here.
        let end = UInt128(offset) + UInt128(size)
        do throws(SmallocError) {
            let extent = try Extent(
                offset: WireSize(bytes: offset), size: WireSize(bytes: size), length: length)
            #expect(end <= UInt128(length))
            #expect(extent.offset == Int(offset) && extent.size == Int(size))
        } catch {
            #expect(end > UInt128(length))
            #expect(error.status == .outOfRange && error.errorClass == .rangeError)
            #expect(
                error.message == (offset > length ? "start > length" : "start + count > length"))
        }
    }

    @Test("without a size a range goes to the end")
    func toTheEnd() throws {
        let extent = try Extent(offset: WireSize(bytes: 3), size: nil, length: 10)
        #expect(extent.offset == 3 && extent.size == 7)
        let none = try Extent(offset: WireSize(bytes: 10), size: nil, length: 10)
        #expect(none.size == 0)
        #expect(throws: SmallocError.self) {
            try Extent(offset: WireSize(bytes: 11), size: nil, length: 10)
        }
    }
}
