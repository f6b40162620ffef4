import SmallocWire
import Testing

@Suite("Names")
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
}
