// Never traps, every reply parses, output does not depend on how input was chunked, buffers stay
// within limits: for random bytes, and for frames and lines with a little wrong in them.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Sessions with hostile input", .timed)
struct SessionFuzzTests {
    private func daemon() -> TestDaemon {
        // The same key for all, or listings would come in different orders.
        TestDaemon(warmSizeMax: 1 << 20, nameHash: NameHash(key: (1, 2))) {
            $0.memorySizeMax = 4 << 20
            $0.lengthSizeMax = 2 << 20
            $0.allocationsMax = 6
            $0.frameSizeMax = 200_000
            $0.requestsInFlightMax = 8
            $0.handlesMax = 4
            $0.outputSizeMax = 4096
            $0.lineSizeMax = 200
        }
    }

    @Test("random and mutated input in any pieces is answered alike, parseably, within limits")
    func fuzz() {
        var random = SplitMix(for: "sessions with hostile input")
        var answered = 0
        for round in 0..<Scale.count(2500) {
            let input = HostileInput.make(&random)
            let whole = run(input, direct: true) { input.count }
            if let fault = whole.fault {
                Issue.record("round \(round): \(fault)\n\(hex(input))")
                return
            }
            let largest = 1 + Int(random.next() % 300)
            for direct in [true, false] {
                var sizes = SplitMix(seed: random.next())
                let pieces = run(input, direct: direct) {
                    1 + Int(sizes.next() % UInt64(largest))
                }
                if pieces.fault != nil || pieces.output != whole.output {
                    let what = pieces.fault ?? "differs"
                    Issue.record(
                        "round \(round), pieces up to \(largest): \(what)\n\(hex(input))")
                    return
                }
            }
            answered += whole.output.count
        }
        #expect(answered > 10_000)
    }

    /// What is answered, with all blanked that may differ; and what is wrong with it.
    private func run(
        _ input: [UInt8], direct: Bool, _ size: () -> Int
    ) -> (output: [UInt8], fault: String?) {
        let daemon = daemon()
        let peer = daemon.connect()
        peer.receivesDirectly = direct
        var largest = 0
        peer.feed(input) {
            let size = size()
            largest = max(largest, size)
            return size
        }
        // What waits is ended as a daemon does that stops; lines behind it may wait, too.
        while peer.cancelWaits() {}
        peer.feedEnd()
        let isBinary = (input.first ?? 0) >= 0x80
        var fault: String?
        let tailMax = isBinary ? 40 + 65_536 + 17_000 : 200 + 1 + largest
        if peer.largestTail > tailMax { fault = "\(peer.largestTail) bytes kept" }
        // One reply may go over the high-water mark: a whole read up to the atomic size.
        if peer.largestOutput > 4096 + 4 * 65_536 + 1000 {
            fault = "\(peer.largestOutput) bytes of output"
        }
        let comparable = isBinary ? binary(peer.output) : text(peer.output)
        if comparable == nil { fault = "the output does not parse" }
        peer.session.end(daemon.loop)
        return (comparable ?? peer.output, fault)
    }

    private func binary(_ output: [UInt8]) -> [UInt8]? {
        replies(in: output)?.flatMap { reply -> [UInt8] in
            var reply = reply
            switch Operation(rawValue: reply.header.operation) {
            case .stats where reply.status == .ok:
                reply.payload = []
                reply.header.payloadSize = 0
            case .stat where reply.status == .ok:
                let created = Int(reply.header.nameSize)
                for index in created..<created + 8 { reply.payload[index] = 0 }
            default: break
            }
            return bytes(of: reply.header) + reply.payload
        }
    }

