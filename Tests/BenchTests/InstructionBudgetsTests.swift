import Foundation
import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Instruction budgets", .timed)
struct InstructionBudgetsTests {
    @Test("the checked-in budgets name work that can be counted, and hold the marks")
    func checkedIn() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Budgets/instructions.json").path
        let budgets = try InstructionBudgets.read(from: path)
        #expect(budgets.depth == 16)
        #expect(
            budgets.operations.map(\.name) == [
                "ping", "read/64B", "write/64B", "atomic", "name/64B", "read/4KiB", "copy/64B",
                "alloc/64B",
            ])
        for operation in budgets.operations {
            #expect(operation.work != nil, "no work is called \(operation.name)")
        }
        // A pipelined 64-byte read may take 600 instructions and no more.
        let read = try #require(budgets.operations.first { $0.name == "read/64B" })
        #expect(read.instructions <= 600)
        // And no budget is loose enough for a mistake to pass below it.
        #expect(budgets.operations.allSatisfy { $0.instructions <= 1700 })
    }
}
