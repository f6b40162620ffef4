// What is asked of the library's synchronous face.

import Smalloc

/// The synchronous face.
@MainActor final class BlockingDriven: Driven {
    private var client: Smalloc?
    private var opened: [String: Allocation] = [:]

    private func connected() throws -> Smalloc {
        guard let client else { throw Unsupported() }
        return client
    }

    private func named(_ name: String) async throws -> Allocation {
        if let found = opened[name] { return found }
        let found = try connected().open(name)
        opened[name] = found
        return found
    }

    func connect(_ address: String) async throws {
        close()
        client = try Smalloc(address, options: driverOptions())
    }

    func close() {
        client?.close()
        client = nil
        opened = [:]
    }

    func ping() async throws { try connected().ping() }
    func stats() async throws -> Smalloc.Stats { try connected().stats() }

    func alloc(_ name: String, _ length: Int, _ type: ElementType) async throws {
        opened[name] = try connected().alloc(length, named: name, type)
    }

    func open(_ name: String) async throws -> (type: ElementType, length: Int) {
        let found = try connected().open(name)
        opened[name] = found
        return (found.type, found.length)
    }

    func stat(_ name: String) async throws -> Smalloc.Stat { try connected().stat(name) }

    func list(_ prefix: String) async throws -> [Smalloc.Entry] { try connected().list(prefix) }

    func read(_ name: String, _ start: Int, _ count: Int) async throws -> [UInt8] {
        let found = try await named(name)
        var bytes = [UInt8](repeating: 0, count: count * found.type.size)
        try bytes.withUnsafeMutableBytes { bytes in
            try found.read(into: bytes, from: start)
        }
        return bytes
    }

    func write(_ name: String, _ start: Int, _ bytes: [UInt8]) async throws {
        let found = try await named(name)
        try bytes.withUnsafeBytes { bytes in
            try found.write(bytes, at: start)
        }
    }

    func fill(_ name: String, _ start: Int, _ count: Int, _ bytes: [UInt8]) async throws {
        let found = try await named(name)
        try bytes.withUnsafeBytes { bytes in
            try found.fill(repeating: bytes, from: start, count: count)
        }
    }

    func truncate(_ name: String, _ length: Int) async throws {
        try await named(name).truncate(length)
    }

    func rename(_ name: String, _ new: String, _ replace: Bool) async throws {
        let found = try await named(name)
        try found.rename(to: new, replacing: replace)
        opened[new] = found
        opened[name] = nil
    }

    func freeze(_ name: String) async throws { try connected().freeze(name) }

    func dispose(_ name: String) async throws {
        try connected().dispose(named: name)
        opened[name] = nil
    }

    func copy(_ asked: Asked) async throws {
        let source = try await named(asked.text("source"))
        let dest = try await named(asked.text("dest"))
        try connected().copyOnto(
            source, asked.number("start"), dest, asked.number("destStart"), asked.number("count"))
    }

    func atomic(_ name: String, _ index: Int, _ action: String, _ value: Int32, _ expected: Int32)
        async throws -> Int32
    {
        let found = try await named(name)
        return switch action {
        case "load": try found.atomicLoad(index)
        case "store", "exchange": try found.atomicExchange(value, at: index)
        case "add": try found.atomicAdd(value, at: index)
        case "sub": try found.atomicSubtract(value, at: index)
        case "and": try found.atomicAnd(value, at: index)
        case "or": try found.atomicOr(value, at: index)
        case "xor": try found.atomicXor(value, at: index)
        default:
            try found.atomicCompareExchange(
                at: index, expected: expected, desired: value
            ).original
        }
    }

    func notify(_ name: String, _ index: Int) async throws -> Int {
        try await named(name).notify(at: index)
    }

    /// This face serves one call at a time: none goes on beside a wait.
    func wait(_ asked: Asked) async throws -> String? {
        if asked.flag("background") { throw Unsupported() }
        let (index, value) = (asked.number("index"), Int32(asked.number("value")))
        let timeout = Duration.milliseconds(asked.number("milliseconds"))
        return try await named(asked.name).wait(at: index, while: value, timeout: timeout).name
    }

    func result() async throws -> String { throw Unsupported() }
}
