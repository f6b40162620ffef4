// The programs of the manual, of documentation comments and of README: all of them compile, and those
// of the manual's guide run, as they are written.

import Foundation
import Smalloc
import Testing
import TestSupport

/// A block of code that readers are shown.
private struct Block: Sendable {
    let file: String
    /// Of its first line, from 1.
    let line: Int
    let lines: [String]

    /// The blocks of all pages of the manual in a language, in their order, those of documentation
    /// comments, and the programs of README that use the library.
    static func all(_ language: String) throws -> [Block] {
        let folder = "Sources/Smalloc/Smalloc.docc/"
        let root = ProjectFolder.root.resolvingSymlinksInPath().path + "/"
        let pages = try FileManager.default.contentsOfDirectory(atPath: root + folder).sorted()
            .filter { $0.hasSuffix(".md") }.map { folder + $0 }
        // What programs see of the code itself is not in `Session`.
        let code = (FileManager.default.subpaths(atPath: root + "Sources/Smalloc") ?? []).sorted()
            .filter { $0.hasSuffix(".swift") && !$0.hasPrefix("Session/") }
            .map { "Sources/Smalloc/" + $0 }
        var blocks: [Block] = []
        for path in ["README.md"] + pages + code {
            let text = try String(contentsOfFile: root + path, encoding: .utf8)
            var lines = text.components(separatedBy: "\n")
            if path.hasSuffix(".swift") {
                lines = lines.map { line in
                    let word = line.trimmingCharacters(in: .whitespaces)
                    return word.hasPrefix("///") ? String(word.dropFirst(4)) : ""
                }
            }
            let name = String(path.split(separator: "/").last ?? "")
            var begin: Int?
            for (index, line) in lines.enumerated() {
                let word = line.trimmingCharacters(in: .whitespaces)
                guard word.hasPrefix("```") else { continue }
                guard let first = begin else {
                    begin = index + 1
                    continue
                }
                begin = nil
                guard lines[first - 1].hasSuffix("```" + language) else { continue }
                guard name != "README.md" || lines[first] == "import Smalloc" else { continue }
                let indentation = lines[first - 1].prefix { $0 == " " }.count
                blocks.append(
                    Block(
                        file: name, line: first + 1,
                        lines: lines[first..<index].map { String($0.dropFirst(indentation)) }))
            }
        }
        return blocks
    }

    /// What its lines say in a comment that they print, in the order in which they do.
    var printed: [String] {
        lines.filter { $0.contains("print(") }
            .compactMap { line in
                ["  // ", "  # "].compactMap { line.components(separatedBy: $0).dropFirst().first }
                    .first
            }
    }
}

/// A program of all the Swift of the manual, which runs the block that its argument tells.
private enum ManualProgram {
    /// What blocks take as given.
    private static let context = """
        import Foundation
        import Smalloc
        var a: Allocation { fatalError() }
        var readings: Allocation { fatalError() }
        var totals: Allocation { fatalError() }
        var error: SmallocError { fatalError() }
        enum Tasks {
            static var a: AsyncAllocation { fatalError() }
            static var readings: AsyncAllocation { fatalError() }
            static var totals: AsyncAllocation { fatalError() }
            static var daemon: AsyncSmalloc { fatalError() }
            static var smalloc: AsyncSmalloc { fatalError() }
        }
        """

    /// Their text, as one file.
    static func source(_ blocks: [Block]) -> String {
        var text = context + "\n"
        for (number, block) in blocks.enumerated() {
            let lines = block.lines.map { $0.hasPrefix("import ") ? "" : $0 }
            let place = "#sourceLocation(file: \"\(block.file)\", line: \(block.line))\n"
            text +=
                lines.contains { $0.contains("await") }
                ? "extension Tasks { static func block\(number)() async throws {\n"
                : "func block\(number)() throws {\n"
            text += place + lines.joined(separator: "\n") + "\n#sourceLocation()\n}"
            text += lines.contains { $0.contains("await") } ? "}\n" : "\n"
        }
        text += "@main struct Program { static func main() async throws {\n"
        text += "switch CommandLine.arguments[1] {\n"
        for (number, block) in blocks.enumerated() {
            let isForTasks = block.lines.contains { $0.contains("await") }
            text += "case \"\(number)\": try "
            text += (isForTasks ? "await Tasks.block" : "block") + "\(number)()\n"
        }
        return text + "default: break\n}\n}\n}\n"
    }

