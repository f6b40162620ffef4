// A process that maps an allocation and follows a number in it, for tests that kill such processes.

import Glibc
import Smalloc

/// Waits for element 0 of an allocation to change, and says in an element of its own what it saw.
@main struct MappedWorker {
    /// Arguments: the daemon's address, the allocation's name, the index of its own element.
    ///
    /// Ends with 0 when the allocation is disposed of, with 3 when nothing woke it for 20 seconds.
    static func main() throws {
        let words = CommandLine.arguments
        guard words.count == 4, let own = Int(words[3]) else { exit(2) }
        let map = try Smalloc(words[1]).open(words[2]).map(Int32.self)
        var seen = map.atomicLoad(0)
        while true {
            map.atomicStore(seen, at: own)
            try map.notify(at: own)
            while map.atomicLoad(0) == seen {
                switch try map.wait(at: 0, while: seen, timeout: .seconds(20)) {
                case .timeout: exit(3)
                case .disposed: exit(0)
                case .differs, .notified: break
                }
            }
            seen = map.atomicLoad(0)
        }
    }
}
