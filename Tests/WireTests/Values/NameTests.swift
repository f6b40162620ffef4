import SmallocWire
import Testing
import TestSupport

@Suite("Names", .timed)
struct NameTests {
    private func isValid(_ bytes: [UInt8]) -> Bool { withSpan(bytes) { Name.isValid($0) } }

    @Test("a name has 1 to 255 bytes")
    func sizes() {
        for size in 0...300 {
            #expect(isValid([UInt8](repeating: 0x61, count: size)) == (1...255).contains(size))
        }
    }

    @Test("each of its bytes is 0x21 to 0x7e, wherever it stands")
    func everyByte() {
        for byte in UInt8.min...UInt8.max {
            let allowed = (0x21...0x7E).contains(byte)
            #expect(isValid([byte]) == allowed)
            #expect(isValid([0x61, byte]) == allowed)
            #expect(isValid([byte, 0x61]) == allowed)
        }
    }

    @Test("that holds for every byte of longer names, whatever stands beside it")
    func everyPlace() {
        for size in [7, 8, 9, 15, 16, 17, 31, 255] {
            for place in Set([0, 1, 7, 8, 14, 15, 16, size / 2, size - 2, size - 1])
            where place < size {
                for byte in UInt8.min...UInt8.max {
                    for other in [0x21, 0x7E] as [UInt8] {
                        var name = [UInt8](repeating: other, count: size)
                        name[place] = byte
                        #expect(isValid(name) == (0x21...0x7E).contains(byte))
                    }
                }
            }
        }
    }
}
