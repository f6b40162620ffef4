// Subcommands that move much: by a mapping of the memory where the daemon is on the same machine.

import Testing
import TestSupport

@Suite("Mappings of the command line tool", .timed)
struct MappedTransferTests {
    @Test("what moves more than a block of 16 MiB takes a mapping by itself, and moves the same")
    func moves() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            head -c 39999999 /dev/urandom > f
            cli put a f; cli stat a | grep flags; cli get a - | cmp - f
            head -c 39999999 f | cli put b; cli cat b | cmp - f
            for command in 'get c -' 'cat c' 'read c --format raw'; do
                cli alloc c 40000000; cli $command > out; cli stat c | grep flags; cli rm c
            done
            cli alloc c 40000000; cli write c 1 --input f
            cli stat c | grep -E 'flags|maps'; cli cat c | tail -c +2 | cmp - f
            """)
        #expect(
            output == String(repeating: "flags    shared\n", count: 5) + "maps     none\n")
    }

    @Test("what is copied inside the daemon, moves little, or goes by TCP takes none")
    func others() throws {
        let port = try RawSocket.freePort()
        let shell = try Shell(["--listen", "tcp:127.0.0.1:\(port)"])
        let output = try shell.output(
            """
            set -e
            head -c 40000000 /dev/zero > f; head -c 10000000 f > small
            cli put a small; cli cp a b; cli stat a b | grep flags
            cli put c f --address tcp:127.0.0.1:\(port); cli stat c | grep flags
            cli cat c --address tcp:127.0.0.1:\(port) | cmp - f
            """)
        #expect(output == String(repeating: "flags    none\n", count: 3))
    }
}
