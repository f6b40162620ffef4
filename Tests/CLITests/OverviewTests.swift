// What shows many allocations, or the daemon as a whole: ls in its orders, top, doctor.

import Foundation
import TestSupport
import Testing

@testable import smalloc_cli

@Suite("Overviews of the tool", .timed)
struct OverviewTests {
    private func terminal(_ shell: Shell, _ words: [String]) throws -> Terminal {
        try Terminal(
            [ProjectFolder.executable("smalloc-cli")] + words,
            environment: [
                "SMALLOC_ADDRESS": "unix:\(shell.daemon.path)", "SWIFT_BACKTRACE": "enable=no",
                "LD_LIBRARY_PATH": ProcessInfo.processInfo.environment["LD_LIBRARY_PATH"] ?? "",
            ])
    }

    @Test("ls orders by size, age and name, and the other way round")
    func orders() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            made() { cli stat p --json | grep -o '"createdMilliseconds":[0-9]*'; }
            # Until the daemon's clock, which counts seconds, has gone on.
            tick() {
                cli alloc p 1; first=$(made)
                while cli rm p; cli alloc p 1; [ "$(made)" = "$first" ]; do sleep 0.05; done
                cli rm p
            }
            cli alloc b 3; tick; cli alloc c 5; cli alloc a 3; tick; cli alloc d 4
            for order in '--sort size' '--sort size -r' '--sort name' '-r'
            do cli ls $order | cut -c 1 | tr -d '\\n'; echo; done
            for order in '' '-r'
            do cli ls --sort age $order | grep -v ^a | cut -c 1 | tr -d '\\n'; echo; done
            cli ls --sort age | cut -f 5 | grep -c '^20..-..-..T..:..:..Z$'
            cli ls --sort age --json | head -1 | grep -c '"createdMilliseconds":[0-9]*}'
            cli ls --sort age --human | head -2
            """)
        #expect(
            output.hasPrefix(
                "cdab\nbadc\nabcd\ndcba\nbcd\ndcb\n4\n1\nNAME  TYPE   LENGTH  SIZE  AGE\nb     Uint8       3   3 B"
            ),
            "\(output)")
        for words in ["--sort x", "--unsorted --sort size", "--unsorted -r", "--by-size"] {
            #expect(try shell.run("cli ls \(words)").code == 64, "\(words)")
        }
    }

    @Test("a number from a daemon is printed however large it is")
    func large() {
        #expect(decimal(1e300, 0) == "1e+300")
        #expect(decimal(Double(UInt64.max), 3) == "1.8446744073709552e+19")
        #expect(timestamp(.max).hasSuffix("Z"))
        #expect(humanSize(UInt64.max) == "16 EiB")
    }

    @Test("top shows the largest or the oldest as plain text where there is no terminal")
    func top() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            for size in 1 3000 20 300; do cli alloc s$size $size; done
            cli top -n 1 | sed -n '3,8p' | cut -c 1-30
            cli top -n 1 --rows 2 | sed -n '4,6p' | cut -d ' ' -f 1
            cli top -n 1 s3 --sort age | grep -c ^s
            cli top -n 3 -i 0.02 | grep -c NAME
            cli top -n 2 -i 0.02 --json | wc -l
            cli top -n 1 --json --rows 1
            """)
        let lines = output.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(
            Array(lines.prefix(12)) == [
                "", "NAME   TYPE   LENGTH     SIZE ", "s3000  Uint8    3000  2.9 KiB ",
                "s300   Uint8     300    300 B ", "s20    Uint8      20     20 B ",
                "s1     Uint8       1      1 B ", "NAME", "s3000", "s300", "2", "3", "2",
            ], "\(output)")
        let json = try JSONSerialization.jsonObject(with: Data(lines[12].utf8)) as? [String: Any]
        #expect(json?["allocations"] as? Int == 4)
        #expect(((json?["top"] as? [[String: Any]])?.first)?["name"] as? String == "s3000")
        for words in ["--sort name", "-n 0", "-i 0", "--rows 0"] {
            #expect(try shell.run("cli top \(words)").code == 64, "\(words)")
        }
    }

    @Test("top shows the connections that moved most since the round before")
    func topClients() throws {
        let shell = try Shell()
        let quiet = try shell.daemon.text()
        #expect(try quiet.ask("alloc a 100000") == "OK")
        for _ in 0..<4 { #expect(try quiet.ask("read a").hasPrefix("OK 0 0")) }
        let first = try shell.output("cli top -n 1 | sed -n '/PROGRAM/,$p' | tr -s ' '")
        let lines = first.split(separator: "\n").map { $0.split(separator: " ") }
        #expect(lines.count == 3 && lines[0].first == "ID", "\(first)")
        // The text connection has moved 800,000 bytes, the tool's own some hundred.
        #expect(lines[1].last == "KiB" && lines[2][1].hasPrefix("smalloc-cli"), "\(first)")
        let rounds = try shell.output("cli top -n 2 -i 0.05 --json").split(separator: "\n")
        let second = try JSONSerialization.jsonObject(with: Data(rounds[1].utf8))
        let clients = try #require((second as? [String: Any])?["clients"] as? [[String: Any]])
        #expect(clients.map { ($0["program"] as? String)?.first } == ["s", "-"])
        #expect(clients[1]["moved"] as? Int == 0)
    }

    @Test("on a terminal top shows in place until q or a signal, and gives the terminal back")
    func topInPlace() throws {
        let shell = try Shell()
        _ = try shell.output("cli alloc first 9")
        for key in ["q", "Q", "\u{3}"] {
            let terminal = try terminal(shell, ["top", "-i", "0.1"])
            #expect(terminal.wait { terminal.output.contains("first") }, "\(terminal.output)")
            #expect(terminal.output.hasPrefix("\u{1B}[?1049h\u{1B}[?25l"))
            #expect(terminal.wait { terminal.output.contains("requests/s") })
            terminal.type(key)
            let end = "\u{1B}[?25h\u{1B}[?1049l"
            #expect(
                terminal.wait { terminal.output.contains(end) }, "\(terminal.output.suffix(200))")
        }
        // Also where the daemon answers no more, and where it goes away.
        let waiting = try terminal(shell, ["top", "-i", "0.1", "--timeout", "0.3"])
        #expect(waiting.wait { waiting.output.contains("first") })
        shell.daemon.signal(SIGSTOP)
        defer { shell.daemon.signal(SIGCONT) }
        #expect(
            waiting.wait { waiting.output.contains("\u{1B}[?1049lsmalloc-cli: Error: no answer") },
            "\(waiting.output.suffix(300))")
    }

    @Test("doctor says what it finds, and JSON for scripts")
    func doctor() throws {
        let shell = try Shell(["--memory-max", "1M"])
        let well = try shell.run("cli alloc a 100K; cli doctor")
        #expect(well.code == 0, "\(well)")
        #expect(
            well.output.contains("ok     Of 1.0 MiB of memory 100 KiB are used, 10%.\n"),
            "\(well.output)")
        #expect(well.output.contains("descriptors open"))
        let full = try shell.run("cli alloc b 899K; cli doctor --json")
        #expect(full.code == 1, "\(full)")
        let parsed = try JSONSerialization.jsonObject(with: Data(full.output.utf8))
        let findings = try #require(parsed as? [[String: String]])
        #expect(
            findings.filter { $0["level"] == "wrong" }.map {
                $0["text"]?.contains("raise memory-max")
            }
                == [true])
        #expect(try shell.run("cli doctor --address unix:/no/such").code == 69)
    }

    @Test("doctor tells what is tight from what is wrong")
    func diagnosis() {
        func levels(
            _ stats: [(key: String, value: String)], _ machine: Machine? = nil
        ) -> [String: Finding.Level] {
            let findings = Diagnosis(stats, machine).findings
            return Dictionary(uniqueKeysWithValues: findings.map { ($0.text, $0.level) })
        }
        func level(
            _ words: String, _ stats: [(key: String, value: String)], _ machine: Machine? = nil
        ) -> Finding.Level? { levels(stats, machine).first { $0.key.contains(words) }?.value }
        for (used, expected) in [(79, Finding.Level.ok), (80, .note), (94, .note), (95, .wrong)] {
            #expect(
                level("memory", [("memory_used_bytes", "\(used)"), ("limit_memory_bytes", "100")])
                    == expected)
            #expect(
                level("allocations", [("allocations", "\(used)"), ("limit_allocations", "100")])
                    == expected)
            #expect(
                level("connections", [("connections", "\(used)"), ("limit_connections", "100")])
                    == expected)
            var machine = Machine()
            (machine.descriptors, machine.descriptorsMax) = (UInt64(used), 100)
            (machine.mappings, machine.mappingsMax) = (UInt64(used), 100)
            #expect(level("descriptors open", [], machine) == expected)
            #expect(level("mappings", [], machine) == expected)
        }
        let held: [(key: String, value: String)] = [
            ("memory_held_bytes", "20"), ("limit_memory_bytes", "100"),
            ("memory_held_bytes_uid_7", "15"), ("memory_held_bytes_uid_none", "5"),
        ]
        #expect(level("15 B of user 7, 5 B made over TCP", held) == .note)
        #expect(level("longest turn", [("loop_longest_turn_us", "19000")]) == .ok)
        #expect(level("longest turn", [("loop_longest_turn_us", "21000")]) == .note)
        #expect(level("longest turn", [("loop_longest_turn_us", "2000000")]) == .wrong)
        #expect(level("does not know", [("requests_hello", "1")]) == .note)
        #expect(level("version 0.0.9", [("version", "0.0.9")]) == .note)
        #expect(
            level(
                "refused since the start: 90 noData",
                [("errors", "100"), ("requests_read", "200"), ("errors_noData", "90")])
                == .note)
        var machine = Machine()
        machine.overcommit = 2
        machine.sharedHugePages = "never"
        #expect(level("vm.overcommit_memory is 2", [], machine) == .note)
        #expect(level("shmem_enabled is never", [], machine) == .note)
        machine.overcommit = 1
        machine.sharedHugePages = "advise"
        #expect(levels([], machine).values.filter { $0 != .ok }.count == 1)
        // Nonsense from a daemon is no reason to fail.
        #expect(
            level(
                "memory",
                [
                    ("memory_used_bytes", "\(UInt64.max)"), ("memory_scattered_bytes", "9"),
                    ("limit_memory_bytes", "0"),
                ])
                == .ok)
    }
}
