import Testing
import TestSupport

@testable import smallocd

@Suite("Busy polling", .timed)
struct BusyPollTests {
    /// What a loop decides after each of these polls.
    private func decisions(
        window: UInt64, _ polls: [(isActive: Bool, microseconds: UInt64)]
    ) -> [Bool] {
        var busy = BusyPoll(microseconds: window)
        return polls.map { busy.polled(isActive: $0.isActive, now: $0.microseconds * 1000) }
    }

    @Test("requests within the window keep a loop awake, and it sleeps when they have ceased")
    func awake() {
        #expect(
            decisions(
                window: 50,
                [
                    (true, 1000), (true, 1049), (false, 1060), (false, 1098), (false, 1099),
                    (false, 1100),
                ]) == [false, true, true, true, false, false])
    }

    @Test("requests further apart than the window never keep a loop awake")
    func seldom() {
        let polls = (1...100).map { (isActive: true, microseconds: UInt64($0) * 50) }
        #expect(decisions(window: 50, polls).allSatisfy { !$0 })
    }

    @Test("a loop whose processor somebody else wants sleeps for a while, and then polls again")
    func contended() {
        var busy = BusyPoll(microseconds: 50)
        var now: UInt64 = 1_000_000
        func next(_ busy: inout BusyPoll) -> Bool {
            now += 10_000
            return busy.polled(isActive: true, now: now)
        }
        _ = next(&busy)
        let awake = next(&busy)
        busy.yielded(from: now, to: now + 100_000)
        let undisturbed = next(&busy)
        busy.yielded(from: now, to: now + 3_000_000)
        now += 3_000_000
        let rests = (0..<49_000).map { _ in next(&busy) }
        now += 20_000_000
        _ = next(&busy)
        let again = next(&busy)
        #expect(awake && undisturbed && again)
        #expect(rests.allSatisfy { !$0 })
    }

    @Test("a window of 0 never polls")
    func off() {
        let polls = (1...100).map { (isActive: true, microseconds: UInt64($0)) }
        #expect(decisions(window: 0, polls).allSatisfy { !$0 })
    }

    @Test("polls that bring nothing keep no loop awake, however close together they are")
    func idle() {
        let polls = (1...100).map { (isActive: false, microseconds: UInt64($0)) }
        #expect(decisions(window: 50, polls).allSatisfy { !$0 })
    }
}
