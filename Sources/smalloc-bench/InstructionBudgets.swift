// The budget file of `smalloc-bench instructions`.

import Foundation

/// What operations may cost, as checked in.
struct InstructionBudgets: Codable {
    /// Requests in flight on the one connection.
    let depth: Int
    let operations: [Operation]

    struct Operation: Codable {
        /// `ping`, `read/64B`, `write/64B`, `alloc/64B` (made and disposed of), `read/4KiB`,
        /// `copy/64B`, `atomic`; `name/64B` is a read by name.
        let name: String
        /// The most that one job may take, server side, user space.
        let instructions: Double

        var work: Work? {
            switch name {
            case "ping": .ping
            case "read/64B": .read(64)
            case "write/64B": .write(64)
            case "alloc/64B": .allocDispose(64)
            case "name/64B": .read(64)
            case "read/4KiB": .read(4096)
            case "copy/64B": .copy(64)
            case "atomic": .atomic(64)
            default: nil
            }
        }

        /// Allocations that are there, and read by name.
        var preload: Int { name == "name/64B" ? 1000 : 0 }
    }

    static func read(from path: String) throws -> InstructionBudgets {
        try JSONDecoder().decode(
            InstructionBudgets.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }
}
