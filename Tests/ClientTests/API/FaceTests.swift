// The two faces of the library have the same calls: what the compiler knows of both is compared.

import Foundation
import Testing
import TestSupport

/// A declaration, as the compiler tells it.
private struct Symbol: Sendable {
    /// The names of the types that it stands in, and its own.
    let path: [String]
    /// As `class` or `method`.
    let kind: String
    let text: String

    /// Those of `Smalloc`, as it was built beside these tests.
    ///
    /// nil: there is no tool for it.
    static let all: [Symbol]? = try? extract()

    private static func run(_ words: [String]) throws -> String {
        let result = try Spawn.run(["/usr/bin/env"] + words, environment: [:], seconds: 50)
        let (code, output) = try #require(result)
        try #require(code == 0, "\(output)")
        return output
    }

    private static func extract() throws -> [Symbol] {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let products = URL(fileURLWithPath: ProjectFolder.executable("smalloc-cli"))
            .deletingLastPathComponent().path
        let info = Data(try run(["swiftc", "-print-target-info"]).utf8)
        let facts = try JSONSerialization.jsonObject(with: info) as? [String: Any]
        let triple = (facts?["target"] as? [String: Any])?["triple"] as? String
        _ = try run([
            "swift-symbolgraph-extract", "-module-name", "Smalloc",
            "-minimum-access-level", "public", "-target", triple ?? "",
            "-module-cache-path", folder + "/modules", "-I", products + "/Modules",
            "-Xcc", "-fmodule-map-file=\(products)/CSmalloc.build/module.modulemap",
            "-output-dir", folder,
        ])
        let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/Smalloc.symbols.json"))
        let graph = try JSONSerialization.jsonObject(with: data) as? [String: Any]
        return (graph?["symbols"] as? [[String: Any]] ?? []).map { symbol in
            let kind = (symbol["kind"] as? [String: Any])?["identifier"] as? String
            let fragments = symbol["declarationFragments"] as? [[String: Any]]
            return Symbol(
                path: symbol["pathComponents"] as? [String] ?? [],
                kind: String(kind?.dropFirst(6) ?? ""),
                text: (fragments ?? []).compactMap { $0["spelling"] as? String }.joined())
        }
    }
}

@Suite(
    "The two faces", .timed,
    .enabled(if: Symbol.all != nil, "there is no swift-symbolgraph-extract"))
struct FaceTests {
    /// What a type declares for everyone, as it would be without tasks; types within it left out.
    private func calls(of type: [String]) -> Set<String> {
        var calls: Set<String> = []
        for symbol in Symbol.all ?? [] where symbol.path.dropLast() == type[...] {
            if ["class", "struct", "enum", "protocol", "typealias"].contains(symbol.kind) {
                continue
            }
            var text = symbol.text
            for (asynchronous, blocking) in [
                ("get async", "get"), ("async ", ""), ("AsyncAllocation", "Allocation"),
                ("AsyncSmalloc", "Smalloc"), ("Smalloc.", ""), ("@discardableResult ", ""),
                ("throws(SmallocError)", "throws"),
            ] { text = text.replacingOccurrences(of: asynchronous, with: blocking) }
            calls.insert(text.split { $0.isWhitespace }.joined(separator: " "))
        }
        return calls
    }

    /// Those of either face that the other has not, which the manual tells.
    private static let onPurpose: [(type: String, blocking: [String], tasks: [String])] = [
        (
            "Allocation",
            [
                "func close() throws", "func throwIfFailed() throws", "init()",
                "subscript(index: Int) -> Double { get set }",
                "var allocation: Allocation? { get set }", "var lastError: SmallocError? { get }",
            ],
            ["func close()"]
        ),
        (
            "Smalloc",
            [
                "func alloc(_ length: Int, _ type: Int, shareable: Bool = false) throws "
                    + "-> Allocation",
                "func alloc<Receiver>(_ length: Int, _ receiver: Receiver, "
                    + "_ type: ElementType = .uint8, named name: String? = nil, "
                    + "shareable: Bool = false) throws -> Receiver where Receiver : AnyObject",
                "func alloc<Receiver>(_ length: Int, _ receiver: Receiver, _ type: Int, "
                    + "named name: String? = nil, shareable: Bool = false) throws -> Receiver "
                    + "where Receiver : AnyObject",
                "func copyOnto(_ source: AnyObject, _ sourceStart: Int, _ dest: AnyObject, "
                    + "_ destStart: Int, _ copyLength: Int) throws",
                "func dispose(_ obj: AnyObject) throws",
                "func hasExternalData(_ obj: AnyObject) -> Bool",
                "func list(_ prefix: String = \"\") throws -> [Entry]",
                "func open<Receiver>(_ name: String, _ receiver: Receiver) throws -> Receiver "
                    + "where Receiver : AnyObject",
                "func pages(_ prefix: String = \"\", limit: Int = 0) throws -> Pages",
                "func sliceOnto<Source>(_ source: Source, _ dest: AnyObject, _ start: Int, "
                    + "_ end: Int) throws -> Source where Source : AnyObject",
                "func truncate(_ obj: AnyObject, _ length: Int) throws",
                "static var Types: ElementTypes { get }",
                "static var standard: Smalloc { get throws }",
                "static var unreportedFailureHandler: @Sendable (SmallocError) -> Void { get set }",
                "var Types: ElementTypes { get }",
            ],
            [
                "func copyOnto(_ source: Allocation, _ sourceStart: Int, _ dest: Allocation, "
                    + "_ destStart: Int, _ copyLength: Int) throws",
                "func dispose(_ obj: Allocation) throws",
                "func hasExternalData(_ obj: Allocation) -> Bool",
                "func list(_ prefix: String = \"\", limit: Int = 0) -> Listing",
                "func truncate(_ obj: Allocation, _ length: Int) throws",
                "var executor: Executor { get }",
            ]
        ),
        ("Smalloc.Batch", [], []),
    ]

    @Test("they have the same calls, but for those that the manual tells of")
    func same() throws {
        for (type, blocking, tasks) in Self.onPurpose {
            let path = type.split(separator: ".").map(String.init)
            let one = calls(of: path)
            let other = calls(of: ["Async" + path[0]] + path.dropFirst())
            #expect(one.count >= 7 && other.count >= 7, "\(type)")
            for call in one.subtracting(other).symmetricDifference(blocking).sorted() {
                Issue.record("\(type), blocking: \(call)")
            }
            for call in other.subtracting(one).symmetricDifference(tasks).sorted() {
                Issue.record("\(type), for tasks: \(call)")
            }
        }
    }

    @Test("the manual names what they do not share")
    func manual() throws {
        let path = "Sources/Smalloc/Smalloc.docc/Smalloc.md"
        let text = try String(
            contentsOf: ProjectFolder.root.appendingPathComponent(path), encoding: .utf8)
        let section = try #require(
            text.components(separatedBy: "### What the faces do not share\n").last?
                .components(separatedBy: "\n### ").first)
        for call in Self.onPurpose.flatMap({ $0.blocking + $0.tasks }) {
            let name = call.split { " (<:".contains($0) }
                .first { !["func", "var", "static"].contains($0) }
            let words = [
                "init": "`Allocation()`", "subscript": "a[i]", "alloc": "as a receiver",
                "open": "as a receiver",
            ]
            let word = words[String(name ?? "")] ?? String(name ?? "?")
            #expect(section.contains(word), "\(word)")
        }
    }
}
