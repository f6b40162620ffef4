// How tasks wait for their answers on a multiplexed connection, and stop waiting.

internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

extension Link {
    /// Asks by `ask`, which has the waiter resumed, and waits for the answer.
    ///
    /// A handler of cancellation costs as much as all the rest, and nearly every answer comes
    /// before the task could have been cancelled. So none is set at first: a call that has waited
    /// for some milliseconds is resumed by the thread to wait anew, with a handler.
    ///
    /// Cancelling the task ends the waiting, not the request.
    @inline(__always)
    func answer(_ ask: (Waiter) -> Void) async throws(SmallocError) -> Answer {
        if Task.isCancelled { throw .cancelled }
        let answer = await withUnsafeContinuation(ask)
        takeOver()
        if answer.more == nil { return answer }
        return try await awaitLate(answer)
    }

    /// To be called by a task that has been resumed, before it looks at what it was given.
    @inline(__always)
    func takeOver() { _ = handovers.load(ordering: .acquiring) }

    /// Waits on if that is what the answer says, and throws its error.
    @inline(never)
    func awaitLate(_ first: Answer) async throws(SmallocError) -> Answer {
        var answer = first
        if case .late(let cookie) = answer.more?.content { answer = await wait(cookie) }
        try answer.check()
        return answer
    }

    /// Waits for a request that was started without a waiter.
    ///
    /// To be called once.
    func wait(_ cookie: UInt64) async -> Answer {
        defer { takeOver() }
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: Waiter) in
                let answer = lock.withLock { session.wait(cookie, waiter) }
                if let answer { waiter.resume(returning: answer) }
            }
        } onCancel: {
            lock.withLock { session.cancel(cookie) }?.resume(returning: Answer(.cancelled))
        }
    }

    /// Asks for something that waits in the daemon until an event comes.
    ///
    /// Cancelling the task has the daemon take the request back, and waits for the answer, which
    /// tells whether the event or the cancelling was first.
    func callWaiting(
        _ request: Request, _ remote: AsyncRemote? = nil
    ) async throws(SmallocError) -> Reply {
        let cookie = try startWait(request, remote)
        let answer = await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: Waiter) in
                let answer = lock.withLock { session.wait(cookie, waiter) }
                if let answer { waiter.resume(returning: answer) }
            }
        } onCancel: {
            cancelWait(cookie)
        }
        takeOver()
        return try answer.reply()
    }

    /// Gives up a request that was started without a waiter.
    func abandon(_ cookie: UInt64) { lock.withLock { session.abandon(cookie) } }

    // MARK: Calls

    /// Asks and waits for all of the reply.
    func call(
        _ request: Request, remote: AsyncRemote? = nil
    ) async throws(SmallocError) -> Reply {
        var asked = false
        do throws(SmallocError) {
            return try await answer { waiter in
                request.body.withUnsafeBytes { bytes in
                    asked = ask(
                        request.header, bytes, extraTime: request.extraTime, remote, waiter)
                }
            }.reply()
        } catch {
            // Another client disposed of it: the handle is still open, and of no use any more.
            if asked, error.status == .noData, let remote,
                request.header.operation == Operation.dispose.rawValue
            {
                forget(remote.handle)
            }
            throw request.explained(error)
        }
    }
}
