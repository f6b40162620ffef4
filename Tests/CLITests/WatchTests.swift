// watch at a shell.

import Foundation
import Testing
import TestSupport

@Suite("The tool's watch", .timed)
struct WatchTests {
    /// Waits until a watch has begun to wait: it has asked twice.
    private let begun = """
        begun() {
            until cli stats requests_watch | grep -q "requests_watch *$1"; do sleep 0.02; done
        }

        """

    @Test("each event is a line, at once, and JSON an object a line")
    func lines() throws {
        let shell = try Shell()
        let output = try shell.output(
            begun + """
                cli watch cam/ -n 6 > lines &
                cli watch -n 7 --json > objects &
                begun 4
                cli alloc new 4 uint8; cli alloc cam/1 4
                until grep -q . lines; do sleep 0.02; done; cat lines
                cli mv new cam/2; cli truncate cam/2 1; cli freeze cam/2
                cli mv -f cam/2 cam/1; cli rm cam/1
                wait
                cat lines objects
                """)
        #expect(
            output == """
                allocated cam/1
                allocated cam/1
                renamed new cam/2
                truncated cam/2
                frozen cam/2
                replaced cam/2 cam/1
                disposed cam/1
                {"event":"allocated","name":"new"}
                {"event":"allocated","name":"cam/1"}
                {"event":"renamed","name":"new","newName":"cam/2"}
                {"event":"truncated","name":"cam/2"}
                {"event":"frozen","name":"cam/2"}
                {"event":"replaced","name":"cam/2","newName":"cam/1"}
                {"event":"disposed","name":"cam/1"}

                """)
    }

    @Test("its time ends it, whatever the daemon's is, and a closed pipe does, without a word")
    func ends() throws {
        let shell = try Shell()
        let output = try shell.output(
            begun + """
                cli watch --for 0.1; echo $?
                cli --timeout 0.5 watch --for 1; echo $?
                cli watch -n 0; echo $?
                cli watch --for -1 2>/dev/null; echo $?
                cli watch 'a b' 2>/dev/null; echo $?
                cli stats requests_cancel | tail -n 1 | tr -s ' '
                (cli watch; echo $? >&2) | head -n 1 > first &
                begun 7
                cli alloc a 1; sleep 0.3; cli alloc b 1
                wait; cat first
                """)
        // -n 0 asks once only.
        #expect(output == "0\n0\n0\n64\n2\nrequests_cancel 2\nallocated a\n")
        let errors = try String(contentsOfFile: shell.folder + "/.errors", encoding: .utf8)
        #expect(!errors.contains("smalloc-cli"), "\(errors)")
    }

    @Test("an interrupt ends it, in the daemon too")
    func interrupted() throws {
        let shell = try Shell()
        let tool = ProjectFolder.executable("smalloc-cli")
        let output = try shell.output(
            begun + """
                env --default-signal=INT '\(tool)' watch cam/ &
                waiting=$!
                begun 2
                kill -INT $waiting; wait $waiting; echo $?
                cli stats requests_cancel | tail -n 1 | tr -s ' '
                """)
        // It was the request that ended it, and not the end of the connection.
        #expect(output == "130\nrequests_cancel 1\n")
    }
}
