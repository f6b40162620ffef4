// Two builds of the daemon, side by side.

extension Results {
    /// Of each point the medians of smallocd and of another build of it, and the medians of the
    /// rounds' ratios: above 1 is better everywhere; nil if no other build was measured.
    var comparison: String? {
        let (own, other) = (Contestant.smallocd.label, Contestant.otherLabel)
        guard series.contains(where: { $0.server == other }) else { return nil }
        var table = Table([
            "point", "unit", "smallocd", "other", "ratio", "min", "max", "p50", "p99", "CPU", "RSS",
            "",
        ])
        for point in points {
            guard let ratio = advantage(point, own, over: other), let ours = self[point, own],
                let theirs = self[point, other]
            else { continue }
            func less(_ cost: KeyPath<Sample, Double?>) -> String {
                share(cost, point, other, ofLeast: [own]).map { Table.decimals($0.median, 2) } ?? ""
            }
            table.add([
                point, ours.unit.rawValue, Table.number(ours.statistics?.median ?? .nan),
                Table.number(theirs.statistics?.median ?? .nan), Table.decimals(ratio.median, 2),
                Table.decimals(ratio.min, 2), Table.decimals(ratio.max, 2), less(\.p50),
                less(\.p99), less(\.processor), less(\.resident), ratio.median < 0.9 ? "WORSE" : "",
            ])
        }
        return table.text + """
            ratio, min, max: how many times better smallocd is than the other build, by rounds. \
            p50, p99, CPU, RSS: how many times more of each the other build takes.

            """
    }
}
