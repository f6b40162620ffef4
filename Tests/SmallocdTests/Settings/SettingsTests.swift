import Logging
import SmallocWire
import Testing
import TestSupport

@testable import smallocd

private let machine = Machine(memorySize: 10 << 30, cores: 4, descriptorsMax: 1 << 20)

private func load(
    _ arguments: [String] = [], _ environment: [String: String] = [:], on machine: Machine = machine
) throws -> LoadedSettings {
    try Settings.load(arguments: arguments, environment: environment, machine: machine)
}

/// The failure of a load that has to fail.
private func failure(
    _ arguments: [String] = [], _ environment: [String: String] = [:]
) -> StartFailure? {
    #expect(throws: StartFailure.self) { try load(arguments, environment) }
}

@Suite("Settings", .timed)
struct SettingsTests {
    @Test("without any setting the defaults hold")
    func defaults() throws {
        let settings = try load().settings
        #expect(settings.addresses == [.unix(path: "/run/smallocd/smallocd.sock")])
        #expect(settings.addressesAreDefault)
        #expect(settings.socketMode == 0o600)
        #expect(settings.loops == 3)
        #expect(settings.busyPollMicroseconds == 50)
        #expect(settings.zeroCopy == .sameUser)
        #expect(settings.logLevel == .info)
        var limits = Limits()
        limits.memorySizeMax = 8 << 30
        limits.lengthSizeMax = 8 << 30
        #expect(settings.limits == limits)
    }

    @Test("the default socket lies in the user's runtime folder where there is one")
    func runtimeDirectory() throws {
        let settings = try load([], ["XDG_RUNTIME_DIR": "/run/user/7"]).settings
        #expect(settings.addresses == [.unix(path: "/run/user/7/smallocd.sock")])
        #expect(settings.addressesAreDefault)
    }

    @Test("every option is read from the command line, the environment and the file alike")
    func everywhere() throws {
        let folder = TemporaryFolder()
        let values: [(key: String, value: String)] = [
            ("listen", "unix:/a/b"), ("socket-mode", "0660"), ("loops", "2"), ("busy-poll", "20us"),
            ("zero-copy", "on"),
            ("log-level", "debug"), ("memory-max", "64M"), ("length-max", "1MiB"),
            ("allocations-max", "10"), ("connections-max", "20"), ("frame-size-max", "2M"),
            ("requests-in-flight-max", "30"), ("handles-max", "40"), ("output-size-max", "3M"),
            ("line-size-max", "4K"), ("name-size-max", "99"), ("idle-timeout", "5m"),
            ("request-timeout", "1500ms"), ("http", "tcp:127.0.0.1:9877"), ("http-names", "yes"),
            ("slowlog-threshold", "1500us"), ("slowlog-length", "7"),
        ]
        #expect(values.map(\.key) == Setting.all.map(\.key))
        let fromLine = try load(values.flatMap { ["--\($0.key)", $0.value] }).settings
        let environment = values.map { (Setting.named($0.key)?.variable ?? "", $0.value) }
        let fromEnvironment = try load(
            [], Dictionary(uniqueKeysWithValues: environment)
        ).settings
        let text = values.map { "\($0.key): \($0.value)\n" }.joined()
        let file = folder.write(text, to: "all.yaml")
        let fromFile = try load(["--config", file]).settings
        let fromNamedFile = try load([], ["SMALLOCD_CONFIG": file]).settings

        #expect(fromLine == fromEnvironment)
        #expect(fromLine == fromFile)
        #expect(fromLine == fromNamedFile)
        #expect(fromLine.addresses == [.unix(path: "/a/b")])
        #expect(!fromLine.addressesAreDefault)
        #expect(fromLine.socketMode == 0o660)
        #expect(fromLine.loops == 2)
        #expect(fromLine.busyPollMicroseconds == 20)
        #expect(fromLine.zeroCopy == .on)
        #expect(fromLine.logLevel == .debug)
        #expect(fromLine.limits.memorySizeMax == 64 << 20)
        #expect(fromLine.limits.lengthSizeMax == 1 << 20)
        #expect(fromLine.limits.allocationsMax == 10)
        #expect(fromLine.limits.connectionsMax == 20)
        #expect(fromLine.limits.frameSizeMax == 2 << 20)
        #expect(fromLine.limits.requestsInFlightMax == 30)
        #expect(fromLine.limits.handlesMax == 40)
        #expect(fromLine.limits.outputSizeMax == 3 << 20)
        #expect(fromLine.limits.lineSizeMax == 4096)
        #expect(fromLine.limits.idleTimeoutMilliseconds == 300_000)
        #expect(fromLine.limits.requestTimeoutMilliseconds == 1500)
    }

