// Sleeping on two words of shared memory, also where the system can sleep on one only.

import Glibc
import Synchronization
import Testing
import TestSupport

@testable import SmallocSystem

@Suite("Shared futexes", .timed, .serialized)
struct SharedFutexTests {
    /// Two words of memory that processes could share.
    private final class Words: @unchecked Sendable {
        let start: UnsafeMutableRawPointer
        init() {
            start = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        }
        deinit { munmap(start, 4096) }

        func sleep(_ first: UInt32, _ second: UInt32, milliseconds: UInt64) -> SharedFutex.End {
            SharedFutex.sleep(
                on: start, while: first, and: start + 64, is: second,
                until: Clock.now + milliseconds * 1_000_000)
        }
    }

    @Test("a sleep ends with its time, and with a word that is another", arguments: [true, false])
    func ends(sleepsOnTwo: Bool) {
        let before = SharedFutex.sleepsOnTwo.exchange(sleepsOnTwo, ordering: .relaxed)
        defer { SharedFutex.sleepsOnTwo.store(before, ordering: .relaxed) }
        let words = Words()
        #expect(words.sleep(1, 0, milliseconds: 1000) == .differs)
        let start = Clock.now
        #expect(words.sleep(0, 0, milliseconds: 30) == .over)
        #expect(Clock.now - start >= 30_000_000)
        if before, sleepsOnTwo { #expect(words.sleep(0, 1, milliseconds: 1000) == .differs) }
        // Without the second word the caller looks at it ten times a second.
        let again = Clock.now
        if !sleepsOnTwo {
            #expect(words.sleep(0, 1, milliseconds: 60_000) == .over)
            #expect(Clock.now - again < 30_000_000_000)
        }
    }

    @Test("a sleep that the system refuses once says nothing of the next one")
    func refused() {
        let words = Words()
        _ = words.sleep(1, 0, milliseconds: 1)
        guard SharedFutex.sleepsOnTwo.load(ordering: .relaxed) else { return }
        let hole = mmap(nil, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        defer { munmap(hole, 4096) }
        let end = SharedFutex.sleep(
            on: words.start, while: 0, and: hole, is: 0, until: Clock.now + 10_000_000)
        #expect(end == .over)
        let sleepsOnTwo = SharedFutex.sleepsOnTwo.load(ordering: .relaxed)
        #expect(sleepsOnTwo)
    }

    @Test("each of the words wakes, and waking tells how many", arguments: [true, false])
    func wakes(sleepsOnTwo: Bool) async {
        let before = SharedFutex.sleepsOnTwo.exchange(sleepsOnTwo, ordering: .relaxed)
        defer { SharedFutex.sleepsOnTwo.store(before, ordering: .relaxed) }
        let words = Words()
        for offset in before && sleepsOnTwo ? [0, 64] : [0] {
            await withTaskGroup(of: SharedFutex.End.self) { group in
                group.addTask {
                    var end = SharedFutex.End.over
                    // A slice at a time.
                    for _ in 0..<100 where end == .over {
                        end = words.sleep(0, 0, milliseconds: 60_000)
                    }
                    return end
                }
                let isWoken = eventually { SharedFutex.wake(words.start + offset, count: 5) == 1 }
                #expect(isWoken)
                for await end in group { #expect(end == .woken) }
            }
        }
        #expect(SharedFutex.wake(words.start, count: 5) == 0)
    }
}
