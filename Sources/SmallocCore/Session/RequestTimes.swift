// When requests of a session begin and end, for the histograms of durations.

internal import SmallocSystem
internal import SmallocWire

extension LoopContext {
    /// The turn is over: its requests took as long as it did.
    ///
    /// - Parameter now: Nanoseconds of `Clock.now`.
    public func endTurn(now: UInt64) {
        guard turnStart != 0 else { return }
        let duration = now &- turnStart
        turnStart = 0
        if duration >= registry.slowLog.limit { noteSlowTurn(duration) }
        counters.settle(duration)
    }

    @inline(never)
    private func noteSlowTurn(_ duration: UInt64) {
        counters.forEachUnsettled { operation, count in
            registry.slowLog.add(operation, count: count, duration)
        }
    }

    /// A request that was counted is answered later, and not at the end of the turn.
    ///
    /// - Parameter since: When it began, if that was not in this turn.
    /// - Returns: When it began, for `end`.
    func begin(_ operation: UInt8, _ since: UInt64? = nil) -> UInt64 {
        counters.exclude(operation)
        return since ?? turnStart
    }

    /// A request is answered that `begin` was called for.
    ///
    /// - Parameter since: 0: it is not known, since no turn had begun.
    /// - Returns: Nanoseconds that it took, if that is known, and was too long.
    @discardableResult
    func end(_ operation: UInt8, since: UInt64) -> UInt64? {
        guard since != 0 else { return nil }
        let duration = Clock.now &- since
        counters.note(operation, duration)
        return duration >= registry.slowLog.limit ? duration : nil
    }
}

/// A request that is served once more, when it has waited for something.
struct Again {
    /// Nanoseconds of `Clock.now` when it was read; 0: there is none.
    var since: UInt64 = 0
    var cookie: UInt64 = 0
    var operation: UInt8 = 0
    /// What it waits for.
    var cause = SlowRequest.Cause.nothing
}

extension Session {
    /// `serve` is over, at whose beginning a request was to be served once more.
    ///
    /// - Parameter isTaken: It was answered, or is at work.
    mutating func noteServed(_ earlier: Again, isTaken: Bool, _ loop: LoopContext) {
        guard isTaken else {
            // It still waits, since it began.
            again = earlier
            return
        }
        switch progress {
        // It goes on, and is noted at its end.
        case .sending(let pieces) where pieces.cookie == earlier.cookie,
            .receiving(let pieces) where pieces.cookie == earlier.cookie:
            pieces.startedAt = earlier.since
        case .waiting(let pending) where pending.cookie == earlier.cookie:
            pending.startedAt = earlier.since
        default:
            let since = loop.begin(earlier.operation, earlier.since)
            if let duration = loop.end(earlier.operation, since: since) {
                // Which allocation it was about is not known any more.
                loop.registry.slowLog.add(earlier.operation, earlier.cause, nil, size: 0, duration)
            }
        }
    }

    func noteEnd(of pieces: Pieces, _ loop: LoopContext) {
        guard let duration = loop.end(pieces.operation, since: pieces.startedAt) else { return }
        loop.registry.slowLog.add(
            pieces.operation, .client, pieces.allocation, size: UInt64(pieces.size), duration)
    }

    func noteEnd(of pending: Pending, _ work: Work, _ loop: LoopContext) {
        guard let duration = loop.end(pending.operation, since: pending.startedAt) else { return }
        loop.registry.slowLog.add(
            pending.operation, .work, work.allocations.1 ?? work.allocations.0,
            size: UInt64(work.size), duration)
    }

    /// Tells others of the connection what has changed.
    @inline(__always)
    func tell(_ record: ClientRecord) {
        record[.requests] = caller.requests
        record[.handles] = UInt64(caller.handles.count)
        record[.maps] = UInt64(caller.maps)
        record[.mode] = UInt64(mode.rawValue)
    }
}