    private func text(_ output: [UInt8]) -> [UInt8]? {
        if output.isEmpty { return [] }
        guard output.last == 0x0A else { return nil }
        var comparable: [UInt8] = []
        for line in output.dropLast().split(separator: 0x0A, omittingEmptySubsequences: false) {
            guard line.allSatisfy({ (0x20...0x7E).contains($0) }) else { return nil }
            let text = String(decoding: line, as: UTF8.self)
            guard
                ["OK", "ERR", "ITEM", "EVENT", "STAT", "HELP"].contains(
                    String(text.prefix { $0 != " " }))
            else { return nil }
            if text.hasPrefix("STAT ") { continue }
            let end = text.range(of: " created=")?.lowerBound ?? text.endIndex
            comparable += Array(text[..<end].utf8) + [0x0A]
        }
        return comparable
    }
}

/// Input that is nearly right, or not at all.
enum HostileInput {
    static func make(_ random: inout SplitMix) -> [UInt8] {
        switch random.next() % 10 {
        case 0: return random.bytes(1 + Int(random.next() % 400))
        case 1: return [0xE5, 1, 1] + random.bytes(1 + Int(random.next() % 400))
        case 2...4: return mutated(lines(&random), &random)
        default: return mutated(frames(&random), &random)
        }
    }

