import Testing

@testable import smallocd

@Suite("Busy polling")
struct BusyPollTests {
    @Test("requests within the window keep a loop awake, and it sleeps when they have ceased")
    func awake() {
        var busy = BusyPoll(microseconds: 50)
        #expect(!busy.polled(isActive: true, now: 1_000_000))
        #expect(busy.polled(isActive: true, now: 1_049_000))
        #expect(busy.polled(isActive: false, now: 1_060_000))
        #expect(busy.polled(isActive: false, now: 1_098_000))
        #expect(!busy.polled(isActive: false, now: 1_099_000))
        #expect(!busy.polled(isActive: false, now: 1_099_500))
    }

    @Test("requests further apart than the window never keep a loop awake")
    func seldom() {
        var busy = BusyPoll(microseconds: 50)
        for turn in 1...100 { #expect(!busy.polled(isActive: true, now: UInt64(turn) * 50_000)) }
    }

    @Test("a window of 0 never polls")
    func off() {
        var busy = BusyPoll(microseconds: 0)
        for turn in 1...100 { #expect(!busy.polled(isActive: true, now: UInt64(turn))) }
    }

    @Test("the first request after the start is not taken for the second")
    func first() {
        var busy = BusyPoll(microseconds: 50)
        #expect(!busy.polled(isActive: false, now: 10))
        #expect(!busy.polled(isActive: false, now: 20))
    }
}
