// What is asked of the library's asynchronous face.

import Smalloc

/// The asynchronous face.
@MainActor final class AsyncDriven: Driven {
    private var client: AsyncSmalloc?
    private var opened: [String: AsyncAllocation] = [:]
    /// A wait that goes on.
    private var waiting: Task<String, any Error>?

    private func connected() throws -> AsyncSmalloc {
        guard let client else { throw Unsupported() }
        return client
    }

    private func named(_ name: String) async throws -> AsyncAllocation {
        if let found = opened[name] { return found }
        let found = try await connected().open(name)
        opened[name] = found
        return found
    }

    func connect(_ address: String) async throws {
        close()
        client = try await AsyncSmalloc(address, options: driverOptions())
    }

    func close() {
        client?.close()
        client = nil
        opened = [:]
    }

    func ping() async throws { try await connected().ping() }
    func stats() async throws -> Smalloc.Stats { try await connected().stats() }

    func alloc(_ name: String, _ length: Int, _ type: ElementType) async throws {
        opened[name] = try await connected().alloc(length, named: name, type)
    }

    func open(_ name: String) async throws -> (type: ElementType, length: Int) {
        let found = try await connected().open(name)
        opened[name] = found
        return (found.type, found.length)
    }

    func stat(_ name: String) async throws -> Smalloc.Stat { try await connected().stat(name) }

    func list(_ prefix: String) async throws -> [Smalloc.Entry] {
        var entries: [Smalloc.Entry] = []
        for try await entry in try connected().list(prefix) { entries.append(entry) }
        return entries
    }

    func read(_ name: String, _ start: Int, _ count: Int) async throws -> [UInt8] {
        try await named(name).readBytes(from: start, count: count)
    }

    func write(_ name: String, _ start: Int, _ bytes: [UInt8]) async throws {
        try await named(name).write(bytes: bytes, at: start)
    }

    func fill(_ name: String, _ start: Int, _ count: Int, _ bytes: [UInt8]) async throws {
        try await named(name).fill(repeatingBytes: bytes, from: start, count: count)
    }

    func truncate(_ name: String, _ length: Int) async throws {
        try await named(name).truncate(length)
    }

    func rename(_ name: String, _ new: String, _ replace: Bool) async throws {
        let found = try await named(name)
        try await found.rename(to: new, replacing: replace)
        opened[new] = found
        opened[name] = nil
    }

    func freeze(_ name: String) async throws { try await connected().freeze(name) }

    func dispose(_ name: String) async throws {
        try await connected().dispose(named: name)
        opened[name] = nil
    }

    func copy(_ asked: Asked) async throws {
        let source = try await named(asked.text("source"))
        let dest = try await named(asked.text("dest"))
        try await connected().copyOnto(
            source, asked.number("start"), dest, asked.number("destStart"), asked.number("count"))
    }

    func atomic(_ name: String, _ index: Int, _ action: String, _ value: Int32, _ expected: Int32)
        async throws -> Int32
    {
        let found = try await named(name)
        return switch action {
        case "load": try await found.atomicLoad(index)
        case "store", "exchange": try await found.atomicExchange(value, at: index)
        case "add": try await found.atomicAdd(value, at: index)
        case "sub": try await found.atomicSubtract(value, at: index)
        case "and": try await found.atomicAnd(value, at: index)
        case "or": try await found.atomicOr(value, at: index)
        case "xor": try await found.atomicXor(value, at: index)
        default:
            try await found.atomicCompareExchange(
                at: index, expected: expected, desired: value
            ).original
        }
    }

    func notify(_ name: String, _ index: Int) async throws -> Int {
        try await named(name).notify(at: index)
    }

    func wait(_ asked: Asked) async throws -> String? {
        let found = try await named(asked.name)
        let (index, value) = (asked.number("index"), Int32(asked.number("value")))
        let timeout = Duration.milliseconds(asked.number("milliseconds"))
        if !asked.flag("background") {
            return try await found.wait(at: index, while: value, timeout: timeout).name
        }
        waiting = Task.detached {
            try await found.wait(at: index, while: value, timeout: timeout).name
        }
        return nil
    }

    func result() async throws -> String {
        guard let waiting else { throw Unsupported() }
        return try await waiting.value
    }
}
