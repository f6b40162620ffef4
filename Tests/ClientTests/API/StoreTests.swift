// What a store through the client does with a number, in all types that take one.

import Smalloc
import Testing
import TestSupport

@Suite("Stores", .timed)
struct StoreTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    private static let rows: [(type: ElementType, stored: Double, read: Double)] = [
        (.int8, 300, 44), (.int8, -129, 127), (.int8, 127.9, 127), (.int8, .nan, 0),
        (.uint8, -1, 255), (.uint8, 256, 0), (.uint8, 3.99, 3), (.uint8, .infinity, 0),
        (.int16, 9_223_372_036_854_777_856, 2048), (.int16, 32768, -32768),
        (.uint16, -1, 65535), (.uint16, -.infinity, 0),
        (.int32, 1e20, 1_661_992_960), (.int32, -2_147_483_649, 2_147_483_647),
        (.uint32, 4_294_967_296, 0), (.uint32, -1, 4_294_967_295),
        (.float, 0.1, Double(Float(0.1))), (.float, 1e300, .infinity), (.float, -1e-60, -0.0),
        (.float, 1e-45, Double(Float(1e-45))),
        (.double, 0.1, 0.1), (.double, -0.0, -0.0), (.double, .infinity, .infinity),
        (.double, .leastNonzeroMagnitude, .leastNonzeroMagnitude),
        (.uint8Clamped, .nan, 0), (.uint8Clamped, -5, 0), (.uint8Clamped, 300, 255),
        (.uint8Clamped, 0.5, 0), (.uint8Clamped, 1.5, 2), (.uint8Clamped, 2.5, 2),
        (.uint8Clamped, 254.5, 254), (.uint8Clamped, .infinity, 255),
    ]

    @Test("subscript, set, store, batch and fill convert alike", arguments: rows)
    func table(row: (type: ElementType, stored: Double, read: Double)) throws {
        let a = try smalloc.alloc(5, row.type)
        a[0] = row.stored
        try a.set(row.stored, at: 1)
        try a.store([row.stored], at: 2)
        try smalloc.batch { $0.set(row.stored, at: 3, of: a) }.check()
        try a.fill(row.stored, from: 4, count: 1)
        try a.throwIfFailed()
        for index in 0..<5 {
            #expect(a[index].bitPattern == row.read.bitPattern, "element \(index)")
            #expect(try a.get(index).bitPattern == row.read.bitPattern)
        }
        #expect(
            try a.numbers().map(\.bitPattern) == Array(repeating: row.read.bitPattern, count: 5))
    }

    @Test("NaN stays NaN in Float and Double")
    func nan() throws {
        for type in [ElementType.float, .double] {
            let a = try smalloc.alloc(2, type)
            a[0] = .nan
            #expect(a[0].isNaN)
            #expect(a.lastError == nil)
        }
    }

    @Test("random numbers are stored as an independent formula says")
    func property() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var random = SplitMix(seed: seed)
        let numbers = (0..<Scale.count(2000)).map { _ -> Double in
            switch Int.random(in: 0..<4, using: &random) {
            case 0: Double(bitPattern: .random(in: 0 ... .max, using: &random))
            case 1: Double.random(in: -1e10...1e10, using: &random)
            case 2: Double.random(in: -300...600, using: &random)
            default: Double(Int.random(in: -600...600, using: &random)) / 2
            }
        }
        for type in ElementType.allCases where type.isDouble {
            let a = try smalloc.alloc(numbers.count, type)
            try a.store(numbers)
            let read = try a.numbers()
            for (number, result) in zip(numbers, read) {
                let expected = StoreTests.model(number, type)
                #expect(
                    result == expected || (result.isNaN && expected.isNaN),
                    "\(number) in \(type.name)")
            }
        }
    }

    /// The table in other words: by remainders of doubles, never by integer conversion.
    private static func model(_ number: Double, _ type: ElementType) -> Double {
        func wrap(_ bits: Int, signed: Bool) -> Double {
            guard number.isFinite else { return 0 }
            let size = Double(sign: .plus, exponent: bits, significand: 1)
            var rest = number.rounded(.towardZero).truncatingRemainder(dividingBy: size)
            if rest < 0 { rest += size }
            if signed, rest >= size / 2 { rest -= size }
            return rest
        }
        switch type {
        case .int8: return wrap(8, signed: true)
        case .uint8: return wrap(8, signed: false)
        case .int16: return wrap(16, signed: true)
        case .uint16: return wrap(16, signed: false)
        case .int32: return wrap(32, signed: true)
        case .uint32: return wrap(32, signed: false)
        case .float: return Double(Float(number))
        case .double: return number
        case .float16: return Double(Float16(number))
        case .bfloat16:
            // A Float's upper half, rounded by adding a half less one, and one more if it is odd.
            if number.isNaN { return .nan }
            let exponent = max(number.exponent, -126) - 7
            let unit = Double(sign: .plus, exponent: Int(exponent), significand: 1)
            let rounded = (number / unit).rounded(.toNearestOrEven) * unit
            return rounded.magnitude >= 0x1p128 ? (number < 0 ? -.infinity : .infinity) : rounded
        case .bool: return number == 0 ? 0 : 1
        case .int64, .uint64, .complexFloat, .complexDouble: return .nan
        case .uint8Clamped:
            if number.isNaN { return 0 }
            return min(max(number, 0), 255).rounded(.toNearestOrEven)
        }
    }
}
