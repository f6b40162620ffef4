import Testing

@testable import smalloc_bench

@Suite("Histogram")
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
        var corrected = Histogram()
        for _ in 0..<9_999 {
            plain.record(30)
            corrected.record(30, every: 100)
        }
        plain.record(1_000_000)
        corrected.record(1_000_000, every: 100)
        // A standstill of as long as all the others together.
        #expect(plain.percentile(0.99) == 30)
        #expect(corrected.percentile(0.99) > 900_000)
        #expect(corrected.percentile(0.49) == 30)
        #expect(corrected.count == 9_999 + 10_000)
    }
}
