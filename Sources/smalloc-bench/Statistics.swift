/// What a handful of figures of the same thing come down to.
struct Statistics: Equatable {
    let median: Double
    let min: Double
    let max: Double

    /// Nil for no values; the median of an even number is the mean of the middle two.
    init?(_ values: [Double]) {
        guard let least = values.min(), let most = values.max() else { return nil }
        let sorted = values.sorted()
        let middle = sorted.count / 2
        median =
            sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
        min = least
        max = most
    }

    /// How many times `ours` is of `theirs`, round by round; rounds in which they did nothing are
    /// left out.
    ///
    /// The rounds alternate, so both figures of a round saw the same machine: the median of their
    /// ratios is steadier than the ratio of two medians.
    static func ratio(_ ours: [Double], to theirs: [Double]) -> Statistics? {
        Statistics(zip(ours, theirs).filter { $1 > 0 }.map { $0 / $1 })
    }
}
