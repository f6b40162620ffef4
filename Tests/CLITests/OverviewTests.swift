// What shows many allocations: ls in its orders.

import Foundation
import TestSupport
import Testing

@Suite("Overviews of the tool", .timed)
struct OverviewTests {
    @Test("ls orders by size, age and name, and the other way round")
    func orders() throws {
        let shell = try Shell()
        let output = try shell.output(
            """
            cli alloc b 3; sleep 1.1; cli alloc c 5; cli alloc a 3; sleep 1.1; cli alloc d 4
            for order in '--sort size' '--sort size -r' '--sort name' '-r' '--sort age' '--sort age -r'
            do cli ls $order | cut -c 1 | tr -d '\\n'; echo; done
            cli ls --sort age | cut -f 5 | grep -c '^20..-..-..T..:..:..Z$'
            cli ls --sort age --json | head -1 | grep -c '"createdMilliseconds":[0-9]*}'
            cli ls --sort age --human | head -2
            """)
        #expect(
            output.hasPrefix(
                "cdab\nbadc\nabcd\ndcba\nbacd\ndcab\n4\n1\nNAME  TYPE   LENGTH  SIZE  AGE\nb     Uint8       3   3 B"
            ),
            "\(output)")
        for words in ["--sort x", "--unsorted --sort size", "--unsorted -r", "--by-size"] {
            #expect(try shell.run("cli ls \(words)").code == 64, "\(words)")
        }
    }
}
