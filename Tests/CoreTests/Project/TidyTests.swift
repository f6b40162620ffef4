// What the sources must keep to, beyond what the compiler and the formatter see.

import Foundation
import Testing
import TestSupport

@testable import SmallocCore
import SmallocWire

@Suite("Tidiness of the tree", .timed)
struct TidyTests {
    /// A source file: its path below Sources, and its lines.
    private struct File {
        var path: String
        var lines: [Substring]
        var module: String { String(path.prefix { $0 != "/" }) }
    }

    private static let sources: [File] = {
        let root = ProjectFolder.root.appendingPathComponent("Sources")
            .resolvingSymlinksInPath().path
        let paths = FileManager.default.subpaths(atPath: root) ?? []
        return paths.filter { $0.hasSuffix(".swift") }.sorted().compactMap { path in
            guard let text = try? String(contentsOfFile: root + "/" + path, encoding: .utf8) else {
                return nil
            }
            return File(
                path: path, lines: text.split(separator: "\n", omittingEmptySubsequences: false))
        }
    }()

    /// Modules that each file of a module imports.
    private func imports(_ file: File) -> [String] {
        file.lines.compactMap { line in
            let words = line.split(separator: " ")
            guard let at = words.firstIndex(of: "import"), at <= 2, at + 1 < words.count,
                words[..<at].allSatisfy({
                    [
                        "public", "internal", "package", "private",
                        "@testable", "fileprivate",
                    ].contains($0)
                })
            else { return nil }
            return String(words[at + 1])
        }
    }

    @Test("there are sources to look at")
    func found() {
        let modules = Set(TidyTests.sources.map(\.module))
        #expect(modules.isSuperset(of: ["SmallocWire", "SmallocCore", "Smalloc", "smallocd"]))
        #expect(TidyTests.sources.count > 40)
    }

    @Test("only the daemon knows libuv, and of it only the HTTP listener libmicrohttpd")
    func libuv() {
        for file in TidyTests.sources where imports(file).contains("CLibuv") {
            #expect(file.module == "smallocd", "\(file.path)")
        }
        for file in TidyTests.sources where imports(file).contains("CMicroHTTPD") {
            #expect(file.path.hasPrefix("smallocd/HTTP/"), "\(file.path)")
        }
    }

    @Test("the wire knows nothing, the core knows the wire, the client never sees the core")
    func directions() {
        let allowed: [String: Set<String>] = [
            "SmallocWire": ["Glibc", "Musl", "Darwin"],
            "SmallocCore": [
                "SmallocWire", "SmallocSystem", "CSmalloc", "Glibc", "Musl", "Darwin",
                "Synchronization",
            ],
        ]
        for file in TidyTests.sources {
            let found = Set(imports(file))
            if let allowed = allowed[file.module] {
                #expect(found.isSubset(of: allowed), "\(file.path)")
            }
            if ["Smalloc", "smalloc-cli"].contains(file.module) {
                #expect(!found.contains("SmallocCore"), "\(file.path)")
            }
        }
    }

    @Test("no file is over 500 lines, no line over 100 columns")
    func sizes() {
        for file in TidyTests.sources {
            #expect(file.lines.count <= 501, "\(file.path) has \(file.lines.count - 1) lines")
            for (index, line) in file.lines.enumerated() where line.count > 100 {
                Issue.record("\(file.path):\(index + 1) has \(line.count) columns")
            }
        }
    }

    @Test("every file says at its top what it is for")
    func headers() {
        for file in TidyTests.sources where file.module != "smalloc-bench" {
            let first = file.lines.first ?? ""
            #expect(first.hasPrefix("//"), "\(file.path)")
        }
    }

    @Test("every operation has its page in the specification and its number in values.json")
    func operations() throws {
        let spec = String(
            decoding: try ProjectFolder.contents(ofProtocolFile: "spec.md"), as: UTF8.self)
        let lines = spec.split(separator: "\n")
        for operation in SmallocWire.Operation.allCases {
            let heading = "### 7.\(operation.rawValue) \(operation.name) (\(operation.rawValue))"
            #expect(lines.contains(Substring(heading)), "\(heading)")
            #expect(Vectors.values.operation(operation.name) == operation.rawValue)
        }
    }

    @Test("every status has its row in the specification")
    func statuses() throws {
        let spec = String(
            decoding: try ProjectFolder.contents(ofProtocolFile: "spec.md"), as: UTF8.self)
        for (status, name, _) in Status.table where status != .ok {
            let number = "0x" + String(status.rawValue, radix: 16, uppercase: true)
            #expect(spec.contains("| \(number) | \(name) |"), "\(name)")
        }
    }
}
