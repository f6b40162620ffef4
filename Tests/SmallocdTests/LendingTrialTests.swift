import Testing

@testable import smallocd

@Suite("Lending on trial")
struct LendingTrialTests {
    /// One answer after another, each as fast as its kind is.
    ///
    /// - Parameters:
    ///   - copied: Nanoseconds for a byte that is copied.
    ///   - lent: The same of lent ones; nil: the kernel, or the allocation, has nothing lent.
    /// - Returns: Which of them were to be lent.
    private func answers(
        _ count: Int, _ trial: inout LendingTrial, copied: UInt64, lent: UInt64?
    ) -> [Bool] {
        (0..<count).map { index in
            // Some readers rest.
            let rest: UInt64 = index % 2 == 0 ? 1_000_000_000 : 0
            trial.begin(1000, now: 5)
            let lends = trial.lends
            #expect(trial.isUnderWay)
            let isLent = lends && lent != nil
            if isLent { trial.noteLent() }
            trial.end(now: 5 + 1000 * ((isLent ? lent : nil) ?? copied) + rest)
            #expect(!trial.isUnderWay)
            return lends
        }
    }

    private let tried = [false, false, false, true, true, true]

    @Test("both are tried, and then lent unless copies are much faster, for a while")
    func faster() {
        let pairs: [(copied: UInt64, lent: UInt64)] = [(3, 2), (2, 2), (10, 12), (10, 13), (1, 2)]
        for (copied, lent) in pairs {
            var trial = LendingTrial()
            let answers = answers(
                6 + LendingTrial.trust + 6, &trial, copied: copied, lent: lent)
            #expect(answers.prefix(6) == tried[...])
            #expect(
                answers[6..<6 + LendingTrial.trust].allSatisfy { $0 == (lent * 4 < copied * 5) })
            #expect(answers.suffix(6) == tried[...])
        }
    }

    @Test("what became faster is found at the next trial")
    func changed() {
        var trial = LendingTrial()
        _ = answers(6 + LendingTrial.trust, &trial, copied: 2, lent: 3)
        let later = answers(8, &trial, copied: 2, lent: 1)
        #expect(later == tried + [true, true])
    }

    /// Answers of these sizes, over and over, that take as long as `time` says.
    ///
    /// - Returns: Which of the last ones were to be lent, of a size each.
    private func answers(
        of sizes: [Int], _ count: Int, time: (_ size: Int, _ isLent: Bool) -> UInt64
    ) -> [Bool] {
        var trial = LendingTrial()
        var lends: [Bool] = []
        for index in 0..<count {
            let size = sizes[index % sizes.count]
            trial.begin(size, now: 0)
            lends.append(trial.lends)
            if trial.lends { trial.noteLent() }
            trial.end(now: time(size, trial.lends))
        }
        return Array(lends.suffix(sizes.count))
    }

    @Test("answers of one size are compared: to small ones fewer bytes have to be waited for")
    func sizes() {
        // Half a megabyte leaves ten times as fast; by threes, so that the two kinds would be
        // tried with one size each.
        let (small, large) = (1 << 19, 1 << 26)
        let few: UInt64 = 20_000
        for isLentFaster in [true, false] {
            func time(_ size: Int, _ isLent: Bool) -> UInt64 {
                let whole: UInt64 = size == small ? few : few * 1280
                return isLent == isLentFaster ? whole : whole * 2
            }
            for sizes in [
                [small, small, small, large, large, large],
                [large, large, large, small, small, small], [small, large], [large, small],
            ] {
                let lends = answers(of: sizes, 60, time: time)
                #expect(lends.allSatisfy { $0 == isLentFaster }, "\(sizes)")
            }
        }
    }

    @Test("a size that does not come again is forgotten")
    func forgotten() {
        for size in [4000, 100] {
            var trial = LendingTrial()
            trial.begin(1000, now: 0)
            trial.end(now: 1)
            let all = (0..<40).map { _ in
                trial.begin(size, now: 0)
                let lends = trial.lends
                if lends { trial.noteLent() }
                trial.end(now: 10)
                return lends
            }
            #expect(all.filter { $0 }.count >= 26, "\(all)")
        }
    }

    @Test("where nothing can be lent it goes on to be asked for, and nothing else")
    func never() {
        var trial = LendingTrial()
        let all = answers(1000, &trial, copied: 1, lent: nil)
        #expect(all == tried.prefix(3) + Array(repeating: true, count: 997))
    }
}
