// Does with the library what a test in another language says, line by line.

import Glibc
import Smalloc

/// Reads lines of words, and answers each with a line: what was asked for, `ok`, or `error` and the
/// status' symbol.
///
/// Bytes are hexadecimal digits, and `-` where there are none. `WAY` is `map` or `socket`.
struct Serving {
    private let smalloc: Smalloc
    /// Keeps what a `hold` has mapped.
    private let held = Kept()

    private final class Kept {
        var map: (any Held)?
    }

    init(_ address: String) throws { smalloc = try Smalloc(address) }

    /// Until the input ends.
    func run() throws {
        while let line = readLine() {
            do {
                print(try answer(line.split(separator: " ").map(String.init)))
            } catch let error as SmallocError {
                print("error \(error.status.symbol)")
            }
            fflush(nil)
        }
    }

    private func answer(_ words: [String]) throws -> String {
        switch words.first {
        case "read": return try typed(words[2]) { try $0.read(words[1], $1) }
        case "write":
            try typed(words[2]) { try $0.write(words[1], $1, bytes(words[3])) }
        case "put":
            let type = ElementType.allCases.first { "\($0)" == words[2] }!
            let shape = words[3] == "-" ? [] : words[3].split(separator: ",").map { Int($0)! }
            let new = try smalloc.alloc(shape: shape, type, metadata: bytes(words[4]))
            try elements(of: type).write("socket", new, bytes(words[5]))
            try new.rename(to: words[1], replacing: true)
        case "stat":
            let stat = try smalloc.open(words[1]).stat()
            let shape = stat.shape.map { $0.map(String.init).joined(separator: ",") }
            return "\(stat.type) \(stat.length) \(shape ?? "none") \(hex(stat.metadata))"
        case "atomic":
            let numbers = words[5...].map { Int128($0)! }
            return try typed(words[2]) {
                try $0.atomic(words[1], $1, Int(words[3])!, words[4], numbers)
            }
        case "wait": return try wait(words)
        case "notify":
            let allocation = try smalloc.open(words[2])
            let index = Int(words[3])!
            if words[1] == "socket" { return "\(try allocation.notify(at: index))" }
            return "\(try allocation.map(Int32.self).notify(at: index))"
        case "hold": held.map = try typed(words[1]) { try $0.hold($1) }
        case "held": return held.map?.told ?? "none"
        case "drop": held.map = nil
        case "freeze": try smalloc.open(words[1]).freeze()
        case "dispose": try smalloc.dispose(named: words[1])
        case "truncate": try smalloc.open(words[1]).truncate(Int(words[2])!)
        default: return "unknown"
        }
        return "ok"
    }

    private func wait(_ words: [String]) throws -> String {
        let allocation = try smalloc.open(words[2])
        let (index, value) = (Int(words[3])!, Int32(words[4])!)
        let timeout = Duration.milliseconds(Int(words[5])!)
        let result =
            words[1] == "socket"
            ? try allocation.wait(at: index, while: value, timeout: timeout)
            : try allocation.map(Int32.self).wait(at: index, while: value, timeout: timeout)
        return result.name
    }

    private func typed<Result>(
        _ name: String, _ body: (any Elements, Allocation) throws -> Result
    ) throws -> Result {
        let allocation = try smalloc.open(name)
        return try body(elements(of: allocation.type), allocation)
    }

    private func elements(of type: ElementType) -> any Elements {
        switch type {
        case .int8: Whole<Int8>()
        case .uint8: Whole<UInt8>()
        case .uint8Clamped: Plain<UInt8>()
        case .int16: Whole<Int16>()
        case .uint16: Whole<UInt16>()
        case .int32: Whole<Int32>()
        case .uint32: Whole<UInt32>()
        case .int64: Whole<Int64>()
        case .uint64: Whole<UInt64>()
        case .float: Plain<Float>()
        case .double: Plain<Double>()
        case .float16: Plain<Float16>()
        case .bfloat16: Plain<Smalloc.Bfloat16>()
        case .bool: Bools()
        case .complexFloat: Plain<Smalloc.ComplexFloat>()
        case .complexDouble: Plain<Smalloc.ComplexDouble>()
        }
    }
}

/// A mapping that is kept.
private protocol Held {
    var told: String { get }
}

