// That a span of a mapping can't outlive it is the compiler's to see: it compiles small programs.

import Foundation
import Testing
import TestSupport

/// The Swift compiler that is found by `PATH`.
private enum Compiler {
    /// Runs it.
    ///
    /// - Returns: 0 if it has compiled what it should, and what it says.
    static func run(_ words: [String]) throws -> (code: Int32, output: String) {
        try #require(
            try Spawn.run(["/usr/bin/env", "swiftc"] + words, environment: [:], seconds: 50))
    }

    static let isThere = (try? run(["--version"]))?.code == 0
}

@Suite("Spans of mappings", .timed, .enabled(if: Compiler.isThere, "there is no compiler"))
struct MappingSpanTests {
    @Test(
        "what keeps none compiles, and what would keep one does not",
        arguments: [
            ("let sum = map.withSpan { $0[0] + $0[1] }; _ = sum", true),
            ("map.withMutableSpan { $0[0] = 1 }", true),
            ("var kept: Span<Double>? = nil; map.withSpan { kept = $0 }; _ = kept?[0]", false),
            ("let kept = map.withSpan { $0 }; _ = kept[0]", false),
            ("let kept = map.withMutableSpan { $0 }; _ = kept[0]", false),
            ("map.withSpan { _ = $0[0]; $0[0] = 1 }", false),
        ])
    func lifetimes(statements: String, compiles: Bool) throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let source = "import Smalloc\nfunc use(_ map: Smalloc.Mapping<Double>) { \(statements) }\n"
        try source.write(toFile: folder + "/use.swift", atomically: true, encoding: .utf8)
        let products = URL(fileURLWithPath: ProjectFolder.executable("smalloc-cli"))
            .deletingLastPathComponent().path
        let result = try Compiler.run([
            "-c", "-o", folder + "/use.o", "-module-cache-path", folder + "/modules",
            "-I", products + "/Modules",
            "-Xcc", "-fmodule-map-file=\(products)/CSmalloc.build/module.modulemap",
            folder + "/use.swift",
        ])
        #expect((result.code == 0) == compiles, "\(result.output)")
        // It is these lines that it refuses.
        #expect(compiles || result.output.contains("use.swift:2:"), "\(result.output)")
    }
}
