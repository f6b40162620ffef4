import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Histogram", .timed)
struct HistogramTests {
    @Test("every value falls into a bucket whose middle is within 1/64 of it")
    func buckets() {
        var value: UInt64 = 0
        while value < 1 << 62 {
            let middle = Histogram.middle(Histogram.bucket(value))
            #expect(abs(middle - Double(value)) <= Double(value) / 64)
            value = value + value / 37 + 1
        }
    }

    @Test("buckets never go back as values grow")
    func order() {
        for value in UInt64(0)..<100_000 {
            #expect(Histogram.bucket(value + 1) - Histogram.bucket(value) <= 1)
            #expect(Histogram.bucket(value + 1) >= Histogram.bucket(value))
        }
    }

    @Test("percentiles of 1 to 1000 microseconds are where they belong")
    func percentiles() {
        var histogram = Histogram()
        for microseconds in UInt64(1)...1000 { histogram.record(microseconds * 1000) }
        #expect(abs(histogram.percentile(0.5) - 500_000) < 500_000 / 64)
        #expect(abs(histogram.percentile(0.99) - 990_000) < 990_000 / 64)
        #expect(abs(histogram.percentile(1) - 1_000_000) < 1_000_000 / 64)
    }

    @Test("an empty histogram answers 0")
    func empty() {
        let histogram = Histogram()
        #expect(histogram.percentile(0.99) == 0)
    }

    @Test("an answer that comes late counts for all who would have asked meanwhile")
    func corrected() {
        var plain = Histogram()
        var due = Histogram()
        var (now, next): (UInt64, UInt64) = (1000, 1000)
        func ask(_ time: UInt64) {
            plain.record(time)
            due.record(from: now, to: now + time, due: &next, every: 100)
            now += time
        }
        for _ in 0..<10_000 { ask(30) }
        // A standstill as long as a fiftieth of all the others together.
        ask(6000)
        #expect(plain.percentile(0.99) == 30)
        // One for every 100 ns, however often somebody asked.
        #expect(due.count == 3061)
        #expect(due.percentile(0.5) == 30)
        #expect(due.percentile(0.98) == 30)
        #expect(due.percentile(0.99) > 2500)
        #expect(abs(due.percentile(1) - 6000) < 6000 / 64)
    }
}
