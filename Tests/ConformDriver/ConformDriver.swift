// Drives the library for `smalloc-conform client`: lines of JSON in and out, as
// protocol/conform/README.md describes them.

import Foundation
import Smalloc

/// What is asked for that this face of the library does not do.
struct Unsupported: Error {}

/// Its argument is `async` or `blocking`: the face of the library that is driven.
@main struct ConformDriver {
    @MainActor static func main() async throws {
        let isAsync = CommandLine.arguments.dropFirst().first == "async"
        let driven: any Driven = isAsync ? AsyncDriven() : BlockingDriven()
        while let line = readLine() {
            let asked = try JSONSerialization.jsonObject(with: Data(line.utf8))
            guard let words = asked as? [String: Any] else { exit(2) }
            let answer = try JSONSerialization.data(
                withJSONObject: await answered(driven, Asked(words: words)))
            print(String(decoding: answer, as: UTF8.self))
            fflush(nil)
        }
    }

    @MainActor private static func answered(_ driven: any Driven, _ asked: Asked) async
        -> [String: Any]
    {
        do {
            return ["ok": try await done(driven, asked)]
        } catch let error as SmallocError {
            return ["error": error.status.symbol]
        } catch {
            return ["unsupported": true]
        }
    }

    @MainActor private static func done(_ driven: any Driven, _ asked: Asked) async throws -> Any {
        switch asked.text("do") {
        case "connect": try await driven.connect(asked.text("address"))
        case "close": driven.close()
        case "ping": try await driven.ping()
        case "stats": return try await driven.stats()[asked.text("key")] ?? ""
        case "alloc":
            guard let type = ElementType(named: asked.text("type")) else { throw Unsupported() }
            try await driven.alloc(asked.name, asked.number("length"), type)
        case "open": return told(try await driven.open(asked.name))
        case "stat":
            let stat = try await driven.stat(asked.name)
            return told((stat.type, stat.length))
        case "list":
            let entries = try await driven.list(asked.text("prefix"))
            return entries.sorted { $0.name < $1.name }
                .map { [$0.name, $0.type.name, $0.length] as [Any] }
        case "read":
            return hex(
                try await driven.read(asked.name, asked.number("start"), asked.number("count")))
        case "write":
            try await driven.write(asked.name, asked.number("start"), asked.bytes)
        case "fill":
            try await driven.fill(
                asked.name, asked.number("start"), asked.number("count"), asked.bytes)
        case "copy": try await driven.copy(asked)
        case "truncate": try await driven.truncate(asked.name, asked.number("length"))
        case "rename":
            try await driven.rename(asked.name, asked.text("to"), asked.flag("replace"))
        case "freeze": try await driven.freeze(asked.name)
        case "dispose": try await driven.dispose(asked.name)
        case "atomic":
            return Int(
                try await driven.atomic(
                    asked.name, asked.number("index"), asked.text("action"),
                    Int32(asked.number("value")), Int32(asked.number("expected"))))
        case "wait": return try await driven.wait(asked) ?? NSNull()
        case "notify": return try await driven.notify(asked.name, asked.number("index"))
        case "result": return try await driven.result()
        default: throw Unsupported()
        }
        return NSNull()
    }

    private static func told(_ found: (type: ElementType, length: Int)) -> [String: Any] {
        ["type": found.type.name, "length": found.length]
    }
}

/// One line of what is asked.
struct Asked {
    let words: [String: Any]

    var name: String { text("name") }
    func text(_ key: String) -> String { words[key] as? String ?? "" }
    func number(_ key: String) -> Int { words[key] as? Int ?? 0 }
    func flag(_ key: String) -> Bool { words[key] as? Bool ?? false }
    var bytes: [UInt8] {
        let digits = text("hex").utf8.compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(digits[$0] << 4 | digits[$0 + 1])
        }
    }
}

/// What is done with either face of the library.
@MainActor protocol Driven {
    func connect(_ address: String) async throws
    func close()
    func ping() async throws
    func stats() async throws -> Smalloc.Stats
    func alloc(_ name: String, _ length: Int, _ type: ElementType) async throws
    func open(_ name: String) async throws -> (type: ElementType, length: Int)
    func stat(_ name: String) async throws -> Smalloc.Stat
    func list(_ prefix: String) async throws -> [Smalloc.Entry]
    func read(_ name: String, _ start: Int, _ count: Int) async throws -> [UInt8]
    func write(_ name: String, _ start: Int, _ bytes: [UInt8]) async throws
    func fill(_ name: String, _ start: Int, _ count: Int, _ bytes: [UInt8]) async throws
    func copy(_ asked: Asked) async throws
    func truncate(_ name: String, _ length: Int) async throws
    func rename(_ name: String, _ new: String, _ replace: Bool) async throws
    func freeze(_ name: String) async throws
    func dispose(_ name: String) async throws
    func atomic(_ name: String, _ index: Int, _ action: String, _ value: Int32, _ expected: Int32)
        async throws -> Int32
    /// Nil: it goes on, and `result` tells how it has ended.
    func wait(_ asked: Asked) async throws -> String?
    func notify(_ name: String, _ index: Int) async throws -> Int
    func result() async throws -> String
}

/// A lost connection stays lost: what is asked next must not make another one.
func driverOptions() -> Smalloc.Options {
    var options = Smalloc.Options()
    options.reconnects = false
    options.requestTimeout = .seconds(15)
    options.connectTimeout = .seconds(15)
    return options
}

private func hex(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(
        decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}
