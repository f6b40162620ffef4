// Random operations, in frames and in lines, against a model so simple that it can be believed.
// SMALLOC_SEED repeats a run, SMALLOC_EVENTS makes it longer.

import class Foundation.ProcessInfo
import Glibc
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Memory against a model", .timed)
struct RegistryModelTests {
    @Test("random operations answer and leave behind what the model says")
    func model() {
        let wanted = ProcessInfo.processInfo.environment["SMALLOC_EVENTS"].flatMap { Int($0) }
        let events = wanted ?? Scale.count(20_000)
        var run = ModelRun(SplitMix(for: "model of the memory"))
        for event in 0..<events {
            run.step()
            if event % 250 == 0 { run.compareAll() }
            if run.failed {
                Issue.record("event \(event) of seed \(run.random.seed): \(run.last)")
                return
            }
        }
        run.compareAll()
        #expect(!run.failed)
        run.end()
    }
}

/// One run: a daemon, three connections, and the model beside them.
private struct ModelRun {
    static let lengthMax = 300_000
    var random: SplitMix
    let daemon = TestDaemon(warmSizeMax: 1 << 20) { $0.lengthSizeMax = UInt64(lengthMax) }
    var model = MemoryModel(connections: 3, lengthMax: lengthMax)
    /// Two binary connections, then one of text.
    var peers: [TestPeer]
    var failed = false
    var last = ""

    init(_ random: SplitMix) {
        self.random = random
        peers = [
            daemon.greeted(mapping: true), daemon.greeted(mapping: true), daemon.connect(),
        ]
    }

    // MARK: Choices

    mutating func below(_ limit: Int) -> Int { Int(random.next() % UInt64(limit)) }

    mutating func name() -> String {
        let names = [
            "a", "b", "c", "ab", "d/e", String(repeating: "n", count: 255), "with-a-longer-name",
            "f", "g", "é",
        ]
        return names[below(names.count)]
    }

    mutating func target(_ connection: Int) -> MemoryModel.Target {
        if connection == 2 || below(3) == 0 { return .name(name()) }
        if below(8) > 0,
            let handle = model.handles[connection].keys.sorted().randomElement(using: &random)
        {
            return .handle(handle)
        }
        return .handle(UInt32(below(12) + 1))
    }

    /// A number that often lies at an edge of something `length` long.
    mutating func number(around length: Int) -> UInt64 {
        switch below(12) {
        case 0: 0
        case 1: UInt64(length)
        case 2: UInt64(length) + 1
        case 3: [UInt64.max, 1 << 63, 1 << 32, UInt64.max - 1][below(4)]
        default: UInt64(below(max(1, length)))
        }
    }

    mutating func length(of target: MemoryModel.Target, _ connection: Int) -> Int {
        guard let id = try? model.find(target, connection: connection) else { return 16 }
        return model.entries[id]?.bytes.count ?? 16
    }

    /// A range, mostly inside.
    mutating func range(in length: Int) -> (UInt64, UInt64) {
        if below(6) == 0 { return (number(around: length), number(around: length)) }
        let start = below(length + 1)
        return (UInt64(start), UInt64(below(length - start + 1)))
    }

    // MARK: Steps

    mutating func step() {
        let connection = below(3)
        if connection == 2 { return textStep() }
        if below(600) == 0 { return reconnect(connection) }
        let target = target(connection)
        let length = length(of: target, connection)
        switch below(14) {
        case 13: map(target, connection)
        case 0, 1: alloc(connection)
        case 2: open(connection)
        case 3: below(3) == 0 ? dispose(target, connection) : close(target, connection)
        case 4: truncate(target, length, connection)
        case 5: rename(target, connection)
        case 6, 7: read(target, length, connection)
        case 8, 9: write(target, length, connection)
        case 10: fill(target, length, connection)
        default: copy(target, length, connection)
        }
    }

    mutating func reconnect(_ connection: Int) {
        peers[connection].session.end(daemon.loop)
        peers[connection].isClosed = true
        model.endConnection(connection)
        peers[connection] = daemon.greeted(mapping: true)
    }

