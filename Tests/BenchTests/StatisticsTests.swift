import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Statistics", .timed)
struct StatisticsTests {
    @Test("the median of an odd number of values is the middle one")
    func odd() throws {
        let statistics = try #require(Statistics([5, 1, 9]))
        #expect(statistics.median == 5)
        #expect(statistics.min == 1)
        #expect(statistics.max == 9)
    }

    @Test("the median of an even number of values is the mean of the middle two")
    func even() throws {
        #expect(try #require(Statistics([4, 1, 2, 10])).median == 3)
    }

    @Test("no values have no statistics")
    func none() {
        #expect(Statistics([]) == nil)
    }

    @Test("ratios are taken round by round, and their median counts")
    func ratios() throws {
        // A machine that becomes four times slower changes the figures but not the ratios.
        let ratio = try #require(Statistics.ratio([800, 400, 210], to: [400, 200, 100]))
        #expect(ratio.median == 2)
        #expect(ratio.max == 2.1)
    }

    @Test("a round without a figure of the other is left out")
    func missing() throws {
        #expect(try #require(Statistics.ratio([6, 4], to: [0, 2])).median == 2)
        #expect(Statistics.ratio([6], to: []) == nil)
    }
}
