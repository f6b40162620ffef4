// Random requests of every kind and size, as bytes that are the same for the same seed, so that the
// n-th call of a run can fail in the next one.

import SmallocWire
import TestSupport

/// Steps of several connections: which one, and the requests that it sends at once.
struct FaultScript {
    /// Requests that one connection sends together.
    struct Step {
        var connection: Int
        var bytes: [UInt8]
        /// Cookies of the frames, in their order; empty in text mode.
        var cookies: [UInt64]
        /// Those of them that may be answered later, when another one ends the wait.
        var waits: Set<UInt64> = []
        /// Lines, in text mode.
        var lines: Int
    }

    static let binaryCount = 2
    static let connectionCount = 3
    static let names = [
        "a", "b", "c", "dir/d", String(repeating: "e", count: 60),
        String(repeating: "f", count: 250),
    ]

    private var random: SplitMix
    private var cookie: UInt64 = 0

    private init(seed: UInt64) { random = SplitMix(seed: seed) }

    /// The last connection speaks text, the others frames.
    static func make(seed: UInt64, steps: Int) -> [Step] {
        var script = FaultScript(seed: seed)
        return [script.largeStep()] + (0..<steps).map { _ in script.step() }
    }

    /// More replies at once than the output has room for at first, and a mapping that is taken and
    /// given back.
    private mutating func largeStep() -> Step {
        var step = Step(connection: 0, bytes: [], cookies: [], lines: 0)
        for number in 0..<11 {
            cookie += 1
            step.cookies.append(cookie)
            let request =
                switch number {
                case 0: frame(.alloc, flags: 2, type: 2, cookie: cookie, name: "a", size: 60_000)
                case 1...7: frame(.read, cookie: cookie, name: "a", size: 60_000)
                case 8: frame(.alloc, flags: 2, type: 2, cookie: cookie, name: "b", size: 4 << 20)
                case 9: frame(.write, cookie: cookie, name: "b", size: 1, payload: [1])
                default: frame(.dispose, cookie: cookie, name: "b")
                }
            step.bytes += request
        }
        return step
    }

    private mutating func below(_ limit: Int) -> Int { Int(random.next() % UInt64(limit)) }

    private mutating func name() -> String { FaultScript.names[below(FaultScript.names.count)] }

    /// Inline, beyond a slab's blocks, a slot of an arena, a mapping.
    private mutating func size() -> UInt64 {
        switch below(8) {
        case 0...2: UInt64(8 * below(100))
        case 3: UInt64(2000 + 8 * below(7000))
        case 4, 5: UInt64(65_536 + 8 * below(60_000))
        case 6: UInt64(1 << 20 + 8 * below(1 << 17))
        default: UInt64(3 << 20 + 8 * below(1 << 18))
        }
    }

    /// Mostly within what `size` gives.
    private mutating func offset() -> UInt64 {
        UInt64([below(64), below(2000), below(70_000), below(1 << 20)][below(4)])
    }

    private mutating func step() -> Step {
        let connection = below(FaultScript.connectionCount)
        var step = Step(connection: connection, bytes: [], cookies: [], lines: 0)
        for _ in 0..<(below(4) == 0 ? 1 + below(8) : 1) {
            if connection < FaultScript.binaryCount {
                cookie += 1
                let request = request()
                step.bytes += request
                step.cookies.append(cookie)
                if request[2] == Operation.wait.rawValue { step.waits.insert(cookie) }
            } else {
                step.bytes += Array((line() + "\n").utf8)
                step.lines += 1
            }
        }
        return step
    }

    // MARK: Frames

    private mutating func request() -> [UInt8] {
        switch below(31) {
        case 20, 21: return atomic()
        case 22...24: return wait()
        case 25, 26: return target(.notify, offset: UInt64(4 * below(4)), size: UInt64(below(4)))
        case 27: return frame(.cancel, cookie: cookie, payload: numbers(cookie - UInt64(below(9))))
        case 28, 29: return target(.map, flags: UInt8(below(4)))
        case 30: return below(3) == 0 ? target(.freeze) : target(.unmap)
        case 0...3: return alloc()
        case 4...6: return read()
        case 7...9: return write()
        case 10: return fill()
        case 11, 12: return copy()
        case 13:
            let flags: UInt8 = below(2) == 0 ? 1 : 0
            return target(.rename, flags: flags, payload: Array(name().utf8))
        case 14: return target(.truncate, size: offset() / 8 * 8)
        case 15: return frame(.open, cookie: cookie, name: name())
        case 16: return frame(.close, cookie: cookie, handle: UInt32(1 + below(8)))
        case 17: return target(.dispose)
        case 18: return refused()
        default:
            switch below(4) {
            case 0: return frame(.list, cookie: cookie)
            case 1: return frame(.stats, cookie: cookie)
            case 2: return target(.stat)
            default: return frame(.ping, cookie: cookie)
            }
        }
    }