    mutating func call(
        _ operation: Operation, _ target: MemoryModel.Target, _ connection: Int, flags: UInt8 = 0,
        offset: UInt64 = 0, size: UInt64 = 0, payload: [UInt8] = []
    ) -> Reply {
        var (handle, name): (UInt32, String) = (0, "")
        switch target {
        case .handle(let number): handle = number
        case .name(let text): name = text
        }
        last = "\(operation) \(target) \(offset) \(size) of connection \(connection)"
        return peers[connection].call(
            operation, flags: flags, handle: handle, name: name, offset: offset, size: size,
            payload: payload)
    }

    /// Compares the outcome of a reply with that of the model.
    mutating func expect(
        _ reply: Reply, _ body: (inout MemoryModel) throws(MemoryModel.Refusal) -> Void
    ) {
        var outcome = "ok"
        do throws(MemoryModel.Refusal) { try body(&model) } catch { outcome = error.outcome }
        if reply.outcome != outcome { fail("got \(reply.outcome), model \(outcome)") }
    }

    mutating func fail(_ what: String) {
        failed = true
        last += ": " + what
    }

    mutating func alloc(_ connection: Int) {
        let name = below(4) == 0 ? nil : name()
        let type = UInt8(below(30) == 0 ? below(256) : 1 + below(16))
        let unit = UInt64(MemoryModel.size(of: type) ?? 1)
        var size = UInt64(below(100)) * unit
        switch below(40) {
        case 0: size = number(around: ModelRun.lengthMax)
        case 1: size = UInt64(65_536 + below(200_000)) / 8 * 8
        case 2: size += 1
        default: break
        }
        let noHandle = name != nil && below(3) == 0
        let description = below(3) == 0 ? description(size / unit) : nil
        last = "alloc \(name ?? "-") type \(type) size \(size) \(description?.shape ?? [])"
        let shareable = below(10) == 0 ? 4 : 0
        let flags = (noHandle ? 2 : 0) | shareable | (description == nil ? 0 : 32)
        let reply = peers[connection].call(
            .alloc, flags: UInt8(flags), type: type, name: name ?? "", size: size,
            payload: description?.payload ?? [])
        var made: Int?
        expect(reply) { model throws(MemoryModel.Refusal) in
            made = try model.alloc(name, type, size, description, connection: connection)
        }
        guard let made, !failed else { return }
        if reply.header.size != size || reply.header.type != type { fail("size or type") }
        if noHandle != (reply.header.handle == 0) { return fail("handle") }
        if !noHandle { model.opened(reply.header.handle, made, connection: connection) }
    }

    /// Maps, looks at all of it, and writes through the mapping.
    mutating func map(_ target: MemoryModel.Target, _ connection: Int) {
        let reply = call(.map, target, connection, flags: UInt8(1 + 2 * below(2)))
        var found: Int?
        expect(reply) { model throws(MemoryModel.Refusal) in
            found = try model.find(target, connection: connection)
        }
        guard let found, !failed, let entry = model.entries[found] else { return }
        let size = entry.bytes.count
        if reply.header.size != UInt64(size) { return fail("size") }
        guard size > 0 else { return }
        let descriptors = peers[connection].takeDescriptors()
        defer { for descriptor in descriptors { Glibc.close(descriptor) } }
        guard let file = descriptors.first, let start = mapped(file, size) else {
            return fail("no mapping")
        }
        defer { munmap(start, size) }
        if !UnsafeRawBufferPointer(start: start, count: size).elementsEqual(entry.bytes) {
            return fail("mapped bytes differ")
        }
        let (at, byte) = (below(size), UInt8(below(256)))
        start.storeBytes(of: byte, toByteOffset: at, as: UInt8.self)
        model.entries[found]?.bytes[at] = byte
    }

    private func mapped(_ file: Int32, _ size: Int) -> UnsafeMutableRawPointer? {
        let start = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
        return start == MAP_FAILED ? nil : start
    }

    /// A shape that fits now and then, and metadata; either may be missing.
    mutating func description(_ length: UInt64) -> MemoryModel.Description {
        var shape: [UInt64]?
        switch below(4) {
        case 0: break
        case 1: shape = (0..<below(9)).map { _ in UInt64(below(4)) }
        default:
            // Factors of the length.
            var left = length
            shape = []
            for factor in [2, 3, 5, 7] as [UInt64] where left > 0 && left % factor == 0 {
                shape?.append(factor)
                left /= factor
            }
            shape?.append(left)
        }
        let size = [0, 1, 7, 8, 9, 255, 256][below(7)]
        return MemoryModel.Description(shape: shape, metadata: random.bytes(size))
    }

