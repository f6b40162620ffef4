import Testing
import TestSupport

@testable import smalloc_bench

@Suite("Rounds", .timed)
struct BenchTests {
    private func bench(_ rounds: Int) -> Bench {
        Bench(
            programs: Programs(smallocd: "/nonexistent"), rounds: rounds, seconds: 0.01,
            isQuick: true, contestants: [])
    }

    @Test("all take turns, and each round begins with another one")
    func turns() {
        let bench = bench(3)
        var order = ""
        bench.compete(
            "p", .operations,
            ["a", "b", "c"].map { label in
                Entrant(label: label) { _ in
                    order += label
                    return Sample(figure: 1)
                }
            })
        #expect(order == "abcbcacab")
        #expect(bench.series.map(\.figures) == [[1, 1, 1], [1, 1, 1], [1, 1, 1]])
        #expect(bench.failures.isEmpty)
    }

    @Test("who fails in one round is out, and is told of")
    func failing() {
        let bench = bench(3)
        var runs = 0
        bench.compete(
            "p", .operations,
            [
                Entrant(label: "fails") { _ in
                    runs += 1
                    guard runs < 2 else { throw BenchError.closed }
                    return Sample(figure: 1)
                },
                Entrant(label: "lies", run: { _ in Sample(figure: 1) }) {
                    throw BenchError.setup("other bytes")
                },
                Entrant(label: "works") { _ in Sample(figure: 2) },
            ])
        #expect(runs == 2)
        #expect(bench.series.map(\.server) == ["works"])
        #expect(
            bench.failures == [
                "p  fails: the server closed the connection", "p  lies: other bytes",
            ])
    }
}
