// The reader of the configuration file beside a full YAML reader: what both take, they take alike.

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
private func new(_ text: [UInt8]) -> Result<[String: [String]], StartFailure> {
    Result { () throws(StartFailure) in
        let file = try ConfigurationFile(path: "c.yaml", bytes: text, keys: keys)
        var values: [String: [String]] = [:]
        for key in keys { values[key] = file.entry(of: key)?.values }
        return values
    }
}

/// What a full YAML reader makes of it; nil: it refuses.
private func old(_ text: [UInt8]) -> [String: [String]]? {
    guard let file = try? OptionsFile(path: "c.yaml", bytes: text, keys: keys) else { return nil }
    var values: [String: [String]] = [:]
    do {
        for key in keys { values[key] = try file.values(of: key) }
    } catch {
        return nil
    }
    return values
}

@Suite("Configuration corpus")
struct ConfigurationCorpusTests {
    @Test("files within the grammar are read as a full YAML reader reads them")
    func generated() throws {
        let seed = SplitMix(for: "ConfigurationCorpusTests.generated")
        var generator = ConfigurationGenerator(seed)
        for number in 0..<Scale.count(2000) {
            let (text, values) = generator.file()
            let bytes = Array(text.utf8)
            #expect(old(bytes) == values, "\(number): \(text.debugDescription)")
            #expect(throws: Never.self) { try new(bytes).get() }
            #expect((try? new(bytes).get()) == values, "\(number): \(text.debugDescription)")
        }
    }

    @Test(
        "what is read from a damaged file is what a full YAML reader reads; the rest names a line")
    func damaged() throws {
        let seed = SplitMix(for: "ConfigurationCorpusTests.damaged")
        var generator = ConfigurationGenerator(seed)
        for number in 0..<Scale.count(20_000) {
            let text = generator.mutated()
            switch new(Array(text.utf8)) {
            case .success(let values):
                #expect(old(Array(text.utf8)) == values, "\(number): \(text.debugDescription)")
            case .failure(let error):
                #expect(error.message.contains(/^c\.yaml:[1-9][0-9]*: ./), "\(error.message)")
            }
        }
    }

    @Test("odd texts within the grammar are read as a full YAML reader reads them")
    func odd() throws {
        for (name, text, outcome) in oddTexts {
            guard case .sets(let expected) = outcome else { continue }
            let file = try? OptionsFile(
                path: "c.yaml", bytes: Array(text.utf8), keys: ["loops", "name"])
            for (key, values) in expected {
                #expect(try file?.values(of: key) == values, "\(name)")
            }
            #expect(file != nil, "\(name)")
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
            #expect(old(bytes) == file.values, "\(number)")
            #expect(try new(bytes).get() == file.values, "\(number)")
        }
    }

    @Test("the example configuration is read as a full YAML reader reads it")
    func example() throws {
        let path = ProjectFolder.root.path + "/deploy/smallocd.yaml"
        let text = try String(contentsOfFile: path, encoding: .utf8)
        let uncommented = text.replacing(/(?m)^#([a-z])/) { "\($0.output.1)" }
        for (text, count) in [(text, 0), (uncommented, Setting.all.count)] {
            let values = try new(Array(text.utf8)).get()
            #expect(values.count == count)
            #expect(old(Array(text.utf8)) == values)
        }
    }
}