extension Smalloc.Mapping: Held {
    fileprivate var told: String {
        let bytes = withUnsafeBufferPointer { Array(UnsafeRawBufferPointer($0)) }
        return "\(isLive) \(liveCount) \(hex(bytes))"
    }
}

/// What is done with elements of one Swift type.
private protocol Elements {
    associatedtype Element: Smalloc.Element
    /// What they are mapped as.
    associatedtype Mapped: Smalloc.Element = Element
    func atomic(
        _ way: String, _ allocation: Allocation, _ index: Int, _ action: String,
        _ numbers: [Int128]
    ) throws -> String
}

extension Elements {
    func read(_ way: String, _ allocation: Allocation) throws -> String {
        if way == "socket" {
            return hex(try allocation.read(Element.self).withUnsafeBytes(Array.init))
        }
        let map = try allocation.map(Mapped.self, writable: false)
        return hex(map.indices.map { map[$0] }.withUnsafeBytes(Array.init))
    }

    func write(_ way: String, _ allocation: Allocation, _ bytes: [UInt8]) throws {
        func values<Value: Smalloc.Element>(_ type: Value.Type) -> [Value] {
            bytes.withUnsafeBytes { bytes in
                (0..<allocation.length).map {
                    bytes.loadUnaligned(
                        fromByteOffset: $0 * MemoryLayout<Value>.stride, as: Value.self)
                }
            }
        }
        if way == "socket" { return try allocation.write(values(Element.self)) }
        let map = try allocation.map(Mapped.self)
        for (index, value) in values(Mapped.self).enumerated() { map[index] = value }
    }

    func hold(_ allocation: Allocation) throws -> any Held {
        try allocation.map(Mapped.self, writable: false)
    }
}

private struct Bools: Elements {
    typealias Element = Bool
    typealias Mapped = UInt8

    func atomic(
        _ way: String, _ allocation: Allocation, _ index: Int, _ action: String,
        _ numbers: [Int128]
    ) throws -> String { "unknown" }
}

private struct Plain<Element: Smalloc.Element>: Elements {
    func atomic(
        _ way: String, _ allocation: Allocation, _ index: Int, _ action: String,
        _ numbers: [Int128]
    ) throws -> String { "unknown" }
}

private struct Whole<Element: Smalloc.AtomicValue>: Elements {
    func atomic(
        _ way: String, _ allocation: Allocation, _ index: Int, _ action: String,
        _ numbers: [Int128]
    ) throws -> String {
        let values = numbers.map { Element(truncatingIfNeeded: $0) }
        if way == "socket" {
            switch action {
            case "load": return "\(try allocation.atomicLoad(index) as Element)"
            case "store": try allocation.atomicStore(values[0], at: index)
            case "exchange": return "\(try allocation.atomicExchange(values[0], at: index))"
            case "add": return "\(try allocation.atomicAdd(values[0], at: index))"
            case "subtract": return "\(try allocation.atomicSubtract(values[0], at: index))"
            case "and": return "\(try allocation.atomicAnd(values[0], at: index))"
            case "or": return "\(try allocation.atomicOr(values[0], at: index))"
            case "xor": return "\(try allocation.atomicXor(values[0], at: index))"
            default:
                let old = try allocation.atomicCompareExchange(
                    at: index, expected: values[0], desired: values[1])
                return "\(old.original)"
            }
            return "ok"
        }
        let map = try allocation.map(Element.self)
        switch action {
        case "load": return "\(map.atomicLoad(index))"
        case "store": map.atomicStore(values[0], at: index)
        case "exchange": return "\(map.atomicExchange(values[0], at: index))"
        case "add": return "\(map.atomicAdd(values[0], at: index))"
        case "subtract": return "\(map.atomicSubtract(values[0], at: index))"
        case "and": return "\(map.atomicAnd(values[0], at: index))"
        case "or": return "\(map.atomicOr(values[0], at: index))"
        case "xor": return "\(map.atomicXor(values[0], at: index))"
        default:
            let old = map.atomicCompareExchange(
                at: index, expected: values[0], desired: values[1])
            return "\(old.original)"
        }
        return "ok"
    }
}

private func hex(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    guard !bytes.isEmpty else { return "-" }
    return String(
        decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

private func bytes(_ word: String) -> [UInt8] {
    guard word != "-" else { return [] }
    let digits = word.utf8.map { UInt8(Character(Unicode.Scalar($0)).hexDigitValue!) }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