    mutating func open(_ connection: Int) {
        let name = name()
        let reply = call(.open, .name(name), connection)
        var found: Int?
        expect(reply) { model throws(MemoryModel.Refusal) in
            found = try model.find(.name(name), connection: connection)
        }
        guard let found, !failed else { return }
        model.opened(reply.header.handle, found, connection: connection)
        let entry = model.entries[found]
        if reply.header.size != UInt64(entry?.bytes.count ?? -1) || reply.header.type != entry?.type
        {
            fail("size or type")
        }
    }

    mutating func close(_ target: MemoryModel.Target, _ connection: Int) {
        guard case .handle(let handle) = target else { return }
        expect(call(.close, target, connection)) { model throws(MemoryModel.Refusal) in
            try model.close(handle, connection: connection)
        }
    }

    mutating func dispose(_ target: MemoryModel.Target, _ connection: Int) {
        expect(call(.dispose, target, connection)) { model throws(MemoryModel.Refusal) in
            try model.dispose(target, connection: connection)
        }
    }

    mutating func truncate(_ target: MemoryModel.Target, _ length: Int, _ connection: Int) {
        let size = below(3) == 0 ? number(around: length) : UInt64(below(length + 1) / 8 * 8)
        expect(call(.truncate, target, connection, size: size)) {
            model throws(MemoryModel.Refusal) in
            try model.truncate(target, size, connection: connection)
        }
    }

    mutating func rename(_ target: MemoryModel.Target, _ connection: Int) {
        let name = name()
        let replaces = below(3) == 0
        let reply = call(
            .rename, target, connection, flags: replaces ? 1 : 0, payload: Array(name.utf8))
        expect(reply) { model throws(MemoryModel.Refusal) in
            try model.rename(target, name, replaces: replaces, connection: connection)
        }
    }

    mutating func read(_ target: MemoryModel.Target, _ length: Int, _ connection: Int) {
        let vectored = below(3) == 0
        let ranges = (0..<(vectored ? 1 + below(4) : 1)).map { _ in range(in: length) }
        let reply =
            vectored
            ? call(
                .read, target, connection, flags: 1, size: UInt64(ranges.count),
                payload: ranges.flatMap { numbers($0.0, $0.1) })
            : call(.read, target, connection, offset: ranges[0].0, size: ranges[0].1)
        var bytes: [UInt8] = []
        expect(reply) { model throws(MemoryModel.Refusal) in
            bytes = try model.read(target, ranges, connection: connection)
        }
        if !failed, reply.status == .ok, reply.payload != bytes { fail("bytes differ") }
    }

    mutating func write(_ target: MemoryModel.Target, _ length: Int, _ connection: Int) {
        let vectored = below(3) == 0
        let small = min(length + 2, 400_000)
        var ranges: [(UInt64, UInt64)] = []
        for _ in 0..<(vectored ? 1 + below(4) : 1) {
            let (start, count) = range(in: small)
            ranges.append((start, count > 400_000 ? 3 : count))
        }
        let data = random.bytes(ranges.reduce(0) { $0 + Int($1.1) })
        let reply =
            vectored
            ? call(
                .write, target, connection, flags: 1, size: UInt64(ranges.count),
                payload: ranges.flatMap { numbers($0.0, $0.1) } + data)
            : call(
                .write, target, connection, offset: ranges[0].0, size: ranges[0].1, payload: data)
        expect(reply) { model throws(MemoryModel.Refusal) in
            try model.write(target, ranges, data, connection: connection)
        }
        if !failed, reply.status == .ok, reply.header.size != UInt64(data.count) { fail("size") }
    }

    mutating func fill(_ target: MemoryModel.Target, _ length: Int, _ connection: Int) {
        let pattern = random.bytes(below(20) == 0 ? below(70) : 1 + below(4))
        var (start, count) = range(in: length)
        if below(4) > 0, !pattern.isEmpty, count < 1 << 30 {
            count = count / UInt64(pattern.count) * UInt64(pattern.count)
        }
        let reply = call(.fill, target, connection, offset: start, size: count, payload: pattern)
        expect(reply) { model throws(MemoryModel.Refusal) in
            try model.fill(target, start, count, pattern, connection: connection)
        }
        start = 0
    }

