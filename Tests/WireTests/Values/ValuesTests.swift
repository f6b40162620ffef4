// protocol/values.json and protocol/spec.md against Swift: one set of numbers.

import Foundation
import SmallocWire
import Testing
import TestSupport

@Suite(.timed) struct ValuesTests {
    let values = Vectors.values

    @Test("operations have the numbers and names of values.json")
    func operations() {
        #expect(Operation.allCases.map { Int($0.rawValue) } == values.operations.map(\.number))
        #expect(Operation.allCases.map(\.name) == values.operations.map(\.name))
    }

    @Test("element types have the numbers, names and sizes of values.json")
    func elementTypes() {
        #expect(ElementType.allCases.map { Int($0.rawValue) } == values.elementTypes.map(\.number))
        #expect(ElementType.allCases.map(\.name) == values.elementTypes.map(\.name))
        #expect(ElementType.allCases.map(\.size) == values.elementTypes.map(\.size))
        for type in ElementType.allCases {
            #expect(1 << type.shift == type.size)
            #expect(ElementType(named: type.name.uppercased()) == type)
            #expect(ElementType(named: "\(type.rawValue)") == type)
        }
        for word in ["", "0", "17", "01", "+1", "Uint128", "uint 8", "é"] {
            #expect(ElementType(named: word) == nil, "\(word)")
        }
    }

    @Test("statuses have the numbers, names, classes and consequences of values.json")
    func statuses() {
        #expect(Status.table.map { Int($0.status.rawValue) } == values.statuses.map(\.number))
        #expect(Status.table.map(\.name) == values.statuses.map(\.name))
        for (row, value) in zip(Status.table, values.statuses) {
            #expect(row.status.name == value.name)
            #expect(row.status.closes == value.closes ?? false, "\(value.name)")
            #expect(value.class == nil || row.errorClass.name == value.class, "\(value.name)")
            let isFailure = row.status != .ok
            #expect((row.status.rawValue & 0x8000 != 0) == isFailure, "\(value.name)")
            #expect(row.status.rawValue < 0xF000, "\(value.name) is kept for clients")
        }
        #expect(Status(rawValue: 0xC123).closes)
        #expect(!Status(rawValue: 0x8123).closes)
    }

