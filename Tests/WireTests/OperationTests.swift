import SmallocWire
import Testing

@Suite("Operations")
struct OperationTests {
    @Test("a number from the wire is the operation that has it, or none")
    func numbers() {
        for number in UInt8.min...UInt8.max {
            #expect(Operation(wire: number) == Operation(rawValue: number))
        }
        #expect(Operation.allCases.map(\.rawValue) == Array(1...16))
    }

    @Test("flags are bits that do not overlap")
    func flags() {
        #expect(RequestFlags.vectored.rawValue == 1)
        #expect(RequestFlags.noHandle.rawValue == 2)
    }
}
