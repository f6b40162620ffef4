import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import smallocd

/// The files of `deploy/`, as they are shipped.
private func deployed(_ name: String) throws -> String {
    let path = ProjectFolder.root.path + "/deploy/" + name
    return String(decoding: try readFile(path, sizeMax: 1 << 20), as: UTF8.self)
}

@Suite("Deploy", .timed)
struct DeployTests {
    private let machine = Machine(memorySize: 10 << 30, cores: 4, descriptorsMax: 1 << 20)

    private func load(_ text: String) throws -> Settings {
        let folder = TemporaryFolder()
        let file = folder.write(text, to: "smallocd.yaml")
        return try Settings.load(
            arguments: ["--config", file], environment: [:], machine: machine
        ).settings
    }

    @Test("the example configuration sets nothing as it is shipped")
    func asShipped() throws {
        #expect(
            try load(deployed("smallocd.yaml"))
                == .standard(machine: machine, runtimeDirectory: nil))
    }

    @Test("uncommented, the example configuration names every setting with its default")
    func uncommented() throws {
        let lines = try deployed("smallocd.yaml").split(separator: "\n").map(String.init)
        let options = lines.filter { $0.hasPrefix("#") && !$0.hasPrefix("# ") && $0 != "#" }
            .map { String($0.dropFirst()) }
        #expect(
            options.compactMap { $0.split(separator: ":").first.map(String.init) }
                == Setting.all.map(\.key))
        for option in options {
            #expect(throws: Never.self) { try load(option) }
        }
        var expected = Settings.standard(machine: machine, runtimeDirectory: nil)
        expected.addressesAreDefault = false
        #expect(try load(options.joined(separator: "\n")) == expected)
    }

    @Test("the service reads the example's place and gives descriptors for the default connections")
    func service() throws {
        let unit = try deployed("smallocd.service")
        #expect(unit.contains("smallocd --config /etc/smallocd/smallocd.yaml"))
        let line = try #require(unit.split(separator: "\n").first { $0.hasPrefix("LimitNOFILE=") })
        let limit = try #require(UInt64(line.dropFirst("LimitNOFILE=".count)))
        var host = machine
        host.descriptorsMax = limit
        let loaded = try Settings.load(arguments: [], environment: [:], machine: host)
        #expect(loaded.settings.limits.connectionsMax == Limits().connectionsMax)
    }

    @Test("the version is the newest of the changelog")
    func changelog() throws {
        let changes = try deployed("../CHANGELOG.md")
        let newest = try #require(changes.split(separator: "\n").first { $0.hasPrefix("## ") })
        #expect(newest.contains(version))
    }
}
