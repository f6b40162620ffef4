// Subcommands that move much: each byte once, so that a mapping would not earn back what it costs.

import Smalloc
import Testing
import TestSupport

@Suite("Large transfers of the command line tool", .timed)
struct MappedTransferTests {
    @Test("what moves much leaves an allocation in the memory that it has")
    func moves() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            head -c 39999999 /dev/urandom > f
            cli put a f; cli get a - | cmp - f; cli stat a | grep flags
            for command in 'get c -' 'cat c' 'read c --format raw'; do
                cli alloc c 40000000; cli $command > out; cli stat c | grep flags; cli rm c
            done
            cli alloc c 40000000; cli write c 1 --input f
            cli stat c | grep -E 'flags|maps'; cli cat c | tail -c +2 | cmp - f
            """)
        #expect(output == String(repeating: "flags    none\n", count: 5) + "maps     none\n")
    }

    @Test("what another program has mapped is read and written where it is")
    func mapped() throws {
        let shell = try Shell()
        _ = try shell.output(
            "head -c 40000000 /dev/urandom > f; cli alloc a 40000000; cli alloc b 40000000")
        let smalloc = try Smalloc("unix:\(shell.daemon.path)")
        let map = try smalloc.open("a").map(UInt8.self)
        map.withMutableSpan { span in for index in span.indices { span[index] = 7 } }
        let output = try shell.output(
            """
            cli cat a | tr -d '\\007' | wc -c; cli write a 0 --input f; cli cat a | cmp - f
            cli stat a | grep -E 'flags|maps'
            """)
        #expect(output == "0\nflags    shared\nmaps     write\n")
    }
}
