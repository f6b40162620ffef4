// Whether the other side of a TCP connection counts as gone, by what the kernel says of it.

import Testing
import TestSupport

@testable import smallocd

@Suite("Liveness", .timed)
struct LivenessTests {
    private static let step: UInt64 = 2500

    /// Looks each 2.5 s for `seconds`, and tells when the other side counted as gone.
    ///
    /// - Parameter answeredAt: When it last acknowledged anything, at a time; nil: nothing is owed.
    private func goneAt(
        within seconds: UInt64, _ answeredAt: (UInt64) -> UInt64?
    ) -> UInt64? {
        var liveness = Liveness(now: 0)
        var now: UInt64 = 10_000
        while now < 10_000 + seconds * 1000 {
            let unanswered = answeredAt(now).map { Int64(now - $0) } ?? 0
            if liveness.isGone(unanswered: unanswered, now: now) { return now }
            now += LivenessTests.step
        }
        return nil
    }

    @Test("one that owes nothing stays for ever")
    func idle() {
        #expect(goneAt(within: 100_000) { _ in nil } == nil)
    }

    @Test("one that answers nothing any more is gone in time")
    func silent() throws {
        for last: UInt64 in [9999, 9000, 1] {
            let at = try #require(goneAt(within: 100) { _ in last })
            #expect(at == 10_000 + Liveness.goneMilliseconds)
        }
    }

    @Test("one that answers now and then stays, also where it owes an answer at every look")
    func seldom() {
        for interval: UInt64 in [1000, 10_000, 30_000, 35_000] {
            let at = goneAt(within: 100_000) { ($0 - 1) / interval * interval }
            #expect(at == nil, "\(interval)")
        }
    }

    @Test("one that was asked only now has its time, however long ago it last answered")
    func askedLate() throws {
        // The kernel asks about a shut window at growing intervals.
        let at = try #require(goneAt(within: 1000) { $0 < 200_000 ? nil : 80_000 })
        #expect(at == 200_000 + Liveness.goneMilliseconds)
    }

    @Test("the time between two questions does not count")
    func answeredBetween() {
        #expect(goneAt(within: 10_000) { $0 % 20_000 < 10_000 ? nil : $0 - 5000 } == nil)
    }

    @Test("a socket that the kernel knows nothing of is not gone: reading tells")
    func noSocket() {
        var liveness = Liveness(now: 0)
        for now in stride(from: UInt64(0), to: 200_000, by: Int(LivenessTests.step)) {
            let isGone = liveness.isGone(-1, now: now)
            #expect(!isGone)
        }
    }
}
