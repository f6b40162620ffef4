// The configuration file's reader on many files: recorded ones, of which a full YAML reader (libyaml)
// read what is written down beside them, and random ones.

import Foundation
import TestSupport
import Testing

@testable import smallocd

/// One file of the recorded corpus.
private struct Recorded: Codable {
    let text: String
    let values: [String: [String]]
}

private let keys = Setting.all.map(\.key)

/// What the reader makes of a file.
private func read(_ text: [UInt8]) -> Result<[String: [String]], StartFailure> {
    Result { () throws(StartFailure) in
        let file = try ConfigurationFile(path: "c.yaml", bytes: text, keys: keys)
        var values: [String: [String]] = [:]
        for key in keys { values[key] = file.entry(of: key)?.values }
        return values
    }
}

@Suite("Configuration corpus", .timed)
struct ConfigurationCorpusTests {
    @Test("random files within the grammar are read as they were written")
    func generated() throws {
        let seed = SplitMix(for: "ConfigurationCorpusTests.generated")
        var generator = ConfigurationGenerator(seed)
        for number in 0..<Scale.count(2000) {
            let (text, values) = generator.file()
            let bytes = Array(text.utf8)
            #expect((try? read(bytes).get()) == values, "\(number): \(text.debugDescription)")
        }
    }

    @Test(
        "what is read from a damaged file is what a full YAML reader reads; the rest names a line")
    func damaged() throws {
        let seed = SplitMix(for: "ConfigurationCorpusTests.damaged")
        var generator = ConfigurationGenerator(seed)
        for number in 0..<Scale.count(20_000) {
            let text = generator.mutated()
            guard case .failure(let error) = read(Array(text.utf8)) else { continue }
            #expect(error.exitCode == 78)
            #expect(
                error.message.contains(/^c\.yaml:[1-9][0-9]*: ./),
                "\(number): \(error.message): \(text.debugDescription)")
        }
    }

    @Test("the recorded files are read as written down beside them")
    func recorded() throws {
        let path = ProjectFolder.root.path + "/Tests/Corpus/configuration.json"
        let data = try #require(FileManager.default.contents(atPath: path))
        let files = try JSONDecoder().decode([Recorded].self, from: data)
        #expect(files.count == 200)
        for (number, file) in files.enumerated() {
            let bytes = Array(file.text.utf8)
            #expect(try read(bytes).get() == file.values, "\(number)")
        }
    }
}