    mutating func copy(_ source: MemoryModel.Target, _ length: Int, _ connection: Int) {
        let dest = below(4) == 0 ? source : target(connection)
        let destLength = self.length(of: dest, connection)
        let (start, count) = range(in: min(length, destLength))
        let destStart =
            below(5) == 0
            ? number(around: destLength)
            : UInt64(below(max(1, destLength + 1 - min(destLength, Int(min(count, 1 << 30))))))
        let payload: [UInt8]
        switch dest {
        case .handle(let handle): payload = copyDest(destStart, handle: handle)
        case .name(let name): payload = copyDest(destStart, name: name)
        }
        let reply = call(.copy, source, connection, offset: start, size: count, payload: payload)
        expect(reply) { model throws(MemoryModel.Refusal) in
            try model.copy(source, start, dest, destStart, count, connection: connection)
        }
    }

    // MARK: Text

    mutating func textStep() {
        let name = name()
        let id = model.names[name]
        let type = id.flatMap { model.entries[$0]?.type } ?? 2
        let unit = MemoryModel.size(of: type) ?? 1
        let length = (id.flatMap { model.entries[$0]?.bytes.count } ?? 8) / unit
        let elements = UInt64(unit)
        var (start, count) = range(in: min(length, 100))
        // Beyond 2^59 the product would wrap here; the edges are tested elsewhere.
        start = min(start, 1 << 59)
        count = min(count, 1 << 59)
        switch below(8) {
        case 0:
            let new = UInt8(1 + below(16)), size = UInt64(below(40))
            let word = ElementType(rawValue: new)?.name ?? ""
            expectLine("alloc \(name) \(size) \(word)") { model throws(MemoryModel.Refusal) in
                let unit = UInt64(MemoryModel.size(of: new) ?? 1)
                _ = try model.alloc(name, new, size * unit, connection: 2)
            }
        case 1:
            expectLine("dispose \(name)") { model throws(MemoryModel.Refusal) in
                try model.dispose(.name(name), connection: 2)
            }
        case 2:
            let other = self.name()
            let replaces = below(3) == 0
            expectLine("rename \(name) \(other)" + (replaces ? " replace" : "")) {
                model throws(MemoryModel.Refusal) in
                try model.rename(.name(name), other, replaces: replaces, connection: 2)
            }
        case 3:
            expectLine("truncate \(name) \(start)") { model throws(MemoryModel.Refusal) in
                try model.truncate(.name(name), start * elements, connection: 2)
            }
        case 4:
            let data = random.bytes(Int(min(count, 50)) * unit)
            let text = data.isEmpty ? "hex:" : "hex:" + hex(data)
            expectLine("write \(name) \(start) \(text)") { model throws(MemoryModel.Refusal) in
                try model.write(
                    .name(name), [(start * elements, UInt64(data.count))], data, connection: 2)
            }
        case 5:
            let pattern = random.bytes(unit)
            expectLine("fill \(name) \(start) \(count) hex:\(hex(pattern))") {
                model throws(MemoryModel.Refusal) in
                try model.fill(
                    .name(name), start * elements, count * elements, pattern, connection: 2)
            }
        case 6:
            let other = self.name()
            let otherUnit =
                model.names[other].flatMap { model.entries[$0]?.type }
                .flatMap { MemoryModel.size(of: $0) } ?? 1
            let to = UInt64(below(12))
            expectLine("copy \(name) \(start) \(other) \(to) \(count)") {
                model throws(MemoryModel.Refusal) in
                try model.copy(
                    .name(name), start * elements, .name(other), to * UInt64(otherUnit),
                    count * elements, connection: 2)
            }
        default:
            var bytes: [UInt8] = []
            expectLine("read \(name) \(start) \(count) hex", answer: { "OK hex:" + hex(bytes) }) {
                model throws(MemoryModel.Refusal) in
                bytes = try model.read(
                    .name(name), [(start * elements, count * elements)], connection: 2)
            }
        }
    }

