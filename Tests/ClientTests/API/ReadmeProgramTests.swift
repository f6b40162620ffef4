// README's program that shares an array, run as it is written but for the length.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("README's programs", .timed)
struct ReadmeProgramTests {
    /// The lines of the program; `count` stands for README's number of elements.
    private func produce(_ smalloc: Smalloc, count: Int) throws {
        // README: begin
        let frame = try smalloc.alloc(count, named: "frame", .double)
        let map = try frame.map(Double.self)
        for i in map.indices { map[i] = 1.5 }
        // README: end
    }

    @Test("the producer is README's, and what it makes is there for others")
    func producer() throws {
        let source = try String(contentsOfFile: #filePath, encoding: .utf8)
        let begin = try #require(source.range(of: "// README: begin\n"))
        let end = try #require(source.range(of: "        // README: end"))
        let program = source[begin.upperBound..<end.lowerBound].split(separator: "\n")
            .map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: "\n")
        let readme = try String(
            contentsOf: ProjectFolder.root.appendingPathComponent("README.md"), encoding: .utf8)
        #expect(readme.contains(program.replacingOccurrences(of: "(count", with: "(32 << 20")))

        let daemon = try DaemonProcess()
        defer { daemon.kill() }
        try produce(Smalloc("unix:\(daemon.path)"), count: 1 << 20)
        let text = try daemon.text()
        #expect(try text.ask("read frame 1048575") == "OK 1.5")
        #expect(try text.ask("stat frame").contains("flags=shared maps=none"))
    }
}
