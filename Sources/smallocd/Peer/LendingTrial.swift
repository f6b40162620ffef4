// Whether a connection gets its large data faster with pages or with copies. It is tried, for what
// decides it can't be seen from here: a processor may copy pages out of a socket at twice the speed
// of what was copied into it, or at half, by how the reader's memory lies towards them (see
// `AllocationLead.swift`, which keeps most readers away from the latter).

/// What was tried with one connection.
///
/// Some large answers are copied, some lent, and the next ones are lent unless copies are clearly
/// faster, until it is time to try again. The best of each counts: a reader who rests makes any
/// answer slow. Answers of half to twice a size are compared: of a small one more of the bytes are
/// still in the socket when the last one has left.
struct LendingTrial {
    /// Answers of each kind that are tried.
    static let tries = 3
    /// Answers that then go the way which was found better.
    static let trust = 256
    /// Answers of another size in a row after which these are compared instead.
    static let strangersMax = 8

    /// How many times as long lending may take: it costs the daemon half as much, and where several
    /// connections share a processor the times of one tell more of the others'.
    static let patience = 1.25

    /// The best of one kind.
    private struct Record {
        var count = 0
        var nanosecondsPerByte = Double.infinity

        mutating func note(_ nanoseconds: UInt64, _ size: Int) {
            count += 1
            nanosecondsPerByte = min(nanosecondsPerByte, Double(nanoseconds) / Double(size))
        }
    }

    private var copied = Record()
    private var lent = Record()
    /// Answers since both were tried.
    private var trusted = 0
    /// About the size of the answers that are compared; 0: that of the next one will be.
    private var comparedSize = 0
    /// Answers of another size, one after the other.
    private var strangers = 0

    // The answer under way.
    private var size = 0
    private var startedAt: UInt64 = 0
    private var wasLent = false
    /// Whether pages of it are to be lent.
    private(set) var lends = false

    /// Whether an answer has begun and not ended.
    var isUnderWay: Bool { size > 0 }

    /// An answer begins.
    ///
    /// - Parameters:
    ///   - size: Its bytes, more than none.
    ///   - now: Nanoseconds of a monotonic clock.
    mutating func begin(_ size: Int, now: UInt64) {
        self.size = size
        startedAt = now
        wasLent = false
        if trusted == LendingTrial.trust { self = LendingTrial(size, now) }
        noteSize()
        if copied.count < LendingTrial.tries {
            lends = false
        } else if lent.count < LendingTrial.tries {
            lends = true
        } else {
            trusted += 1
            lends = lent.nanosecondsPerByte < copied.nanosecondsPerByte * LendingTrial.patience
        }
    }

    private mutating func noteSize() {
        guard !isCompared else {
            strangers = 0
            return
        }
        strangers += 1
        // Once it is decided it holds for all sizes, until it is time to try again.
        guard trusted == 0, comparedSize == 0 || strangers == LendingTrial.strangersMax else {
            return
        }
        self = LendingTrial(size, startedAt)
        comparedSize = size
    }

    /// Whether the answer under way is of the size that is compared.
    private var isCompared: Bool { size >= comparedSize / 2 && size / 2 <= comparedSize }

    /// Pages of it were lent.
    mutating func noteLent() { wasLent = true }

    /// The answer has left.
    mutating func end(now: UInt64) {
        if isCompared {
            if wasLent {
                lent.note(now - startedAt, size)
            } else {
                copied.note(now - startedAt, size)
            }
        }
        size = 0
    }

    init() {}

    private init(_ size: Int, _ now: UInt64) {
        self.size = size
        startedAt = now
    }
}