    /// The same, now and then with bytes changed, cut out, doubled or put in.
    private static func mutated(_ bytes: [UInt8], _ random: inout SplitMix) -> [UInt8] {
        var bytes = bytes
        guard random.next() % 3 != 0, !bytes.isEmpty else { return bytes }
        for _ in 0..<1 + random.next() % 4 {
            guard !bytes.isEmpty else { return [0x0A] }
            let at = Int(random.next() % UInt64(bytes.count))
            let end = min(bytes.count, at + 1 + Int(random.next() % 50))
            switch random.next() % 7 {
            case 0: bytes[at] ^= 1 << UInt8(random.next() % 8)
            case 1: bytes[at] = UInt8(truncatingIfNeeded: random.next())
            case 2: bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, 0xE5, 0x0A, 0x0D][Int(random.next() % 8)]
            case 3: bytes.removeSubrange(at..<end)
            case 4: bytes.insert(contentsOf: bytes[at..<end], at: at)
            case 5: bytes.insert(contentsOf: random.bytes(end - at), at: at)
            default: bytes.removeLast(bytes.count - end)
            }
        }
        return bytes
    }

    static func number(_ random: inout SplitMix) -> UInt64 {
        let edges: [UInt64] = [
            0, 1, 63, 64, 65, 65_535, 65_536, 65_537, 1 << 31, 1 << 32, 1 << 53, 1 << 63,
            .max - 1, .max,
        ]
        return random.next() % 3 == 0 ? edges[Int(random.next() % 14)] : random.next() % 80
    }

    static func name(_ random: inout SplitMix) -> String {
        ["a", "b", "c", "a-longer-name", "", "b c"][Int(random.next() % 12) % 6]
    }

    /// Of an alloc: mostly whole.
    private static func description(_ random: inout SplitMix) -> [UInt8] {
        var shape: [UInt64]?
        if random.next() % 4 != 0 {
            shape = (0..<random.next() % 9).map { _ in
                random.next() % 8 == 0 ? number(&random) : random.next() % 4
            }
        }
        var payload = MemoryModel.Description(
            shape: shape, metadata: random.bytes(Int(random.next() % 260))
        ).payload
        if random.next() % 4 == 0 {
            payload[Int(random.next() % UInt64(payload.count))] = UInt8(random.next() % 256)
        }
        if random.next() % 8 == 0 { payload.removeLast(Int(random.next() % 18)) }
        return payload
    }

    private static func frames(_ random: inout SplitMix) -> [UInt8] {
        var bytes = random.next() % 12 == 0 ? [] : frame(.hello)
        bytes += frame(.alloc, type: 2, name: "a", size: 64)
        for _ in 0..<1 + random.next() % 14 {
            let operation = Operation.allCases[
                Int(random.next() % UInt64(Operation.allCases.count))]
            let isByName = random.next() % 2 == 0
            let handle = isByName ? 0 : UInt32(random.next() % 6)
            let name = isByName ? name(&random) : ""
            var (offset, size) = (number(&random), number(&random))
            var payload: [UInt8] = []
            var flags: UInt8 = 0
            var type: UInt8 = 0
            switch operation {
            case .alloc:
                type = UInt8(random.next() % 18)
                offset = 0
                flags = isByName && random.next() % 2 == 0 ? 2 : 0
                if random.next() % 4 == 0 { flags |= 4 }
                if random.next() % 3 == 0 {
                    flags |= 32
                    payload = description(&random)
                }
                if random.next() % 8 == 0 { size = 1 << 20 + random.next() % 4 * 8 }
            case .write where random.next() % 3 == 0:
                flags = 1
                offset = 0
                let sizes = (0..<1 + random.next() % 3).map { _ in random.next() % 40 }
                size = UInt64(sizes.count)
                payload = sizes.flatMap { numbers(number(&random), $0) }
                payload += random.bytes(Int(sizes.reduce(0, +)))
            case .write:
                size = random.next() % 20 == 0 ? 65_530 + random.next() % 20 : random.next() % 64
                payload = random.bytes(Int(size))
            case .read where random.next() % 3 == 0:
                flags = 1
                offset = 0
                size = 1 + random.next() % 4
                payload = (0..<size).flatMap { _ in numbers(number(&random), number(&random)) }
            case .fill: payload = random.bytes(Int(random.next() % 5))
            case .copy:
                payload = copyDest(
                    number(&random), handle: UInt32(random.next() % 3),
                    name: random.next() % 2 == 0 ? "a" : "")
            case .map:
                (offset, size) = (0, 0)
                flags = UInt8(random.next() % 4)
            case .rename:
                (offset, size) = (0, 0)
                payload = Array(self.name(&random).utf8)
            case .atomic:
                size = 0
                payload = numbers(
                    random.next() % 11, number(&random), random.next() % 4 == 0 ? 1 : 0)
            case .wait: payload = random.bytes(random.next() % 9 == 0 ? 3 : 4).map { $0 & 1 }
            case .cancel:
                (offset, size) = (0, 0)
                payload = numbers(random.next() % 4)
            case .notify: break
            case .watch: if random.next() % 2 == 0 { offset = 0 }
            case .truncate: offset = 0
            case .list: offset = random.next() % 1030
            default: (offset, size) = (0, 0)
            }
            bytes += frame(
                operation, flags: flags, type: type, cookie: random.next(), handle: handle,
                name: name, offset: offset, size: size, payload: payload)
        }
        return bytes
    }

    private static func lines(_ random: inout SplitMix) -> [UInt8] {
        var text = "alloc a 64\n"
        let verbs = [
            "alloc", "write", "read", "copy", "fill", "dispose", "truncate", "rename", "stat",
            "atomic", "wait", "notify", "watch",
            "list", "ping", "stats", "help", "QUIT", "frobnicate", "GET",
        ]
        for _ in 0..<1 + random.next() % 20 {
            let verb = verbs[Int(random.next() % (random.next() % 4 == 0 ? 20 : 17))]
            text += verb
            for position in 0..<Int(random.next() % 7) {
                text += random.next() % 9 == 0 ? "\t " : " "
                switch random.next() % 10 {
                case 0...3: text += "\(number(&random))"
                case 4...6: text += name(&random)
                case 7: text += ["hex:00ff", "base64:AAA=", "text: x y", "-1", "1.5"][position % 5]
                case 8:
                    text +=
                        [
                            "hex", "numbers", "base64", "add", "load", "compareExchange", "uint8",
                            "9",
                        ][
                            position % 8]
                default: text += ["NaN", "-0", "1e400", "Infinity", "nonsense", "é"][position % 6]
                }
            }
            text += random.next() % 3 == 0 ? "\r\n" : "\n"
        }
        return Array(text.utf8)
    }
}

private extension String {
    /// Where `text` stands first.
    func range(of text: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
