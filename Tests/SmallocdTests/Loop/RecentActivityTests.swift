import Testing
import TestSupport

@testable import smallocd

@Suite("Recent activity", .timed)
struct RecentActivityTests {
    private final class Asker {}

    private let one = Asker()
    private let other = Asker()

    private func isFine(_ answers: RecentActivity, _ asker: Asker, _ now: UInt64) -> Bool {
        answers.chunkSizes(of: ObjectIdentifier(asker), at: now).turn == ChunkSizes.fine.turn
    }

    @Test("nobody is sliced finely for what it asks itself, and everybody for what another asks")
    func others() {
        var answers = RecentActivity()
        #expect(!isFine(answers, one, 100))
        answers.note(ObjectIdentifier(one), at: 100)
        answers.note(ObjectIdentifier(one), at: 101)
        #expect(!isFine(answers, one, 101))
        #expect(isFine(answers, other, 101))
        answers.note(ObjectIdentifier(other), at: 101)
        #expect(isFine(answers, one, 101))
        #expect(isFine(answers, other, 101))
    }

    @Test("it is over when another has not asked for a while, whoever goes on to ask")
    func ended() {
        var answers = RecentActivity()
        answers.note(ObjectIdentifier(other), at: 100)
        for now in UInt64(100)...110 {
            answers.note(ObjectIdentifier(one), at: now)
            let isFine = isFine(answers, one, now)
            #expect(isFine == (now <= 100 + RecentActivity.milliseconds), "\(now)")
            #expect(self.isFine(answers, other, now))
        }
        #expect(!isFine(answers, other, 111 + RecentActivity.milliseconds))
    }

    @Test("fine slices are a fraction of coarse ones")
    func sizes() {
        let sizes: [KeyPath<ChunkSizes, Int>] = [\.receivedSize, \.sentSize, \.turn]
        for size in sizes {
            for coarse in [ChunkSizes.coarse, .coarseTCP] {
                #expect(ChunkSizes.fine[keyPath: size] * 4 <= coarse[keyPath: size])
            }
        }
    }
}
