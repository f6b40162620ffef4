// A copy or fill that a loop does at once, but after its answer: whoever asked for it gets on
// meanwhile.
//
// Nobody can tell. What is moved stays locked until it is done, so whatever is asked after the
// answer, over any connection, finds it done; and nothing else is under way that could go on
// without the lock. (Memory that others could look at without asking, or that has to outlive the
// daemon, would have to be moved first.)

internal import Glibc

/// Bytes to move within the daemon, their allocations locked, the answer already in the output.
struct Move {
    /// Below, a move takes less time than it could save.
    static let sizeMin = 32 << 10

    enum Kind {
        case copy(dest: UnsafeMutableRawPointer, source: UnsafeRawPointer)
        case fill(dest: UnsafeMutableRawPointer, pattern: UnsafeMutableRawBufferPointer)
    }

    /// A locked allocation.
    struct End {
        let allocation: Allocation
        /// Whether it has a reference of its own.
        ///
        /// By handle it needs none: the session keeps the handle open until the move is done, and a
        /// reference would count as one more.
        let isRetained: Bool

        init(_ allocation: Allocation, isRetained: Bool) {
            self.allocation = allocation
            self.isRetained = isRetained
            if isRetained { allocation.retain() }
        }
    }

    let kind: Kind
    /// Bytes.
    let size: Int
    /// Source and dest; of a fill, what is filled.
    let ends: (End, End?)
}

extension Allocation {
    /// Whether something can be done to it after it was answered.
    ///
    /// Under the lock, which is then kept. Transfers and work under way go on without it, and what
    /// they do must not be overtaken; small memory does not tell of them.
    var canWait: Bool { flags.contains(.mapped) && pins == 0 }
}

extension Registry {
    /// Does what was answered, and lets go of the allocations.
    func finish(_ move: Move) {
        switch move.kind {
        case .copy(let dest, let source): memmove(dest, source, move.size)
        case .fill(let dest, let pattern):
            Work.fill(dest, move.size, UnsafeRawBufferPointer(pattern))
            pattern.deallocate()
        }
        let (first, second) = move.ends
        Registry.unlockPair(first.allocation, (second ?? first).allocation)
        if first.isRetained { release(first.allocation) }
        if let second, second.isRetained { release(second.allocation) }
    }
}

extension Session {
    /// Whether a copy or fill is answered and not done yet: see `finishMove`.
    @inline(__always)
    public var hasMove: Bool { errand?.move != nil }

    /// Does what was answered before it was done.
    ///
    /// To be called soon after each `serve` and `serveEnd`, when the output has left, or can't now.
    @inline(__always)
    public mutating func finishMove(_ loop: LoopContext) {
        if let errand, errand.move != nil { finishMove(errand, loop) }
    }

    @inline(never)
    private mutating func finishMove(_ errand: Errand, _ loop: LoopContext) {
        guard let move = errand.move else { return }
        errand.move = nil
        if pause == .move { pause = .none }
        loop.registry.finish(move)
    }

    /// Sees to a move that was answered: later if nothing follows it, so that the answer leaves
    /// first; else now, and the answers leave together.
    mutating func take(_ move: Move, isLast: Bool, _ loop: LoopContext) {
        guard isLast else {
            holdings.cost += move.size
            return loop.registry.finish(move)
        }
        needErrand().move = move
        pause = .move
    }
}
