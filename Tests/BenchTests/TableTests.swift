import Testing

@testable import smalloc_bench

@Suite("Table")
struct TableTests {
    @Test(
        "numbers have as many digits as they deserve",
        arguments: [
            (0.0, "0.00"), (1.005, "1.00"), (9.996, "10.00"), (12.34, "12.3"), (573, "573"),
            (9999, "9999"), (12_345, "12.3k"), (123_456, "123k"), (4_350_000, "4.35M"),
            (-0.25, "-0.25"), (.infinity, "-"),
        ])
    func numbers(value: Double, text: String) {
        #expect(Table.number(value) == text)
    }

    @Test("columns are as wide as their widest cell")
    func columns() {
        var table = Table(["point", "n"])
        table.add(["a", "100"])
        #expect(table.text == "point    n\na      100\n")
    }

    @Test("a mark that was not measured is neither met nor missed")
    func marks() {
        let marks = Mark.all(Results(series: []))
        #expect(!marks.isEmpty)
        #expect(marks.allSatisfy { $0.isMet == nil && $0.figure == nil })
    }

    @Test("marks are met or missed by the median of the rounds' ratios")
    func verdict() throws {
        func series(_ server: String, _ figures: [Double]) -> Series {
            Series(
                point: "read/64B/50x16", server: server, unit: .operations,
                samples: figures.map { Sample(figure: $0) })
        }
        let results = Results(series: [
            series("smallocd", [320, 160, 100]), series("redis", [100, 50, 50]),
            series("memcached", [200, 110, 70]),
        ])
        let marks = Mark.all(results)
        let redis = try #require(marks.first { $0.work.contains("over Redis") })
        #expect(redis.figure == 3.2)
        #expect(redis.isMet == true)
        let memcached = try #require(marks.first { $0.work.contains("over memcached") })
        #expect(memcached.isMet == false)
    }
}
