// What the tool says when something is wrong: JSON for scripts, what helps for people; and by which
// code.

import Foundation
import TestSupport
import Testing

@Suite("Messages of the tool", .timed)
struct MessageTests {
    @Test(
        "with --json usage errors are JSON, too",
        arguments: [
            ("--json nope", "Unexpected argument 'nope'"),
            ("wait --json", "Missing expected argument '<name>'"),
            ("alloc a 1x --json", "The value '1x' is invalid for '<length>'"),
            ("help nope --json", "Unknown subcommand 'nope'"),
            ("--json read a --bogus", "Unknown option '--bogus'"),
            ("--json ping --timeout nan", "--timeout takes 0 to 1000000000 seconds"),
            (
                "ls --json --address foo",
                "\"foo\" is no connection string: unix:PATH or tcp:HOST:PORT"
            ),
        ])
    func usage(words: String, text: String) throws {
        let result = try Shell().run("cli \(words)")
        #expect(result.code == 64 && result.output.isEmpty)
        let parsed = try JSONSerialization.jsonObject(with: Data(result.errors.utf8))
        let error = (parsed as? [String: Any])?["error"] as? [String: String]
        #expect(error?["status"] == "usage")
        #expect(error?["message"]?.hasPrefix(text) == true, "\(result.errors)")
    }

    @Test("an option that there is not is blamed, and no word that is missing for it")
    func unknownOption() throws {
        let shell = try Shell()
        for (words, option) in [
            ("alloc -x 10", "-x"), ("alloc --shap 3", "--shap"), ("write -q", "-q"),
            ("stat -z", "-z"),
        ] {
            let result = try shell.run("cli \(words)")
            #expect(
                result.code == 64 && result.errors.contains("Unknown option '\(option)'"),
                "\(result)")
        }
        let missing = try shell.run("cli alloc --shareable")
        #expect(missing.errors.contains("Missing expected argument '<name>'"))
    }

    @Test("help of what there is not is an error")
    func help() throws {
        let result = try Shell().run(
            "cli help nope; echo $?; cli help rm >/dev/null && cli help dispose >/dev/null && cli help help >/dev/null"
        )
        #expect(result.code == 0 && result.output == "64\n")
        #expect(result.errors.contains("Unknown subcommand 'nope'"))
    }

    @Test("lengths and sizes have the units of the daemon's settings, and an error tells them")
    func units() throws {
        let shell = try Shell()
        for (word, value) in [
            ("100", 100), ("100B", 100), ("4K", 4096), ("4k", 4096), ("4KiB", 4096), ("4KB", 4000),
            ("2M", 2 << 20), ("2mib", 2 << 20), ("2MB", 2_000_000), ("0G", 0),
        ] {
            let output = try shell.output("cli alloc a \(word); cli ls; cli rm a")
            #expect(output == "a\tUint8\t\(value)\t\(value)\n", "\(word)")
        }
        let text = "K, M, G, T, P, E or KiB, MiB, ... (powers of 1024), KB, MB, ... (of 1000)"
        for words in ["alloc a 1XB", "read a 1KIBB", "put a /dev/null --skip 1.5", "truncate a x"] {
            let result = try shell.run("cli \(words)")
            #expect(result.code == 64 && result.errors.contains(text), "\(words): \(result.errors)")
        }
        #expect(try shell.run("cli alloc a 9EB").code == 3)
        #expect(try shell.run("cli alloc a 8EiB").code == 3)
    }

    @Test("a name that is taken is told with what takes it")
    func hint() throws {
        let result = try Shell().run(
            """
            cli alloc a 1; cli alloc b 1
            printf x | cli put a; echo $?; cli cp b a; echo $?; cli mv b a; echo $?
            cli cp -f b a; cli mv -f b a; cli ls | wc -l
            """)
        #expect(result.output == "2\n2\n2\n1\n")
        let text = "TypeError: object already has external array data; --force takes its place\n"
        #expect(
            result.errors == "smalloc-cli: a: \(text)smalloc-cli: b to a: \(text)"
                + "smalloc-cli: b to a: \(text)")
    }

    @Test("numbers that are out of range are told with what they were compared with")
    func numbers() throws {
        let shell = try Shell()
        for (words, text) in [
            ("read a 5", "start > length (start 5, length 4)"),
            ("read a 1 4", "start + count > length (start 1, count 4, length 4)"),
            ("write a 3 1 2", "start + count > length (start 3, count 2, length 4)"),
            ("fill a 2 3 1", "start + count > length (start 2, count 3, length 4)"),
        ] {
            let result = try shell.run("cli alloc a 4; cli \(words)")
            #expect(
                result.errors.hasSuffix("smalloc-cli: a: RangeError: \(text)\n"), "\(result.errors)"
            )
            _ = try shell.run("cli rm a")
        }
        let json = try shell.run("cli alloc a 4; cli read a 5 --json")
        #expect(json.errors.contains(#""detail":"start 5, length 4","subject":"a"}}"#))
    }

    @Test("what is asked of many names goes on behind one that fails")
    func goesOn() throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            for name in x y; do printf $name | cli put $name; done
            cli stat nope y none | head -1; cli stat nope y > /dev/null; echo $?
            cli cat nope x none y; echo " $?"; cli freeze nope x; echo $?
            cli stat x --json | grep -o frozen
            cli stat nope x --json | wc -l
            """)
        #expect(result.output == "name     y\n1\nxy 1\n1\nfrozen\n1\n")
        #expect(result.errors.split(separator: "\n").count == 7)
    }

    @Test("the code of wait tells what ended it")
    func waiting() throws {
        let shell = try Shell()
        let tool = ProjectFolder.executable("smalloc-cli")
        let result = try shell.run(
            """
            cli alloc a 1 int32
            cli wait a 0 1; echo $?; cli wait a 0 0 --for 0.05; echo $?
            cli wait a 0 0 --for 0 --json; echo $?
            '\(tool)' wait a 0 0 & wait=$!
            until [ "$(cli notify a 0)" = 1 ]; do sleep 0.02; done; wait $wait; echo $?
            '\(tool)' wait a 0 0 & wait=$!
            until [ "$(cli stats requests_wait)" = "requests_wait  5" ]; do sleep 0.02; done
            sleep 0.1; cli rm a; wait $wait; echo $?
            """)
        #expect(
            result.output == """
                differs
                0
                timeout
                124
                {"name":"a","result":"timeout"}
                124
                notified
                0
                disposed
                4

                """, "\(result.errors)")
    }

    @Test("a host that has no address is a daemon that is not there")
    func host() throws {
        let result = try Shell().run("cli ping --address tcp:no.such.host.invalid:1 --timeout 20")
        #expect(result.code == 69)
        #expect(
            result.errors.hasPrefix("smalloc-cli: Error: no address for no.such.host.invalid: "))
    }
}
