import SmallocWire
import Testing
import TestSupport

@Suite("Operations", .timed)
struct OperationTests {
    @Test("a number from the wire is the operation that has it, or none")
    func numbers() {
        for number in UInt8.min...UInt8.max {
            #expect(Operation(wire: number) == Operation(rawValue: number))
        }
        #expect(Operation.allCases.map(\.rawValue) == Array(1...24) + [26, 27])
    }

    @Test("an operation knows the bits of its own flags, and no other's")
    func flags() {
        #expect(Operation.read.flags == TransferFlags.vectored.rawValue)
        #expect(Operation.write.flags == TransferFlags.vectored.rawValue)
        #expect(
            Operation.alloc.flags
                == AllocFlags.noHandle.rawValue | AllocFlags.shareable.rawValue
                | AllocFlags.leased.rawValue | AllocFlags.described.rawValue)
        #expect(Operation.map.flags == MapFlags.writable.rawValue | MapFlags.populate.rawValue)
        #expect(Operation.open.flags == OpenFlags.await.rawValue | OpenFlags.awaitFrozen.rawValue)
        #expect(Operation.rename.flags == RenameFlags.replace.rawValue)
        #expect(
            Operation.allCases.filter { $0.flags != 0 }
                == [.alloc, .open, .read, .write, .rename, .map])
    }
}
