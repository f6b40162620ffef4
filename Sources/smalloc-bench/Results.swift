/// What was measured, by point and server.
struct Results {
    let series: [Series]

    subscript(point: String, server: String) -> Series? {
        series.first { $0.point == point && $0.server == server }
    }

    /// How many times better one server is at a point than another: above 1 is better, whatever the
    /// unit.
    ///
    /// Nil if one of them was not measured.
    func advantage(_ point: String, _ ours: String, over theirs: String) -> Statistics? {
        guard let own = self[point, ours], let other = self[point, theirs] else { return nil }
        return own.unit.isRate
            ? Statistics.ratio(own.figures, to: other.figures)
            : Statistics.ratio(other.figures, to: own.figures)
    }

    /// The same over whichever of several is the best of them there.
    func advantage(_ point: String, _ ours: String, overBest theirs: [String]) -> Statistics? {
        theirs.compactMap { advantage(point, ours, over: $0) }.min { $0.median < $1.median }
    }

    /// What part one's cost of a job is of the least of several others', round by round.
    func share(
        _ cost: KeyPath<Sample, Double?>, _ point: String, _ ours: String, ofLeast theirs: [String]
    ) -> Statistics? {
        guard let own = self[point, ours]?.samples.compactMap({ $0[keyPath: cost] }) else {
            return nil
        }
        return theirs.compactMap { server in
            self[point, server].flatMap {
                Statistics.ratio(own, to: $0.samples.compactMap { $0[keyPath: cost] })
            }
        }.max { $0.median < $1.median }
    }

    /// The points, in the order in which they were measured.
    var points: [String] {
        var seen: Set<String> = []
        return series.map(\.point).filter { seen.insert($0).inserted }
    }
}