    @Test("classes and flags have the numbers and names of values.json")
    func classesAndFlags() {
        #expect(ErrorClass.allCases.map { Int($0.rawValue) } == values.errorClasses.map(\.number))
        #expect(ErrorClass.allCases.map(\.name) == values.errorClasses.map(\.name))
        let flags = [
            "vectored": TransferFlags.vectored.rawValue, "noHandle": AllocFlags.noHandle.rawValue,
            "replace": RenameFlags.replace.rawValue, "described": AllocFlags.described.rawValue,
            "shareable": AllocFlags.shareable.rawValue, "writable": MapFlags.writable.rawValue,
            "populate": MapFlags.populate.rawValue, "await": OpenFlags.await.rawValue,
            "awaitFrozen": OpenFlags.awaitFrozen.rawValue, "leased": AllocFlags.leased.rawValue,
        ]
        #expect(flags.count == values.requestFlags.count)
        for flag in values.requestFlags {
            #expect(flags[flag.name] == UInt8(flag.value), "\(flag.name)")
        }
        // A bit belongs to its operation: another one's is unknown to it.
        for operation in Operation.allCases {
            let bits = values.requestFlags.filter { $0.operations.contains(operation.name) }
            #expect(
                operation.flags == bits.reduce(0) { $0 | UInt8($1.value) }, "\(operation.name)")
        }
    }

    @Test("actions and features have the numbers and names of values.json")
    func actionsAndFeatures() {
        let actions = AtomicAction.allCases
        #expect(actions.map { Int($0.rawValue) } == values.atomicActions.map(\.number))
        #expect(actions.map(\.name) == values.atomicActions.map(\.name))
        #expect(Feature.allCases.map { Int($0.rawValue) } == values.features.map(\.bit))
        #expect(Feature.allCases.map(\.name) == values.features.map(\.name))
        #expect(Limits.features == values.features.reduce(0) { $0 | 1 << UInt64($1.bit) })
        let results = WaitResult.allCases
        #expect(results.map { Int($0.rawValue) } == values.waitResults.map(\.number))
        #expect(results.map(\.name) == values.waitResults.map(\.name))
        for number in UInt8.min...UInt8.max {
            #expect(AtomicAction(wire: number) == AtomicAction(rawValue: number))
        }
        for action in actions {
            #expect(AtomicAction(named: action.name.uppercased()) == action)
        }
        for word in ["", "1", "increment", "add ", "compare"] {
            #expect(AtomicAction(named: word) == nil, "\(word)")
        }
    }

    @Test("constants are those of values.json")
    func constants() {
        #expect(Int(FrameHeader.currentVersion) == values.protocolVersion)
        #expect(Int(FrameHeader.requestMagic) == values.requestMagic)
        #expect(Int(FrameHeader.replyMagic) == values.replyMagic)
        #expect(FrameHeader.byteCount == values.headerSize)
        #expect(Limits.nameSizeMax == values.nameSizeMax)
        #expect(Limits.rangesMax == values.rangesMax)
        #expect(Limits.waitsMax == values.waitsMax)
        #expect(Limits.atomicSizeMax == values.atomicSizeMax)
        #expect(Limits.fillPatternSizeMax == values.fillPatternSizeMax)
        #expect(Shape.rankMax == values.rankMax)
        #expect(Description.metadataSizeMax == values.metadataSizeMax)
    }

    @Test("the greeting's numbers are in the order of values.json, and are read back")
    func helloFields() {
        var limits = Limits()
        limits.lengthSizeMax = 103
        limits.memorySizeMax = 104
        limits.allocationsMax = 105
        limits.connectionsMax = 106
        limits.frameSizeMax = 107
        limits.requestsInFlightMax = 108
        limits.handlesMax = 109
        limits.outputSizeMax = 110
        limits.lineSizeMax = 111
        limits.idleTimeoutMilliseconds = 112
        limits.requestTimeoutMilliseconds = 113
        let names = [
            "versionMin": 1, "versionMax": 1, "features": 119, "lengthMax": 103, "memoryMax": 104,
            "allocationsMax": 105, "connectionsMax": 106, "frameSizeMax": 107,
            "requestsInFlightMax": 108, "handlesMax": 109, "outputSizeMax": 110,
            "lineSizeMax": 111, "idleTimeoutMilliseconds": 112, "requestTimeoutMilliseconds": 113,
            "atomicSizeMax": 65_536, "nameSizeMax": 255, "rangesMax": 1024,
            "waitsMax": 4096, "sharesMax": 0,
        ]
        #expect(
            limits.helloFields == values.helloFields.compactMap { names[$0].map { UInt64($0) } })
        #expect(Limits(helloFields: limits.helloFields) == limits)
        // What a newer daemon tells beyond them is ignored; what an older one does not tell is as
        // in the specification.
        #expect(Limits(helloFields: limits.helloFields + [1, 2]) == limits)
        #expect(Limits(helloFields: [1, 1, 0]) == Limits())
    }

    @Test("the specification's tables and pages are those of values.json")
    func specification() throws {
        let data = try ProjectFolder.contents(ofProtocolFile: "spec.md")
        let lines = String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
        for operation in values.operations {
            let number = operation.number
            #expect(lines.contains("### 7.\(number) \(operation.name) (\(number))"))
            #expect(lines.contains { $0.hasPrefix("| \(operation.number) | \(operation.name) |") })
        }
        for type in values.elementTypes {
            #expect(
                lines.contains { $0.hasPrefix("| \(type.number) | \(type.name) | \(type.size) |") })
        }
        for status in values.statuses where status.number != 0 {
            let number = "0x" + String(status.number, radix: 16, uppercase: true)
            let closes = status.closes == true ? "yes" : ""
            let row =
                "| \(number) | \(status.name) | \(status.class ?? "") | \(closes) | \(status.sentence ?? "") |"
                .replacingOccurrences(of: "|  |", with: "|  |")
            #expect(lines.contains(row), "\(row)")
        }
        for flag in values.requestFlags {
            let operations = flag.operations.joined(separator: ", ")
            #expect(lines.contains("| \(flag.value) | \(flag.name) | \(operations) |"))
        }
        for action in values.atomicActions {
            #expect(lines.contains { $0.hasPrefix("| \(action.name) | \(action.number) |") })
        }
        for result in values.waitResults {
            #expect(lines.contains { $0.hasPrefix("| \(result.number) | \(result.name) |") })
        }
        for feature in values.features {
            #expect(lines.contains { $0.hasPrefix("| \(feature.bit) | \(feature.name) |") })
        }
        for field in values.helloFields.dropFirst(3) {
            #expect(lines.contains { $0.hasPrefix("| `\(field)` |") }, "\(field)")
        }
    }
}
