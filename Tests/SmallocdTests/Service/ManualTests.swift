// The manual pages: that nothing is missing in them that the programs, the file and the sessions
// have, and nothing in them that these have not.

import Foundation
import Testing
import TestSupport

@testable import SmallocWire
@testable import smallocd

/// A manual page in mdoc(7).
struct ManualPage {
    let lines: [String]

    init(text: String) { lines = text.split(separator: "\n").map(String.init) }

    /// One that is written by hand, from `deploy/man`.
    init(byHand name: String) throws {
        let path = ProjectFolder.root.path + "/deploy/man/" + name
        self.init(text: String(decoding: try readFile(path, sizeMax: 1 << 20), as: UTF8.self))
    }

    /// The tool's, as it is made of the built tool.
    static func ofTool() throws -> ManualPage {
        let result = try Spawn.run(
            [
                ProjectFolder.root.path + "/deploy/man/generate",
                ProjectFolder.executable("smalloc-cli"),
            ], seconds: 60)
        let made = try #require(result)
        try #require(made.code == 0, "\(made.output)")
        return ManualPage(text: made.output)
    }

    /// Lines from one that begins with `start` to the next that begins with one of `ends`.
    func part(from start: String, to ends: [String]) throws -> [String] {
        let first = try #require(lines.firstIndex { $0 == start }, "there is no \(start)")
        let rest = lines[(first + 1)...]
        let last = rest.firstIndex { line in ends.contains { line.hasPrefix($0) } }
        return Array(rest[..<(last ?? rest.endIndex)])
    }

    /// What items are about: the words behind `Fl`, or those behind `.It Ic`.
    static func options(in lines: [String]) -> Set<String> {
        var found: Set<String> = []
        for line in lines where line.hasPrefix(".It ") {
            let words = line.split(separator: " ").map(String.init)
            for (macro, word) in zip(words, words.dropFirst()) where macro == "Fl" {
                found.insert(word)
            }
        }
        return found
    }

    /// Items of `.It Ic WORD`, with the lines below them.
    static func commands(in lines: [String]) -> [String: [String]] {
        var found: [String: [String]] = [:]
        var word: String?
        for line in lines {
            let words = line.split(separator: " ").filter { $0 != "Xo" }
            if words.count > 2, words[0] == ".It", words[1] == "Ic" {
                word = String(words[2])
                if let word { found[word] = [] }
            } else if line == ".El" {
                word = nil
            } else if let word {
                found[word]?.append(line)
            }
        }
        return found
    }
}

/// What a program says of itself to swift-argument-parser's own tools.
private struct Told: Decodable {
    struct Command: Decodable {
        var commandName: String
        var aliases: [String]?
        var arguments: [Argument]?
        var subcommands: [Command]?

        /// The options that are shown, as mdoc has them behind `Fl`.
        var options: Set<String> {
            let shown = (arguments ?? []).filter { $0.shouldDisplay && $0.kind != "positional" }
            return Set(
                shown.flatMap(\.names!).map { $0.kind == "long" ? "-" + $0.name : $0.name })
        }

        /// The arguments that are shown, by their names.
        var positions: [String] {
            (arguments ?? []).filter { $0.shouldDisplay && $0.kind == "positional" }
                .compactMap(\.valueName)
        }
    }

    struct Argument: Decodable {
        struct Name: Decodable {
            var kind: String
            var name: String
        }
        var kind: String
        var shouldDisplay: Bool
        var names: [Name]?
        var valueName: String?
    }

    var command: Command

    static func by(_ program: String) throws -> Command {
        let result = try Spawn.run(
            [ProjectFolder.executable(program), "--experimental-dump-help"], seconds: 60)
        let told = try #require(result)
        return try JSONDecoder().decode(Told.self, from: Data(told.output.utf8)).command
    }
}

@Suite("Manual pages", .timed)
struct ManualTests {
    private static let mandoc = ["/usr/bin/mandoc", "/usr/local/bin/mandoc"]
        .first { FileManager.default.isExecutableFile(atPath: $0) }
    private static let byHand = ["smalloc.7", "smallocd.8", "smallocd.yaml.5"]

