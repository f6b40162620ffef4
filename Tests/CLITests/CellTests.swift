// atomic, wait and notify at a shell.

import Foundation
import Testing
import TestSupport

@Suite("One integer at a shell", .timed)
struct CellTests {
    @Test("atomic prints what was there, for each action")
    func atomic() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc n 2 int16
            cli atomic n 1 add 5; cli atomic n 1 sub 7; cli atomic n 1 load
            cli atomic n 1 store -1; cli atomic n 1 and 12; cli atomic n 1 or 3
            cli atomic n 1 xor hex:0100; cli atomic n 1 exchange 9
            cli atomic n 1 compareexchange 8 1; cli atomic n 1 compareExchange 9 -1
            cli atomic --json n 1 load
            cli read n
            """)
        #expect(
            output == "0\n5\n-2\n-2\n-1\n12\n15\n14\n9\n9\n{\"name\":\"n\",\"old\":-1}\n0 -1\n")
    }

    @Test("atomic takes integers of 64 bits, exactly")
    func wide() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc i 1 int64; cli alloc u 1 uint64
            cli atomic i 0 sub 9007199254740993; cli atomic i 0 load
            cli atomic u 0 exchange 18446744073709551615; cli atomic u 0 add 2 --json
            cli atomic u 0 load
            """)
        #expect(
            output == """
                0
                -9007199254740993
                0
                {"name":"u","old":18446744073709551615}
                1

                """)
    }

    @Test("what can't be is refused, with the code of its class")
    func errors() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            cli alloc n 2 int32; cli alloc d 1 double
            cli atomic n 2 load 2>/dev/null; echo $?
            cli atomic d 0 load 2>/dev/null; echo $?
            cli atomic n 0 add x 2>/dev/null; echo $?
            cli atomic n 0 add 2>/dev/null; echo $?
            cli atomic n 0 increment 1 2>/dev/null; echo $?
            cli atomic none 0 load 2>/dev/null; echo $?
            cli wait d 0 0 2>/dev/null; echo $?
            cli wait n 0 0 --for -1 2>/dev/null; echo $?
            cli notify d 0 2>/dev/null; echo $?
            """)
        #expect(output == "3\n2\n2\n64\n64\n1\n2\n64\n2\n")
    }

    @Test("a wait ends when it is notified, or by its time, which is none of the daemon's")
    func waits() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            set -e
            cli alloc f 2 int32
            cli wait f 0 1
            cli wait f 0 0 --for 0.05 || echo $?
            cli --timeout 1 wait f 0 0 --for 1.5 || echo $?
            cli notify f 0; cli notify f 0 3 --json
            cli --timeout 1 wait f 1 0 > result &
            woken=0
            while [ "$woken" = 0 ]; do woken=$(cli notify f 1 1); done
            wait
            cat result
            cli wait f 1 0 --json > result & sleep 0.3; cli rm f; wait; cat result
            """)
        #expect(
            output == """
                differs
                timeout
                124
                timeout
                124
                0
                {"name":"f","notified":0}
                notified
                {"name":"f","result":"disposed"}

                """)
    }

    @Test("an interrupt ends a wait, in the daemon too")
    func interrupted() throws {
        let shell = try Shell()
        let tool = ProjectFolder.executable("smalloc-cli")
        let output = try shell.output(
            """
            cli alloc f 1 uint32
            env --default-signal=INT '\(tool)' wait f 0 0 &
            waiting=$!
            until cli stats requests_wait | grep -q 'requests_wait *1'; do sleep 0.02; done
            kill -INT $waiting; wait $waiting; echo $?
            cli stats requests_cancel | tail -n 1 | tr -s ' '
            cli stat f | grep handles
            cli notify f 0
            """)
        // It was the request that ended it, and not the end of the connection.
        #expect(output == "130\nrequests_cancel 1\nhandles  0\n0\n")
    }

    @Test("a second interrupt does not wait for a daemon that hangs, and the limit holds after one")
    func interruptedTwice() throws {
        let shell = try Shell()
        let tool = ProjectFolder.executable("smalloc-cli")
        #expect(try shell.output("cli alloc f 1 int32") == "")
        for (times, code) in [(1, 69), (2, 130)] {
            let result = try shell.run(
                """
                env --default-signal=INT '\(tool)' --timeout 1 wait f 0 0 &
                waiting=$!
                until cli stat f | grep -q 'handles  [12]'; do :; done
                sleep 0.3
                kill -STOP \(shell.daemon.pid)
                for time in $(seq \(times)); do kill -INT $waiting; sleep 0.3; done
                wait $waiting; code=$?
                kill -CONT \(shell.daemon.pid)
                echo $code
                """)
            #expect(result.output == "\(code)\n", "\(result)")
        }
    }
}
