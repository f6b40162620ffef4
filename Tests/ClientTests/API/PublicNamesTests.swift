// What `import Smalloc` brings into a program: few names, none of them general.

import Foundation
import Smalloc
import TestSupport
import Testing

@Suite("Public names", .timed)
struct PublicNamesTests {
    /// The library's sources: their lines.
    private static let lines: [String] = {
        let root = ProjectFolder.root.appendingPathComponent("Sources/Smalloc")
            .resolvingSymlinksInPath().path
        let paths = FileManager.default.subpaths(atPath: root) ?? []
        return paths.filter { $0.hasSuffix(".swift") }.flatMap { path in
            let text = (try? String(contentsOfFile: root + "/" + path, encoding: .utf8)) ?? ""
            return text.split(separator: "\n").map(String.init)
        }
    }()

    /// The name that a line declares for everyone, if it does, indented by so many spaces.
    private func declared(_ line: String, indentation: Int) -> String? {
        let words = line.split(separator: " ").map(String.init)
        guard line.prefix(while: { $0 == " " }).count == indentation, let first = words.first,
            ["public", "open", "package"].contains(first),
            let keyword = words.firstIndex(where: {
                [
                    "class", "struct", "enum", "actor", "protocol", "func", "var", "let",
                    "typealias", "macro",
                ].contains($0)
            }), keyword + 1 < words.count
        else { return nil }
        return String(words[keyword + 1].prefix { $0.isLetter || $0.isNumber || $0 == "_" })
    }

    @Test("the top level holds what one must be able to say without a prefix, and nothing else")
    func topLevel() {
        var names = Set(PublicNamesTests.lines.compactMap { declared($0, indentation: 0) })
        for line in PublicNamesTests.lines where line.hasPrefix("@_exported") {
            names.insert(line.split(separator: ".").last.map(String.init) ?? line)
        }
        #expect(
            names == [
                "Smalloc", "AsyncSmalloc", "Allocation", "AsyncAllocation", "SmallocError",
                "ElementType", "smalloc",
            ])
    }

    @Test("types within others are these")
    func nested() {
        var names: Set<String> = []
        var place = ""
        for line in PublicNamesTests.lines {
            if line.hasPrefix("extension ") {
                place = String(line.dropFirst(10).prefix { $0 != " " && $0 != ":" })
            }
            let isType = [" struct ", " class ", " enum ", " protocol ", " typealias "]
                .contains { line.contains($0) }
            if isType, let name = declared(line, indentation: 4) {
                names.insert("\(place).\(name)")
            }
        }
        #expect(
            names == [
                "Smalloc.Address", "Smalloc.AtomicValue", "Smalloc.Batch", "Smalloc.Batch.Replies",
                "Smalloc.Batch.Ticket", "Smalloc.Bfloat16", "Smalloc.Buffer", "Smalloc.Client",
                "Smalloc.ComplexDouble", "Smalloc.ComplexFloat", "Smalloc.Element",
                "Smalloc.ElementTypes", "Smalloc.Entry", "Smalloc.ErrorClass", "Smalloc.Event",
                "Smalloc.Holder", "Smalloc.Lease", "Smalloc.Limits", "Smalloc.Mapping",
                "Smalloc.Options", "Smalloc.Pages", "Smalloc.SlowLog", "Smalloc.Stat",
                "Smalloc.Stats", "Smalloc.Status", "Smalloc.WaitResult", "Smalloc.Watch",
                "AsyncSmalloc.Batch", "AsyncSmalloc.Executor", "AsyncSmalloc.Listing",
                "AsyncSmalloc.Watch",
            ])
    }

    /// A program's own words, which the library's must not be in the way of.
    private struct Status { var isGood = true }
    private struct Batch {}
    private typealias Limits = Int

    @Test("a program uses them by the class, beside its own")
    func use() throws {
        var options = Smalloc.Options()
        options.software = "names"
        let address: Smalloc.Address = try Smalloc.Address(
            connection: SharedDaemon.process.path.isEmpty ? "" : SharedDaemon.address)
        let smalloc = try Smalloc(address: address, options: options)
        let limits: Smalloc.Limits = smalloc.limits
        #expect(limits.lengthSizeMax == UInt64(smalloc.kMaxLength))
        let error = failure { () throws(SmallocError) in
            _ = try smalloc.open(SharedDaemon.name())
        }
        let status: Smalloc.Status? = error?.status
        let kind: Smalloc.ErrorClass? = error?.errorClass
        #expect(status == .noData && kind == .error)
        #expect(Status().isGood && Limits.zero == 0 && MemoryLayout<Batch>.size == 0)
    }
}
