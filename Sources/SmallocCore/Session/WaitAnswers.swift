// How a session answers requests that waited for events, out of their order.

internal import SmallocWire

extension Session {
    /// Answers what has ended of the requests that waited for events, unless a reply is half sent.
    ///
    /// To be called when `LoopWaits.nextTold` tells of it; each `serve` does so, too.
    @inline(never)
    public mutating func deliver(_ loop: LoopContext) {
        guard let waits = caller.waits, waits.hasEnded, outgoing == nil, pause != .close else {
            return
        }
        while waits.hasEnded {
            // Thousands of watches may end at once, each with much to tell.
            if mode == .frames, holdsEnded(loop) { break }
            guard let wait = waits.takeEnded() else { break }
            if isHeldByWait {
                progress = .none
                if pause == .work { pause = .none }
            }
            answer(wait, loop)
            // Not for the slow log: it was asked to take long.
            loop.end(Session.operation(of: wait).rawValue, since: wait.fields.pointee.startedAt)
            loop.registry.free(wait)
        }
        if let record = caller.record { tell(record) }
        if loop.output.pointee.isLost { lose(loop) }
    }

    /// Whether replies must leave, or others have their turn, before more of what has ended is
    /// answered: the next `serve` goes on.
    private mutating func holdsEnded(_ loop: LoopContext) -> Bool {
        let isSpent = caller.cost >= Thresholds.turnCostMax
        guard isSpent || loop.output.pointee.count >= Thresholds.batchSizeMax else { return false }
        if pause == .none { pause = isSpent ? .turn : .output }
        return true
    }

    /// What was asked for.
    private static func operation(of wait: Wait) -> Operation {
        wait.isWatch ? .watch : wait.isForName ? .open : .wait
    }

    private mutating func answer(_ wait: Wait, _ loop: LoopContext) {
        if mode == .text {
            var reply = TextReplies(output: loop.output)
            answer(wait, loop, &reply)
        } else {
            var reply = FrameReplies(
                output: loop.output, operation: Session.operation(of: wait).rawValue,
                cookie: wait.cookie)
            answer(wait, loop, &reply)
        }
    }

    private mutating func answer<Reply: ReplyWriter & ~Copyable>(
        _ wait: Wait, _ loop: LoopContext, _ reply: inout Reply
    ) {
        if wait.isForName {
            do throws(SmallocError) {
                try loop.registry.answer(wait, &caller, &reply)
            } catch {
                loop.counters.refuse(error.status)
                reply.error(error)
            }
            return
        }
        switch wait.fields.pointee.result {
        case .events,
            .timeout where wait.isWatch:
            loop.registry.tellEvents(
                wait.name, from: wait.fields.pointee.number, &caller, &reply)
        case .appeared: preconditionFailure("a cell has no name")
        case .notified: reply.waited(.notified)
        case .timeout: reply.waited(.timeout)
        case .disposed: reply.waited(.disposed)
        case .cancelled:
            loop.counters.refuse(.cancelled)
            reply.error(.cancelled)
        }
    }

    /// The daemon stops: ends all requests that wait, as `cancelled`; `deliver` answers them.
    ///
    /// - Returns: Whether there were any.
    public mutating func cancelWaits(_ loop: LoopContext) -> Bool {
        guard let waits = caller.waits, waits.count > 0 else { return false }
        _ = loop.registry.cancel(in: waits) { _ in true }
        return true
    }
}
