// What `put` reads and `get` writes: files of any kind, whatever is said of their size; holes; and
// what is replaced.

import Foundation
import TestSupport
import Testing

@Suite("Files of the tool", .timed, .serialized)
struct TransferTests {
    private let tool = ProjectFolder.executable("smalloc-cli")

    @Test("a file is read to its end, whatever size the system tells of it")
    func sizes() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli put a /proc/self/status; cli cat a | grep -c '^Name:'
            cat /proc/version > version; cli put b /proc/version; cli cat b | cmp - version
            : > empty; cli put c empty; cli put d < empty; cli ls c; cli ls d
            printf '0123456789' > f
            cli put e --skip 4 f; cli cat e; echo
            (read -r -n 1 first 2>/dev/null || dd bs=1 count=1 2>/dev/null >/dev/null; cli put g) < f
            cli stat g | grep -c 'length   [49]'
            cat f | cli put h --skip 3; cli cat h; echo
            mkfifo pipe; cat f > pipe & cli put i pipe; cli cat i; echo
            """)
        #expect(
            output == "1\nc\tUint8\t0\t0\nd\tUint8\t0\t0\n456789\n1\n3456789\n0123456789\n")
        let short = try shell.run("cli put k --skip 11 f; echo $?; cli put k --skip 1 empty")
        #expect(short.output == "74\n" && short.code == 74)
        #expect(
            short.errors
                == "smalloc-cli: f: has 10 bytes, and 11 are to be skipped\n"
                + "smalloc-cli: empty: has 0 bytes, and 1 are to be skipped\n")
    }

    @Test(
        "a file that grows while it is put is read to where it ends then",
        // With the second there is room for a larger one beside it, and none to spare.
        arguments: [[], ["--memory-max", "240MB"]])
    func growing(options: [String]) throws {
        let shell = try Shell(options)
        let output = try shell.output(
            """
            set -e
            head -c 100000000 /dev/urandom > f
            '\(tool)' put a f & put=$!
            # Stopped as soon as it has read something.
            for turn in $(seq 2000); do
                grep -qs 'pos:.*[0-9]\\{7\\}' /proc/$put/fdinfo/* && break
            done
            kill -STOP $put; head -c 30000000 /dev/urandom >> f; kill -CONT $put; wait $put
            cli cat a | cmp - f; cli stat a | grep length
            """)
        #expect(output == "length   130000000\n")
    }

    @Test(
        "what a file gets behind a hole, while the hole is looked at, is no hole",
        FileFaults.isThere)
    func growingHole() throws {
        let output = try Shell().output(
            """
            truncate -s 1M f
            LD_PRELOAD='\(FileFaults.library ?? "")' SMALLOC_TEST_GROWING=f '\(tool)' put a f
            cli cat a | cmp - f; cli cat a | tr -d '\\0' | wc -c; cli ls a
            """)
        #expect(output == "65536\na\tUint8\t1114112\t1114112\n")
    }

    @Test("a little from a pipe goes where only little may be allocated")
    func little() throws {
        let shell = try Shell(["--memory-max", "1M"])
        let output = try shell.output(
            "echo hi | cli put a; cli cat a; head -c 500000 /dev/zero | cli put b; cli ls b")
        #expect(output == "hi\nb\tUint8\t500000\t500000\n")
    }

    @Test(
        "holes and zeros cost neither memory nor room on a disk, and both ends take little memory",
        .enabled(if: !DaemonProcess.isSanitized, "a sanitizer takes memory of its own"))
    func holes() throws {
        let shell = try Shell(["--memory-max", "4G"])
        let output = try shell.output(
            """
            set -e
            ulimit -v 250000
            truncate -s 200M f
            for at in 0 65000000 199999999; do
                printf abc | dd of=f bs=1 seek=$at conv=notrunc 2>/dev/null
            done
            cp --sparse=never f dense
            cli put a f; cli put c dense; cli get a out; cmp f out; cli cat c | cmp - f
            sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/\(shell.daemon.pid)/status
            cat f | cli put b; cli get b - > piped; cmp f piped
            cli cat b > cat; cmp f cat
            for file in out piped cat; do
                [ $(du -k $file | cut -f 1) -lt 2000 ] && echo small
            done
            """)
        let lines = output.split(separator: "\n")
        #expect(lines.dropFirst() == ["small", "small", "small"])
        let kilobytes = try #require(lines.first.flatMap { Int($0) })
        #expect(kilobytes < 100 << 10, "\(kilobytes) KiB of the daemon")
        #expect(try shell.output("cli stat b | grep flags") == "flags    none\n")
    }

    @Test("zeros of every length and place come out as they went in")
    func zeros() throws {
        var random = SplitMix(for: "TransferTests")
        let seed = random.seed
        let shell = try Shell()
        var bytes = Data()
        for _ in 0..<200 {
            let size = Int.random(in: 1...300_000, using: &random)
            let byte: UInt8 =
                Bool.random(using: &random) ? 0 : UInt8.random(in: .min ... .max, using: &random)
            bytes.append(Data(repeating: byte, count: size))
        }
        bytes.append(Data(repeating: 0, count: Int.random(in: 0...200_000, using: &random)))
        try bytes.write(to: URL(fileURLWithPath: shell.folder + "/f"))
        let result = try shell.run(
            """
            set -e
            cp --sparse=always f sparse
            cli put a f; cli put b sparse; cat f | cli put c
            cli put d --type complexdouble --skip $(($(stat -c %s f) % 16)) sparse
            for name in a b c; do cli cat $name | cmp - f; cli get $name out; cmp out f; done
            cli get d out; tail -c +$(($(stat -c %s f) % 16 + 1)) f | cmp - out
            (printf x; cli cat a) > out; tail -c +2 out | cmp - f
            cat f > twice; cat f >> twice
            cli cat a >> out; tail -c +2 out | cmp - twice
            cli cat a b > out; cmp out twice
            """)
        #expect(result.code == 0, "seed \(seed): \(result.errors)")
    }

    @Test("a get that fails leaves the old file, and nothing else")
    func failing() throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            cli alloc a 40M; cli fill a 0 40M 7; mkdir in; echo old > in/f
            # A file may have 1 MiB at the most, which is told as a signal that is ignored.
            (trap '' XFSZ; ulimit -f 1024; cli get a in/f; echo $?; cli read a -o in/f; echo $?)
            cli get none in/f; echo $?
            kill -STOP \(shell.daemon.pid); cli get a in/f --timeout 0.3; echo $?
            kill -CONT \(shell.daemon.pid)
            cat in/f; ls -A in
            """)
        #expect(result.output == "74\n74\n1\n69\nold\nf\n", "\(result.errors)")
        #expect(result.errors.contains("smalloc-cli: in/f: can't write: File too large\n"))
    }

    @Test("a get that is killed leaves the old file, and nothing else", arguments: [9, 15])
    func killed(signal: Int) throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            cli alloc a 400M; mkdir in; echo old > in/f
            '\(tool)' get a in/f & get=$!
            for turn in $(seq 400); do
                [ -n "$(find /proc/$get/fd -lname "$PWD/in/*" 2>/dev/null)" ] && break; sleep 0.005
            done
            kill -STOP $get; kill -\(signal) $get; kill -CONT $get; wait $get 2>/dev/null
            echo $?; cat in/f; ls -A in
            """)
        #expect(result.output == "\(128 + signal)\nold\nf\n", "\(result.errors)")
    }

    @Test("what is replaced keeps its mode and the links to it, and devices are written to")
    func replacing() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            umask 027
            printf abcdef | cli put a
            cli get a new; stat -c %a new
            echo old > f; chmod 604 f; ln -s f link; ln -s link other
            cli get a other; cat f; echo; stat -c %a f; readlink other link
            cli get a /dev/stdout; echo
            cli get a /dev/stdout | cat; echo
            cli get a /proc/self/fd/1 > redirected; cat redirected; echo
            cli get a /dev/null; stat -c %F /dev/null
            mkfifo pipe; (cat pipe; echo) & cli get a pipe; wait; stat -c %F pipe
            ln -s nothing dangling; cli get a dangling; cat nothing; echo
            cli read a 0 2 -o f; cat f; stat -c %a f
            """)
        #expect(
            output == """
                640
                abcdef
                604
                link
                f
                abcdef
                abcdef
                abcdef
                character special file
                abcdef
                fifo
                abcdef
                97 98
                604

                """)
        let refused = try shell.run("mkdir d; cli get a d; cli get a no/f; ln -s l l; cli get a l")
        #expect(refused.code == 74)
        #expect(
            refused.errors == """
                smalloc-cli: d: can't open: Is a directory
                smalloc-cli: no/f: can't open: No such file or directory
                smalloc-cli: l: can't open: Too many levels of symbolic links

                """)
    }

    @Test("what goes wrong with a file names the file, and not the allocation")
    func names() throws {
        let shell = try Shell()
        let result = try shell.run(
            """
            cli alloc b 2; mkdir d
            cli put a d; cli write b 0 --input d; cli write b 0 --from d; cli cat b > /dev/full
            cli get b > /dev/full; cli get b /dev/full; cli write b 0 --input /proc/version
            printf abc > f; cli put c f --type int16
            """)
        #expect(
            result.errors == """
                smalloc-cli: d: can't read: Is a directory
                smalloc-cli: d: can't read: Is a directory
                smalloc-cli: d: can't read: Is a directory
                smalloc-cli: standard output: can't write: No space left on device
                smalloc-cli: standard output: can't write: No space left on device
                smalloc-cli: /dev/full: can't write: No space left on device
                smalloc-cli: b: RangeError: start + count > length (/proc/version: start 0, count \
                \(try String(contentsOfFile: "/proc/version", encoding: .utf8).utf8.count), length 2)
                smalloc-cli: c: TypeError: f has 3 bytes, which are not whole elements of Int16, \
                2 bytes each

                """)
    }
}