    @Test("mandoc finds nothing to warn of", .enabled(if: mandoc != nil, "there is no mandoc"))
    func lint() throws {
        let folder = TemporaryFolder()
        let made = try ManualPage.ofTool().lines.joined(separator: "\n") + "\n"
        let pages =
            Self.byHand.map { ProjectFolder.root.path + "/deploy/man/" + $0 }
            + [folder.write(made, to: "smalloc-cli.1")]
        let found = try Spawn.run(
            [try #require(Self.mandoc), "-T", "lint", "-W", "warning"] + pages)
        #expect(try #require(found).output == "")
        #expect(found?.code == 0)
        let wrong = folder.write(".Dd today\n.Dt X 1\n.Sh NAME\n\n", to: "wrong.1")
        #expect(try Spawn.run([Self.mandoc!, "-T", "lint", "-W", "warning", wrong])?.code != 0)
    }

    @Test("smallocd(8) has the options of smallocd, and no others")
    func daemon() throws {
        let told = try Told.by("smallocd")
        #expect(told.options.count > 20)
        #expect(ManualPage.options(in: try ManualPage(byHand: "smallocd.8").lines) == told.options)
        #expect(told.subcommands?.filter { $0.commandName != "help" }.isEmpty ?? true)
    }

    @Test("smalloc-cli(1) has the subcommands and their options, and no others")
    func tool() throws {
        let page = try ManualPage.ofTool()
        let told = try Told.by("smalloc-cli")
        let common = ManualPage.options(
            in: try page.part(from: ".Sh OPTIONS", to: [".Sh "]))
        #expect(common == told.options)
        let subcommands = (told.subcommands ?? []).filter { $0.commandName != "help" }
        #expect(subcommands.count > 20)
        let heads = page.lines.filter { $0.hasPrefix(".Ss ") }
        #expect(heads.count == subcommands.count)
        for subcommand in subcommands {
            let words = [subcommand.commandName] + (subcommand.aliases ?? [])
            let head =
                ".Ss "
                + words.map { $0.count <= 3 ? "\\&" + $0 : $0 }
                .joined(separator: " , ")
            let lines = try page.part(from: head, to: [".Ss ", ".Sh "])
            // `-h` of `ls` is its own.
            let own = ManualPage.options(in: lines)
            #expect(subcommand.options.isSubset(of: own.union(common)), "\(head)")
            #expect(own.isSubset(of: subcommand.options), "\(head)")
            for position in subcommand.positions {
                let name = position.count <= 3 ? "\\&" + position : position
                #expect(
                    lines.contains { $0 == ".It Ar \(name)" || $0 == ".It Ar \(name) ..." },
                    "\(head): \(position)")
            }
        }
    }

    @Test("smallocd.yaml(5) has every setting with its default, and says what needs a restart")
    func settings() throws {
        let items = ManualPage.commands(in: try ManualPage(byHand: "smallocd.yaml.5").lines)
        #expect(Set(items.keys) == Set(Setting.all.map(\.key)))
        for setting in Setting.all {
            let lines = try #require(items[setting.key])
            if let standard = setting.standard {
                let at = try #require(lines.firstIndex(of: "Default:"), "\(setting.key)")
                #expect(lines[at + 1] == ".Li \(standard) .", "\(setting.key)")
            }
            // What has no effect needs none.
            if setting.key != "zero-copy" {
                #expect(
                    lines.contains("Needs a restart.") != setting.isRereadable, "\(setting.key)")
            }
        }
    }

    @Test("smalloc(7) has every verb of the protocol and of help, and no others")
    func verbs() throws {
        let spec = String(
            decoding: try ProjectFolder.contents(ofProtocolFile: "spec.md"), as: UTF8.self)
        let mark = "- **Text.** `"
        let specified = spec.split(separator: "\n").filter { $0.hasPrefix(mark) }
            .map { String($0.dropFirst(mark.count).prefix { $0 != " " && $0 != "`" }) }
        #expect(specified.count > 10)
        let verbs = Set(TextHelp.lines.map(\.verb))
        #expect(verbs.isSuperset(of: specified))
        let page = try ManualPage(byHand: "smalloc.7")
        let items = ManualPage.commands(in: try page.part(from: ".Ss Verbs", to: [".Ss "]))
        #expect(Set(items.keys) == verbs)
    }

    @Test("smalloc(7) has every element type with its size")
    func types() throws {
        let page = try ManualPage(byHand: "smalloc.7")
        let rows = try page.part(from: ".Ss Element types", to: [".Ss "])
            .filter { $0.hasPrefix(".It Cm ") }
        #expect(rows.count == ElementType.allCases.count)
        for (row, type) in zip(rows, ElementType.allCases) {
            #expect(row.hasPrefix(".It Cm \(type.name) Ta \(type.size) Ta "), "\(row)")
        }
    }
}