    @Test("the command line wins over the environment, the environment over the file")
    func precedence() throws {
        let folder = TemporaryFolder()
        let file = folder.write("loops: 5\nhandles-max: 5\nline-size-max: 5K\n", to: "c.yaml")
        let loaded = try load(
            ["--config", file, "--loops", "7"],
            ["SMALLOCD_LOOPS": "6", "SMALLOCD_HANDLES_MAX": "6"])
        #expect(loaded.settings.loops == 7)
        #expect(loaded.settings.limits.handlesMax == 6)
        #expect(loaded.settings.limits.lineSizeMax == 5120)
    }

    @Test("listen takes several addresses from each source")
    func addresses() throws {
        let folder = TemporaryFolder()
        let expected: [Address] = [.unix(path: "/a"), .tcp(host: "::1", port: 7000)]
        let line = try load(["--listen", "unix:/a", "--listen", "tcp:[::1]:7000"])
        #expect(line.settings.addresses == expected)
        let environment = try load([], ["SMALLOCD_LISTEN": "unix:/a,tcp:[::1]:7000"])
        #expect(environment.settings.addresses == expected)
        let blanks = try load([], ["SMALLOCD_LISTEN": " unix:/a ,\ttcp:[::1]:7000\n"])
        #expect(blanks.settings.addresses == expected)
        // Set but empty is not set; one of several must not be empty.
        for empty in ["", " ", " , "] {
            #expect(try load([], ["SMALLOCD_LISTEN": empty]).settings.addressesAreDefault)
        }
        #expect(failure([], ["SMALLOCD_LISTEN": "unix:/a,"])?.exitCode == 78)
        #expect(
            failure([], ["SMALLOCD_LOOPS": "1,2"])
                == .configuration("SMALLOCD_LOOPS: takes one value, not 2"))
        let file = folder.write("listen:\n  - unix:/a\n  - \"tcp:[::1]:7000\"\n", to: "c.yaml")
        #expect(try load(["--config", file]).settings.addresses == expected)
    }

    @Test("the effective settings, written as a file, load to the same settings")
    func roundTrip() throws {
        let folder = TemporaryFolder()
        let settings = try load(["--listen", #"unix:/odd "\ path"#, "--idle-timeout", "7ms"])
            .settings
        let file = folder.write(settings.text, to: "c.yaml")
        #expect(try load(["--config", file]).settings == settings)
    }

    @Test(
        "a wrong value is an error that names where it stands",
        arguments: [
            (
                ["--memory-max", "lots"],
                "--memory-max: 'lots' is not a size (such as 4096, 64M, 1GiB)"
            ),
            (["--memory-max", "0"], "--memory-max: '0' is not in the range 1 to 2^63 - 1 bytes"),
            (["--memory-max", "0%"], "--memory-max: '0%' is not from 1% to 100%"),
            (["--length-max", "0%"], "--length-max: '0%' is not from 1% to 100%"),
            (["--memory-max", "101%"], "--memory-max: '101%' is not from 1% to 100%"),
            (
                ["--memory-max", "99999999999999999999"],
                "--memory-max: '99999999999999999999' is too large"
            ),
            (["--memory-max", "99999999999T"], "--memory-max: '99999999999T' is too large"),
            (["--memory-max", ""], "--memory-max: needs a value"),
            (
                ["--frame-size-max", "4G"],
                "--frame-size-max: '4G' is not in the range 4K to 4294967295 bytes"
            ),
            (
                ["--allocations-max", "67108865"],
                "--allocations-max: '67108865' is not a whole number from 1 to 67108864"
            ),
            (["--frame-size-max", "50%"], "--frame-size-max: '50%' can't be a percentage"),
            (["--loops", "0"], "--loops: '0' is not auto or a whole number from 1 to 256"),
            (
                ["--handles-max", "+5"],
                "--handles-max: '+5' is not a whole number from 1 to 4294967295"
            ),
            (
                ["--socket-mode", "0888"],
                "--socket-mode: '0888' is not an octal mode from 0000 to 0777"
            ),
            (
                ["--socket-mode", "1777"],
                "--socket-mode: '1777' is not an octal mode from 0000 to 0777"
            ),
            (
                ["--idle-timeout", "soon"],
                "--idle-timeout: 'soon' is not a time (such as 30 for seconds, 500ms, 5m)"
            ),
            (["--idle-timeout", "9999d"], "--idle-timeout: '9999d' is longer than a year"),
            (["--zero-copy", "yes"], "--zero-copy: 'yes' is none of off, same-user, on"),
            (
                ["--log-level", "loud"],
                "--log-level: 'loud' is none of trace, debug, info, notice, warning, error, critical"
            ),
            (
                ["--listen", "nowhere"],
                "--listen: 'nowhere' is not an address (unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT)"
            ),
            (["--listen", "unix:/a", "--listen", "unix:/a"], "--listen: 'unix:/a' is given twice"),
            (
                ["--listen", "tcp:\u{1b}[31m"],
                "--listen: 'tcp:\\x1b[31m' is not an address (unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT)"
            ),
        ])
    func wrongValues(arguments: [String], message: String) {
        #expect(failure(arguments) == .configuration(message))
    }

    @Test("a wrong value in the environment names the variable, in the file the file and the key")
    func wrongElsewhere() {
        let folder = TemporaryFolder()
        #expect(
            failure([], ["SMALLOCD_LOOPS": "x"])
                == .configuration(
                    "SMALLOCD_LOOPS: 'x' is not auto or a whole number from 1 to 256"))
        let file = folder.write("loops: [1, 2]\n", to: "c.yaml")
        #expect(
            failure(["--config", file])
                == .configuration("\(file):1: loops: takes one value, not 2"))
        // Also where the command line overrules it.
        #expect(failure(["--config", file, "--loops", "1"])?.exitCode == 78)
    }

    @Test(
        "a file that can't be used is one line with its name and the line at fault",
        arguments: [
            ("memory: 5\n", "1: memory: no such key"),
            ("memory-max: 5M\nlimits:\n- 5\n", "2: limits: no such key"),
            ("loops: 1\nloops: 2\n", "2: loops: set in line 1 already"),
            ("- a\n- b\n", "1: an item of a list without 'KEY:' alone above it"),
            ("just words\n", "1: not of the form 'KEY: VALUE'"),
            ("loops: [1\n", "1: ',' or ']' is missing behind a value of the list"),
            ("# none\nloops:\n", "2: loops: needs a value"),
            ("loops: {a: 1}\n", "1: a value can't begin with '{' unquoted"),
            ("a\u{1b}b: 1\n", "1: the character U+1B can't stand here"),
        ])
    func wrongFiles(text: String, clause: String) throws {
        let folder = TemporaryFolder()
        let file = folder.write(text, to: "c.yaml")
        let found = try #require(failure(["--config", file]))
        #expect(found.exitCode == 78)
        #expect(found.message == "\(file):\(clause)")
    }

    @Test("a missing file, a folder and a file that is not text are errors")
    func unreadableFiles() {
        let folder = TemporaryFolder()
        let missing = folder.path + "/none.yaml"
        #expect(
            failure(["--config", missing])
                == .configuration("\(missing): No such file or directory"))
        #expect(
            failure(["--config", folder.path])
                == .configuration("\(folder.path): not a regular file"))
        #expect(
            throws: StartFailure.configuration("x:1: not UTF-8")
        ) { try ConfigurationFile(path: "x", bytes: [0x61, 0xFF], keys: []) }
    }

    @Test("a file of comments sets nothing")
    func emptyFile() throws {
        let folder = TemporaryFolder()
        let file = folder.write("# all\n\n---\n   # comments\n", to: "c.yaml")
        #expect(try load(["--config", file]).settings == load().settings)
    }

    @Test("an unknown option is a usage error, help and version are answers")
    func answers() throws {
        #expect(failure(["--no-such-option"])?.exitCode == 64)
        #expect(failure(["surplus"])?.exitCode == 64)
        let help = try #require(failure(["--help"]))
        #expect(help.exitCode == 0)
        for setting in Setting.all {
            #expect(help.message.contains("--\(setting.key)"), "\(setting.key)")
        }
        #expect(failure(["--version"]) == .answer("smallocd \(version)"))
    }

    @Test("--check-config prints what holds and leaves with 0, or says what is wrong")
    func checkConfig() throws {
        let found = try #require(failure(["--check-config", "--loops", "2"]))
        #expect(found.exitCode == 0)
        #expect(found.message == (try load(["--loops", "2"]).settings.text))
        #expect(found.message.contains("loops: 2\n"))
        #expect(failure(["--check-config", "--loops", "two"])?.exitCode == 78)
        let long = "unix:/" + String(repeating: "x", count: 107)
        #expect(failure(["--check-config", "--listen", long])?.exitCode == 78)
    }

    @Test(
        "connections are lowered to what descriptors leave, with a warning, whether set or not")
    func descriptors() throws {
        var small = machine
        for (limit, expected) in [(1 << 20, 65_536), (4096, 3008), (100, 25), (64, 16), (3, 1)] {
            small.descriptorsMax = UInt64(limit)
            let loaded = try load(on: small)
            #expect(loaded.settings.limits.connectionsMax == UInt64(expected))
            let warning =
                "connections-max lowered from 65536 to \(expected):"
                + " the limit of file descriptors is \(limit)"
            #expect(loaded.warnings == (expected == 65_536 ? [] : [warning]))
            let asked = try load(["--connections-max", "65536"], on: small)
            #expect(asked.settings == loaded.settings)
            #expect(asked.warnings == loaded.warnings)
        }
    }

    @Test("an unknown variable and an open TCP address are warnings, not errors")
    func warnings() throws {
        let loaded = try load(
            ["--listen", "tcp:0.0.0.0:7000", "--listen", "tcp:127.0.0.1:7001"],
            ["SMALLOCD_PORT": "tcp://10.0.0.1:7000", "OTHER": "x"])
        #expect(loaded.warnings.count == 2)
        #expect(loaded.warnings.first == "environment variable SMALLOCD_PORT sets nothing")
        #expect(loaded.warnings.last?.hasPrefix("listening at 0.0.0.0 port 7000") == true)
    }

    @Test("zero-copy is accepted, with one warning where it asks for what there is not")
    func zeroCopy() throws {
        for (value, count) in [("off", 0), ("same-user", 0), ("on", 1)] {
            let warnings = try load(["--zero-copy", value]).warnings
            #expect(warnings == Array(repeating: "zero-copy has no effect any more", count: count))
        }
    }

    @Test("a reread applies limits, keeps what needs a restart, and names both")
    func reload() throws {
        let folder = TemporaryFolder()
        let file = folder.write("loops: 2\nlog-level: info\n", to: "c.yaml")
        var loaded = try load(["--config", file, "--handles-max", "9"])
        #expect(try loaded.reload(machine: machine) == LoadedSettings.Change())

        folder.write(
            "loops: 3\nlog-level: debug\nmemory-max: 1G\nhandles-max: 8\nlisten: unix:/x\n"
                + "busy-poll: 1ms\nzero-copy: off\n",
            to: "c.yaml")
        let change = try loaded.reload(machine: machine)
        #expect(change.applied == ["log-level", "memory-max", "length-max"])
        #expect(change.waiting == ["listen", "loops", "busy-poll", "zero-copy"])
        #expect(try loaded.reload(machine: machine).waiting == change.waiting)
        #expect(loaded.settings.loops == 2)
        #expect(loaded.settings.addressesAreDefault)
        #expect(loaded.settings.logLevel == .debug)
        #expect(loaded.settings.limits.memorySizeMax == 1 << 30)
        #expect(loaded.settings.limits.handlesMax == 9)

        let before = loaded.settings
        folder.write("log-level: loud\n", to: "c.yaml")
        #expect(throws: StartFailure.self) { try loaded.reload(machine: machine) }
        #expect(loaded.settings == before)
    }

    @Test("sizes and times are read and written with their units")
    func quantities() throws {
        #expect(try ByteSize.parse("0") == 0)
        #expect(try ByteSize.parse("1k") == 1024)
        #expect(try ByteSize.parse("3KB") == 3000)
        #expect(try ByteSize.parse("2TiB") == 2 << 40)
        #expect(try ByteSize.parse("18446744073709551615") == .max)
        #expect(try ByteSize.parse("100%", percentageOf: .max) == .max)
        #expect(try ByteSize.parse("50%", percentageOf: 7) == 3)
        #expect(throws: InvalidValue.self) { try ByteSize.parse("-1") }
        #expect(throws: InvalidValue.self) { try ByteSize.parse("1.5G") }
        #expect(throws: InvalidValue.self) { try ByteSize.parse("٣") }
        for size in [0, 1, 1023, 1024, 1 << 20, (1 << 30) + 1, 5 << 40] as [UInt64] {
            #expect(try ByteSize.parse(ByteSize.text(size)) == size)
        }
        #expect(try TimeSpan.parse("2h") == 7_200_000)
        #expect(TimeSpan.text(1500) == "1500ms")
        #expect(TimeSpan.text(30_000) == "30")
        #expect(throws: InvalidValue.self) { try TimeSpan.parse("99999999999999999999d") }
        #expect(throws: InvalidValue.self) { try TimeSpan.parse("ms") }
    }
}
