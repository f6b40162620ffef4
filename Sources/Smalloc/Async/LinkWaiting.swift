// How tasks wait for their answers on a multiplexed connection, and stop waiting.

internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

extension Link {
    /// Asks by `ask`, which has the waiter resumed, and waits for the answer.
    ///
    /// A handler of cancellation costs as much as all the rest, and nearly every answer comes
    /// before anybody could have cancelled. So none is set at first: a call that has waited for
    /// some milliseconds is resumed by the thread to wait anew, with a handler.
    ///
    /// Cancelling the task ends the waiting, not the request.
    @inline(__always)
    func answer(_ ask: (Waiter) -> Void) async throws(SmallocError) -> Answer {
        if Task.isCancelled { throw .cancelled }
        let answer = await withUnsafeContinuation(ask)
        takeOver()
        if answer.more == nil { return answer }
        return try await settle(answer)
    }

    /// To be called by who has been resumed, before it looks at what it was given.
    @inline(__always)
    func takeOver() { _ = handovers.load(ordering: .acquiring) }

    /// Waits on if that is what the answer says, and throws its error.
    @inline(never)
    func settle(_ first: Answer) async throws(SmallocError) -> Answer {
        var answer = first
        if case .late(let cookie) = answer.more?.content { answer = await wait(cookie) }
        if case .failure(let error) = answer.more?.content { throw error }
        return answer
    }

    /// Waits for a request that was started without a waiter.
    ///
    /// To be called once.
    func wait(_ cookie: UInt64) async -> Answer {
        defer { takeOver() }
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: Waiter) in
                let answer: Answer? = lock.withLock {
                    guard let index = slots.index(of: cookie) else {
                        return Answer(ended ?? .cancelled)
                    }
                    switch slots.at(index).pointee.state {
                    case .done:
                        return slots.take(index)
                    case .cancelled:
                        slots.leave(index)
                        return Answer(.cancelled)
                    default:
                        slots.at(index).pointee.waiter = waiter
                        slots.at(index).pointee.state = .waiting
                        return nil
                    }
                }
                if let answer { waiter.resume(returning: answer) }
            }
        } onCancel: {
            cancel(cookie)
        }
    }

    /// Ends the waiting for a request, which goes on in the daemon; others notice nothing.
    private func cancel(_ cookie: UInt64) {
        let waiter: Waiter? = lock.withLock {
            guard let index = slots.index(of: cookie) else { return nil }
            let slot = slots.at(index)
            switch slot.pointee.state {
            case .waiting:
                slot.pointee.state = .abandoned
                return slot.pointee.waiter
            case .asked:
                slot.pointee.state = .cancelled
                return nil
            default:
                return nil
            }
        }
        waiter?.resume(returning: Answer(.cancelled))
    }

    /// Nobody will come for a request that was started without a waiter.
    func abandon(_ cookie: UInt64) {
        lock.withLock {
            guard let index = slots.index(of: cookie) else { return }
            switch slots.at(index).pointee.state {
            case .done, .asked, .cancelled: slots.leave(index)
            default: break
            }
        }
    }
}
