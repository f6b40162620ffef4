// What --check-config finds before a start does.

import SmallocWire
import Testing
import TestSupport

@testable import smallocd

private let machine = Machine(memorySize: 10 << 30, cores: 4, descriptorsMax: 1 << 20)

private func check(
    _ arguments: [String], _ environment: [String: String] = [:], on machine: Machine = machine
) throws -> StartFailure {
    let found = #expect(throws: StartFailure.self) {
        try Settings.load(
            arguments: ["--check-config"] + arguments, environment: environment, machine: machine)
    }
    return try #require(found)
}

@Suite("Check of the configuration", .timed)
struct CheckConfigTests {
    private let form = "is not an address (unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT)"
    private let several =
        "is more than one address: they are items of a list, or options of their own"

    @Test("an address in the form of a URL is none")
    func urls() throws {
        for address in [
            "tcp://127.0.0.1:80", "tcp://h:80/", "tcp:h:80/x", "http:h:80", "tcp:a b:1",
        ] {
            #expect(
                try check(["--listen", address])
                    == .configuration("--listen: '\(address)' \(form)"))
        }
    }

    @Test("several addresses in one text are no path, wherever they stand")
    func lists() throws {
        let folder = TemporaryFolder()
        for text in ["unix:/a,tcp:127.0.0.1:80", "unix:/a, unix:/b", "tcp:h:1,tcp:h:2"] {
            let file = folder.write("# two\nlisten: \(text)\n", to: "c.yaml")
            #expect(
                try check(["--config", file])
                    == .configuration("\(file):2: listen: '\(text)' \(several)"))
            #expect(
                try check(["--listen", text]) == .configuration("--listen: '\(text)' \(several)"))
        }
        // A comma that nothing follows is a path's.
        #expect(try check(["--listen", "unix:/a,b"]).exitCode == 0)
    }

    @Test("a path too long for a socket is found, also the default one")
    func paths() throws {
        let long = "/" + String(repeating: "x", count: 107)
        #expect(try check(["--listen", "unix:" + long.dropLast()]).exitCode == 0)
        #expect(
            try check(["--listen", "unix:" + long])
                == .configuration(
                    "--listen: 'unix:\(long)': the path has 108 bytes, a socket's path may have 107"
                ))
        #expect(try check([], ["XDG_RUNTIME_DIR": long]).exitCode == 78)
    }

    @Test("a host that can't be resolved is found as at the start")
    func hosts() throws {
        for host in ["no-such-host.invalid", "[::g]", "999.1.1.1"] {
            let found = try check(["--listen", "tcp:\(host):80"])
            #expect(found.exitCode == 69, "\(found.message)")
            #expect(found.message.contains("can't resolve the host"), "\(found.message)")
        }
        for host in ["127.0.0.1", "[::1]", "*", "localhost"] {
            #expect(try check(["--listen", "tcp:\(host):80"]).exitCode == 0)
        }
    }

    @Test("too few descriptors are found as at the start")
    func descriptors() throws {
        var small = machine
        small.descriptorsMax = 30
        #expect(
            try check(["--loops", "9"], on: small)
                == .system("the limit of open files is 30, at least 72 are needed"))
    }
}