    /// A frame by name or by a handle that may be open.
    private mutating func target(
        _ operation: Operation, flags: UInt8 = 0, offset: UInt64 = 0, size: UInt64 = 0,
        payload: [UInt8] = []
    ) -> [UInt8] {
        let isByName = below(2) == 0
        return frame(
            operation, flags: flags, cookie: cookie, handle: isByName ? 0 : UInt32(1 + below(8)),
            name: isByName ? name() : "", offset: offset, size: size, payload: payload)
    }

    private mutating func alloc() -> [UInt8] {
        let isNamed = below(5) > 0
        return frame(
            .alloc, flags: (isNamed && below(3) == 0 ? 2 : 0) | (below(4) == 0 ? 4 : 0),
            type: [1, 2, 5, 6][below(4)],
            cookie: cookie, name: isNamed ? name() : "", size: size())
    }

    private mutating func ranges(_ count: Int, sizeMax: Int) -> [(UInt64, UInt64)] {
        (0..<count).map { _ in (offset(), UInt64(below(sizeMax))) }
    }

    private mutating func read() -> [UInt8] {
        if below(2) == 0 {
            let size = [below(64), below(60_000), 65_537 + below(300_000)][below(3)]
            return target(.read, offset: offset(), size: UInt64(size))
        }
        let ranges = ranges(1 + below(200), sizeMax: below(2) == 0 ? 40 : 4000)
        return target(
            .read, flags: 1, size: UInt64(ranges.count),
            payload: ranges.flatMap { numbers($0.0, $0.1) })
    }

    private mutating func write() -> [UInt8] {
        if below(2) == 0 {
            let size = [below(64), below(60_000), 65_537 + below(200_000)][below(3)]
            return target(
                .write, offset: below(2) == 0 ? 0 : offset(), size: UInt64(size),
                payload: random.bytes(size))
        }
        let ranges = ranges(1 + below(100), sizeMax: below(2) == 0 ? 40 : 3000)
        let size = ranges.reduce(0) { $0 + Int($1.1) }
        return target(
            .write, flags: 1, size: UInt64(ranges.count),
            payload: ranges.flatMap { numbers($0.0, $0.1) } + random.bytes(size))
    }

    /// Mostly one that waits, without end or for longer than the script takes.
    private mutating func wait() -> [UInt8] {
        let time: UInt64 = [.max, 10_000_000, 0][below(3)]
        return target(.wait, offset: UInt64(4 * below(4)), size: time, payload: [0, 0, 0, 0])
    }

    /// On the first cell or anywhere: small memory, and large that is not there yet.
    private mutating func atomic() -> [UInt8] {
        let cell = below(2) == 0 ? 0 : offset()
        return target(.atomic, offset: cell, payload: numbers(UInt64(1 + below(8)), 0, 0))
    }

    private mutating func fill() -> [UInt8] {
        let size = [8 * below(100), 8 * below(8000), 2 << 20][below(3)]
        return target(.fill, size: UInt64(size), payload: random.bytes(1 << below(4)))
    }

    private mutating func copy() -> [UInt8] {
        let size = [below(100), below(60_000), (1 << 20) + 1 + below(1 << 20)][below(3)]
        return target(.copy, size: UInt64(size), payload: copyDest(0, name: name()))
    }

    /// A payload that is refused, and whose reply is held until it has gone by.
    private mutating func refused() -> [UInt8] {
        let header = FrameHeader(
            magic: FrameHeader.requestMagic, operation: 200, cookie: cookie, payloadSize: 3000)
        return bytes(of: header) + random.bytes(3000)
    }

    // MARK: Lines

    private mutating func line() -> String {
        switch below(17) {
        case 15: return "wait \(name()) \(below(40)) \(below(2)) 0"
        case 16: return "notify \(name()) \(below(40))"
        case 14: return "atomic \(name()) \(below(200)) add 1"
        case 0...2: return "alloc \(name()) \(size() / 8) \(below(2) == 0 ? "uint8" : "double")"
        case 3: return "write \(name()) 0 " + values(1 + below(20))
        case 4: return "write \(name()) 0 " + values(6000 + below(4000))
        case 5: return "write \(name()) 0 hex:" + hex(random.bytes(below(9000)))
        case 6: return "read \(name()) 0 \(below(40))"
        case 7: return "read \(name()) 0 \(below(60_000)) hex"
        case 8: return "fill \(name()) 0 \(below(3000)) 1"
        case 9: return "copy \(name()) 0 \(name()) 0 \(below(200_000))"
        case 10: return "rename \(name()) \(name())" + (below(2) == 0 ? " replace" : "")
        case 11: return "truncate \(name()) \(below(4000))"
        case 12: return ["list", "list dir/", "stats", "help", "stat \(name())"][below(5)]
        default: return "dispose \(name())"
        }
    }

    private mutating func values(_ count: Int) -> String {
        (0..<count).map { _ in "\(below(256))" }.joined(separator: " ")
    }
}