    mutating func expectLine(
        _ line: String, answer: () -> String = { "OK" },
        _ body: (inout MemoryModel) throws(MemoryModel.Refusal) -> Void
    ) {
        last = line
        let got = peers[2].line(line)
        var outcome: String?
        do throws(MemoryModel.Refusal) { try body(&model) } catch {
            outcome = "ERR " + error.outcome
        }
        let expected = outcome ?? answer()
        if got != expected { fail("got \(got.prefix(200)), model \(expected.prefix(200))") }
    }

    // MARK: Comparing everything

    mutating func compareAll() {
        guard !failed else { return }
        // Many handles of a connection that has ended are closed by another thread.
        if !eventually({ daemon.registry.mappings.isIdle }) { fail("memory is on its way back") }
        daemon.registry.checkInvariants()
        var listed: [String: (type: UInt8, size: UInt64)] = [:]
        var cursor: UInt64 = 0
        repeat {
            let page = peers[0].call(.list, offset: cursor, size: 7)
            cursor = page.header.offset
            var rest = page.payload[...]
            for _ in 0..<page.header.size {
                let size = rest.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                let type = rest[rest.startIndex + 8]
                let nameSize = Int(rest[rest.startIndex + 9])
                let name = String(decoding: rest.dropFirst(10).prefix(nameSize), as: UTF8.self)
                if listed[name] != nil { fail("\(name) is listed twice") }
                listed[name] = (type, size)
                rest = rest.dropFirst(10 + nameSize)
            }
        } while cursor != 0
        if Set(listed.keys) != Set(model.names.keys) { fail("names differ") }
        for (name, id) in model.names {
            let entry = model.entries[id]
            if listed[name]?.type != entry?.type
                || listed[name]?.size != UInt64(entry?.bytes.count ?? -1)
            {
                fail("the listing of \(name) differs")
            }
            if let entry { checkStat(peers[1].call(.stat, name: name), entry) }
            let size = UInt64(entry?.bytes.count ?? 0)
            let bytes = peers[1].call(.read, name: name, size: size).payload
            if bytes != entry?.bytes { fail("the bytes of \(name) differ") }
        }
        for connection in 0..<2 {
            if peers[connection].openHandles != model.handles[connection].count {
                fail("open handles differ")
            }
            for (handle, id) in model.handles[connection] {
                let reply = peers[connection].call(.stat, handle: handle)
                let entry = model.entries[id]
                if (reply.status == .ok) != (entry != nil) { fail("handle \(handle) differs") }
                if let entry { checkStat(reply, entry) }
            }
        }
        if daemon.registry.budget.allocationCount != UInt64(model.entries.count) {
            fail("\(daemon.registry.budget.allocationCount) allocations, \(model.entries.count)")
        }
    }

    /// Compares what stat tells with the model, but for times and handles.
    mutating func checkStat(_ reply: Reply, _ entry: MemoryModel.Entry) {
        if reply.header.size != UInt64(entry.bytes.count) { fail("size") }
        let description =
            entry.description ?? MemoryModel.Description(shape: nil, metadata: [])
        let isDescribed = description.shape != nil || !description.metadata.isEmpty
        let name = entry.name.map { Array($0.utf8) } ?? []
        var told = Array(reply.payload.dropFirst(name.count + 24))
        // Whether it was made to be mapped, and can be, is beyond the model.
        if !told.isEmpty { told[0] &= ~(4 | 128) }
        let length = entry.bytes.count / (MemoryModel.size(of: entry.type) ?? 1)
        let expected =
            numbers(isDescribed ? 32 : 0, 0, .max, .max, .max) + description.told(length)
        if told != expected || !reply.payload.starts(with: name) {
            fail("stat of \(entry.name ?? "-") differs")
        }
    }

    /// Gives everything back; nothing may be charged after that.
    mutating func end() {
        for connection in 0..<2 {
            peers[connection].session.end(daemon.loop)
            peers[connection].isClosed = true
            model.endConnection(connection)
        }
        for name in model.names.keys { #expect(peers[2].line("dispose \(name)") == "OK") }
        #expect(daemon.settledSize == 0)
        #expect(daemon.registry.budget.allocationCount == 0)
        #expect(daemon.registry.budget.pooledSize == 0)
    }
}
