// A copy or fill that a loop does at once, but after its answer: whoever asked for it gets on
// meanwhile.
//
// Nobody can tell. What is moved stays locked until it is done, so whatever is asked after the
// answer, over any connection, finds it done. (Memory that others could look at without asking
// would have to be moved first.)

internal import Glibc

/// Bytes to move within the daemon, their allocations locked, the answer already in the output.
struct Move {
    /// Below, a move takes less time than it could save.
    static let sizeMin = 32 << 10

    let kind: Work.Kind
    /// Bytes.
    let size: Int
    /// Locked, and with a reference each.
    let allocations: (Allocation, Allocation?)
}

extension Registry {
    /// Does what was answered, and lets go of the allocations.
    func finish(_ move: Move) {
        switch move.kind {
        case .copy(let dest, let source): memmove(dest, source, move.size)
        case .fill(let dest, let pattern):
            Work.fill(dest, move.size, UnsafeRawBufferPointer(pattern))
            pattern.deallocate()
        case .reclaim, .settle: break
        }
        let (first, second) = move.allocations
        Registry.unlockPair(first, second ?? first)
        release(first)
        if let second { release(second) }
    }
}

extension Session {
    /// Whether a copy or fill is answered and not done yet: see `finishMove`.
    @inline(__always)
    public var hasMove: Bool { errand?.move != nil }

    /// Does what was answered before it was done.
    ///
    /// To be called soon after each `serve`, when the output has left, or can't leave now.
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
