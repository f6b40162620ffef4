// Two builds of the daemon, side by side.

import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Comparison of builds", .timed)
struct ComparisonTests {
    private func series(
        _ point: String, _ server: String, _ unit: Unit, _ figures: [Double], p99: Double? = nil
    ) -> Series {
        Series(
            point: point, server: server, unit: unit,
            samples: figures.map { Sample(figure: $0, p99: p99) })
    }

    private func row(_ point: String, of text: String) -> [Substring] {
        text.split(separator: "\n").first { $0.hasPrefix(point + " ") }?.split(separator: " ") ?? []
    }

    @Test("above 1 is better, whatever the unit, and what is worse is told")
    func ratios() throws {
        let own = Contestant.smallocd.label
        let other = Contestant.otherLabel
        let text = try #require(
            Results(series: [
                series("read", own, .operations, [200, 100, 100], p99: 10),
                series("read", other, .operations, [100, 100, 200], p99: 15),
                series("memory", own, .bytes, [200]),
                series("memory", other, .bytes, [100]),
                series("alone", own, .bytes, [1]),
            ]).comparison)
        let read = row("read", of: text)
        #expect(read == ["read", "op/s", "100", "100", "1.00", "0.50", "2.00", "1.50"])
        #expect(row("memory", of: text).suffix(4) == ["0.50", "0.50", "0.50", "WORSE"])
        #expect(row("alone", of: text).isEmpty)
    }

    @Test("without another build there is none")
    func nothing() {
        let own = series("read", Contestant.smallocd.label, .operations, [1])
        #expect(Results(series: [own]).comparison == nil)
    }

    @Test("the other build is started with its executable, and is not the one measured")
    func executable() {
        let other = Contestant.other("/old/smallocd")
        let words = other.arguments(
            .unix("/s"), threads: 2, programs: Programs(smallocd: "/new/smallocd"))
        #expect(words == ["/old/smallocd", "--listen", "unix:/s", "--loops", "2"])
        #expect(!other.isMeasured)
        #expect(Contestant.smallocd.isMeasured)
    }
}
