// Subcommands for one integer: change it at a stroke, wait for it, notify those that wait.

import ArgumentParser
import Smalloc
import SmallocWire

/// An action's name, in any case.
struct AtomicActionArgument: ExpressibleByArgument {
    let action: AtomicAction

    init?(argument: String) {
        guard let action = AtomicAction(named: argument) else { return nil }
        self.action = action
    }

    static let allValueStrings = AtomicAction.allCases.map(\.name)

    // Only types that list their cases to the parser get this by themselves.
    static let defaultCompletionKind = CompletionKind.list(allValueStrings)
}

struct Atomic: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change one integer at a stroke, and print what it was.",
        discussion: """
            However many do so at a time, no change is lost. compareExchange stores the second \
            value if it finds the first. For Int8 to Uint32, Int64 and Uint64.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "Element, from 0.", transform: ElementCount.parse) var index: ElementCount
    @Argument(help: "What to do.") var action: AtomicActionArgument
    @Argument(help: "None for load, EXPECTED NEW for compareExchange, else one.")
    var values: [String] = []

    var counts: [(name: String, count: ElementCount?)] { [("INDEX", index)] }

    func validate() throws {
        let action = action.action
        guard values.count == action.valueCount else {
            throw ValidationError("\(action.name) takes \(action.valueCount) values")
        }
    }

    func run(_ daemon: Smalloc) throws {
        let allocation = try about(name) { try daemon.open(name) }
        let old = try about(name) { () throws -> String in
            switch allocation.type {
            case .int8: return "\(try change(allocation, Int8.self))"
            case .uint8, .uint8Clamped: return "\(try change(allocation, UInt8.self))"
            case .int16: return "\(try change(allocation, Int16.self))"
            case .uint16: return "\(try change(allocation, UInt16.self))"
            case .int32: return "\(try change(allocation, Int32.self))"
            case .uint32: return "\(try change(allocation, UInt32.self))"
            case .int64: return "\(try change(allocation, Int64.self))"
            case .uint64: return "\(try change(allocation, UInt64.self))"
            default:
                throw SmallocError.invalidArgument(
                    "\(allocation.type.name) has no atomic operations")
            }
        }
        let text = common.json ? "{\"name\":\(JSON.string(name).text),\"old\":\(old)}" : old
        try Output.standard.write(text + "\n")
    }

    private func change<Value: Smalloc.AtomicValue>(
        _ allocation: Allocation, _ type: Value.Type
    ) throws(SmallocError) -> Value {
        var operands: [Value] = []
        for value in values { operands.append(try cell(value, allocation.type)) }
        let index = index.value
        switch action.action {
        case .load: return try allocation.atomicLoad(index)
        case .store, .exchange: return try allocation.atomicExchange(operands[0], at: index)
        case .add: return try allocation.atomicAdd(operands[0], at: index)
        case .sub: return try allocation.atomicSubtract(operands[0], at: index)
        case .and: return try allocation.atomicAnd(operands[0], at: index)
        case .or: return try allocation.atomicOr(operands[0], at: index)
        case .xor: return try allocation.atomicXor(operands[0], at: index)
        case .compareExchange:
            return try allocation.atomicCompareExchange(
                at: index, expected: operands[0], desired: operands[1]
            ).original
        }
    }
}

struct Wait: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait for a notify while an integer is VALUE.",
        discussion: """
            Prints notified, or differs if it is not VALUE, and exits with 0; timeout with 124; \
            disposed, if the integer is gone, with 4. To be sure of no change that was missed: \
            change it first, and notify then. For Int32 and Uint32. Ctrl-C ends it, and takes the \
            wait back.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "Element, from 0.", transform: ElementCount.parse) var index: ElementCount
    @Argument(help: "What it must be to wait at all.") var value: String
    @Option(
        name: .customLong("for"),
        help: ArgumentHelp(
            "Seconds to wait at the most; for as long as it takes, if not given.",
            valueName: "seconds"))
    var seconds: Double?

    var counts: [(name: String, count: ElementCount?)] { [("INDEX", index)] }

    func validate() throws {
        if let seconds, !(seconds >= 0 && seconds <= 1e9) {
            throw ValidationError("--for takes 0 to 1000000000 seconds")
        }
    }

    func run(_ daemon: Smalloc) throws {
        let type = try about(name) { try daemon.open(name).type }
        let result = try about(name) { () throws -> Smalloc.WaitResult in
            switch type {
            case .int32: return try wait(daemon, while: try cell(value, type) as Int32)
            case .uint32: return try wait(daemon, while: try cell(value, type) as UInt32)
            default: throw SmallocError.invalidArgument("waits are for Int32 and Uint32")
            }
        }
        let text =
            common.json
            ? "{\"name\":\(JSON.string(name).text),\"result\":\"\(result.name)\"}" : result.name
        try Output.standard.write(text + "\n")
        switch result {
        case .timeout: throw ExitCode(124)
        case .disposed: throw ExitCode(4)
        default: break
        }
    }

    /// Waits in a way that an interrupt takes back: on a connection for tasks.
    private func wait<Value: Smalloc.AtomicValue>(
        _ daemon: Smalloc, while value: Value
    ) throws(SmallocError) -> Smalloc.WaitResult {
        let (name, index) = (name, index.value)
        let timeout = seconds.map { Duration.nanoseconds(Int64($0 * 1e9)) }
        let seconds = seconds
        return try Interrupt.cancelling { () async throws(SmallocError) in
            let tasks = try await AsyncSmalloc(address: daemon.address, options: daemon.options)
            let allocation = try await tasks.open(name)
            // What is waited for is not the daemon's delay.
            if let seconds { TimeLimit.restart(adding: seconds) } else { _ = TimeLimit.pause() }
            return try await allocation.wait(at: index, while: value, timeout: timeout)
        }
    }
}

struct Notify: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "End waits on an integer, and print how many.",
        discussion: "The oldest first. For Int32 and Uint32.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "Element, from 0.", transform: ElementCount.parse) var index: ElementCount
    @Argument(help: "How many at least. All, if not given.", transform: ElementCount.parse)
    var count: ElementCount?

    var counts: [(name: String, count: ElementCount?)] { [("INDEX", index)] }

    func run(_ daemon: Smalloc) throws {
        let allocation = try about(name) { try daemon.open(name) }
        let woken = try about(name) {
            try allocation.notify(at: index.value, count: count?.value)
        }
        let text =
            common.json
            ? "{\"name\":\(JSON.string(name).text),\"notified\":\(woken)}" : "\(woken)"
        try Output.standard.write(text + "\n")
    }
}

/// A value of the command line as one element.
private func cell<Value: Smalloc.AtomicValue>(
    _ text: String, _ type: ElementType
) throws(SmallocError) -> Value {
    let bytes = try elementBytes([text], type)
    guard bytes.count == MemoryLayout<Value>.size else {
        throw .invalidArgument("a value is one element")
    }
    var value: Value = 0
    withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: bytes) }
    return value
}
