import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Table", .timed)
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

    /// Every series that a mark looks at: of the daemon as good as `factor` says, and of all others.
    private static func results(_ factor: Double, note: String = "") -> Results {
        let points = PointCatalog.entries(quick: false, calibrate: false, builds: true).map(\.name)
        let others = [
            "redis", "memcached", "nbdkit", "raw C", "memmove", Yardsticks.pingPongLabel,
            Yardsticks.streamLabel,
        ]
        var series: [Series] = []
        for point in points where !point.hasPrefix("memory/") && !point.hasPrefix("latency/") {
            func add(_ server: String, _ figure: Double) {
                series.append(
                    Series(
                        point: point, server: server, unit: .operations,
                        samples: [Sample(figure: figure, processor: 1 / figure)], note: note))
            }
            for server in ["smallocd", ClientPoints.label, ClientPoints.batchLabel] {
                add(server, 100 * factor)
            }
            for other in others { add(other, 100) }
            add(PointCatalog.fewLabel, 100)
            add(PointCatalog.spreadLabel, 100 * factor)
            add(PointCatalog.pipelinedLabel, 100)
        }
        for point in points where point.hasPrefix("memory/") || point.hasPrefix("latency/") {
            let unit: Unit = point.hasPrefix("latency/") ? .microseconds : .bytes
            for (server, figure) in [
                ("smallocd", 100 / factor), (LatencyPoints.idleLabel("smallocd"), 100),
                ("redis", 100),
            ] {
                series.append(
                    Series(
                        point: point, server: server, unit: unit,
                        samples: [Sample(figure: figure, p99OfDue: figure)], note: note))
            }
        }
        return Results(series: series)
    }

    @Test("every mark is met by a daemon that is much better, and missed by one that is much worse")
    func directions() {
        // The tasks are held against the daemon itself, whose factor cancels out.
        func counts(_ mark: Mark) -> Bool { !mark.work.hasSuffix("1x1000") }
        let better = Mark.all(TableTests.results(100)).filter(counts)
        #expect(better.count > 50)
        for mark in better { #expect(mark.isMet == true, "\(mark.work): \(mark.figure ?? -1)") }
        let worse = Mark.all(TableTests.results(0.01)).filter(counts)
        for mark in worse { #expect(mark.isMet == false, "\(mark.work): \(mark.figure ?? -1)") }
    }

    @Test("a figure that was measured in another way than its mark asks for is not judged")
    func notes() throws {
        let marks = Mark.all(TableTests.results(100, note: "load on a server's core"))
        for mark in marks where mark.figure != nil { #expect(mark.isMet == nil, "\(mark.work)") }
        let mark = try #require(marks.first { $0.work.hasPrefix("loops/2/read") })
        #expect(mark.figure == 100 && mark.isMet == nil)
        #expect(Mark.text([mark]).contains("not judged: load on a server's core"))
    }
}
