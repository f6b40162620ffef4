import Foundation
import Testing
import TestSupport

@Suite("README", .timed)
struct ReadmeTests {
    /// The first block of code in some language.
    private func block(_ language: String, containing word: String) throws -> [String] {
        let text = try String(
            contentsOf: ProjectFolder.root.appendingPathComponent("README.md"), encoding: .utf8)
        let blocks = text.components(separatedBy: "```\(language)\n").dropFirst()
        let found = blocks.compactMap { $0.components(separatedBy: "```").first }
            .first { $0.contains(word) }
        return try #require(found).split(separator: "\n").map(String.init)
    }

    @Test("the session with netcat goes as it is written")
    func session() throws {
        let lines = try block("console", containing: "nc -U").dropFirst()
        let daemon = try DaemonProcess()
        let text = try daemon.text()
        var request: String?
        for line in lines {
            guard let asked = request else {
                request = line
                continue
            }
            #expect(try text.ask(asked) == line, "\(asked)")
            request = nil
        }
        #expect(request == nil)
        #expect(lines.count >= 10)
    }

    @Test("the tool's examples work as they are written")
    func tool() throws {
        let lines = try block("sh", containing: "smalloc-cli").map { line in
            line.replacingOccurrences(of: "smalloc-cli", with: "cli")
        }
        let shell = try Shell()
        let output = try shell.output(
            "set -e\nprintf abc > photo.raw\n" + lines.joined(separator: "\n"))
        #expect(output.hasPrefix("0.1 NaN -1e+300\n"))
        #expect(
            output.contains("backup\tUint8\t3\t3\t-\t-\nimage\tUint8\t3\t3\t-\t-\njob\tUint8\t"))
        #expect(output.contains("weights\tBfloat16\t131072\t262144\t512x256\t-\n"))
    }
}
