// A process of its own that uses allocations, for tests that need real processes: to kill them, or
// to have this library and another one at the same memory.

import Glibc
import Smalloc

/// What its first argument names.
///
/// The second one is the daemon's address.
@main struct MappedWorker {
    static func main() throws {
        let words = CommandLine.arguments
        guard words.count >= 3 else { exit(2) }
        switch (words[1], words.count) {
        case ("follow", 5): try follow(words[2], words[3], own: number(words[4]))
        case ("count", 6):
            try count(words[2], words[3], index: number(words[4]), number(words[5]))
        case ("serve", 3): try Serving(words[2]).run()
        default: exit(2)
        }
    }

    private static func number(_ word: String) -> Int {
        guard let number = Int(word) else { exit(2) }
        return number
    }

    /// Waits for element 0 of an allocation to change, and says in an element of its own what it
    /// saw.
    ///
    /// Ends with 0 when the allocation is disposed of, with 3 when nothing woke it for 20 seconds.
    private static func follow(_ address: String, _ name: String, own: Int) throws {
        let map = try Smalloc(address).open(name).map(Int32.self)
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

    /// Adds 1 to an element so many times, in mapped memory, once element 0 is not 0.
    private static func count(_ address: String, _ name: String, index: Int, _ count: Int) throws {
        let map = try Smalloc(address).open(name).map(Int64.self)
        // All of them begin together.
        while map.atomicLoad(0) == 0 { usleep(100) }
        for _ in 0..<count { map.atomicAdd(1, at: index) }
    }
}