    /// Compiles them, for debugging or as they are released.
    static func compile(
        _ blocks: [Block], to program: String?, optimized: Bool, in folder: String
    ) throws -> (code: Int32, output: String) {
        let products = URL(fileURLWithPath: ProjectFolder.executable("smalloc-cli"))
            .deletingLastPathComponent().path
        try source(blocks).write(
            toFile: folder + "/manual.swift", atomically: true, encoding: .utf8)
        var words = [
            "/usr/bin/env", "swiftc", "-swift-version", "6", "-parse-as-library",
            "-module-cache-path", folder + "/modules", "-I", products + "/Modules",
            "-Xcc", "-fmodule-map-file=\(products)/CSmalloc.build/module.modulemap",
            folder + "/manual.swift",
        ]
        if optimized { words.append("-O") }
        if let program {
            words += ["-o", program]
            // What another program is linked of, as there may be older objects beside them.
            let list = try String(
                contentsOfFile: products + "/smalloc-cli.product/Objects.LinkFileList",
                encoding: .utf8)
            words += list.split(separator: "\n")
                .map { $0.trimmingCharacters(in: ["'"]) }.filter { object in
                    ["Smalloc", "SmallocWire", "SmallocSystem", "CSmalloc"].contains {
                        object.contains("/\($0).build/")
                    }
                }
        } else {
            words += ["-c", "-o", folder + "/manual.o"]
        }
        return try #require(try Spawn.run(words, environment: [:], seconds: 100))
    }

    static let hasCompiler =
        (try? Spawn.run(
            ["/usr/bin/env", "swiftc", "--version"], environment: [:], seconds: 50))??.code == 0
    static let hasNumpy =
        (try? Spawn.run(
            ["/usr/bin/env", "python3", "-c", "import numpy"], environment: [:], seconds: 50))??
        .code == 0
}

@Suite(
    "The manual", .timed(seconds: 120),
    .enabled(if: ManualProgram.hasCompiler, "there is no compiler"))
struct ManualTests {
    @Test("its Swift compiles, for debugging and for release", arguments: [false, true])
    func compiles(optimized: Bool) throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let blocks = try Block.all("swift")
        #expect(blocks.count >= 25)
        let result = try ManualProgram.compile(blocks, to: nil, optimized: optimized, in: folder)
        #expect(result.code == 0, "\(result.output)")
    }

    // Objects that were built for a sanitizer are linked in another way.
    @Test("the Swift of its guide does what it says", .enabled(if: !DaemonProcess.isSanitized))
    func swift() throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let blocks = try Block.all("swift").filter {
            $0.file == "Coming.md" || !$0.printed.isEmpty && $0.lines.first == "import Smalloc"
        }
        #expect(blocks.count == 6)
        let program = folder + "/manual"
        let built = try ManualProgram.compile(blocks, to: program, optimized: false, in: folder)
        try #require(built.code == 0, "\(built.output)")
        for (number, block) in blocks.enumerated() {
            try run([program, "\(number)"], block)
        }
    }

    @Test(
        "the Python of its guide does what it says",
        .enabled(if: ManualProgram.hasNumpy, "there is no Python with numpy"))
    func python() throws {
        let blocks = try Block.all("python")
        #expect(blocks.count == 6)
        for block in blocks {
            let program = block.lines.joined(separator: "\n")
            // Of stores that are not here the text alone can be looked at.
            let isForeign = program.contains("import redis") || program.contains("plasma")
            let words = isForeign ? "import ast, sys; ast.parse(sys.argv[1])" : program
            try run(["/usr/bin/env", "python3", "-c", words, program], block, isRun: !isForeign)
        }
    }

    /// Runs a program beside a daemon of its own, which it is to leave as it was.
    private func run(_ words: [String], _ block: Block, isRun: Bool = true) throws {
        let daemon = try DaemonProcess()
        defer { daemon.kill() }
        let sources = ProjectFolder.root.appendingPathComponent("protocol/python/src").path
        let result = try #require(
            try Spawn.run(
                words,
                environment: [
                    "SMALLOC_ADDRESS": "unix:\(daemon.path)", "PYTHONPATH": sources,
                    "PYTHONDONTWRITEBYTECODE": "1",
                ], seconds: 50))
        let place = "\(block.file):\(block.line)"
        #expect(result.code == 0, "\(place): \(result.output)")
        if isRun {
            let lines = result.output.split(separator: "\n").map(String.init)
            #expect(lines == block.printed, "\(place)")
            #expect(!lines.isEmpty, "\(place)")
        }
        #expect(try Smalloc("unix:\(daemon.path)").list().isEmpty, "\(place)")
    }
}
