// When a peer's time is up: vanished, silent for too long, one request for too long, or the daemon
// stops.

import SmallocCore
import SmallocWire

extension Peer {
    /// Ends the connection if its other side has vanished, or if it has been silent, or busy with
    /// one request, for too long.
    func expire(_ limits: Limits) {
        guard !isClosing else { return }
        let now = loop.now
        if transport.kind == .tcp, liveness.isGone(transport.descriptor, now: now) {
            return close("the other side does not answer any more")
        }
        guard !isWriting, !isWorking, !isWaitingForTurn, !isWaitingForMemory else { return }
        if isLeaving {
            if now - activeAt > Peer.goodbyeMilliseconds { close("goodbye was said") }
            return
        }
        // One that is not read from, since it waits, would not be noticed to end.
        if session.hasWaits, !isReading, transport.isGone { return close("it has closed too") }
        if session.isHeldByWait { return }
        let isUnfinished = input.count > 0 || session.isBusy
        if isUnfinished {
            let limit = limits.requestTimeoutMilliseconds
            guard limit > 0, now - progressAt > limit else { return }
            loop.context.counters.add(.requestTimeouts)
            end(SmallocError(.requestTimeout, .error, "the request did not arrive in time"))
        } else {
            let limit = limits.idleTimeoutMilliseconds
            guard limit > 0, !session.hasWaits, now - activeAt > limit else { return }
            loop.context.counters.add(.idleTimeouts)
            end(SmallocError(.idleTimeout, .error, "the connection was idle for too long"))
        }
    }

    /// The daemon stops: ends the connection as soon as what arrived is answered.
    ///
    /// - Parameter force: Not soon but now, answered or not.
    func drain(force: Bool) {
        guard !isClosing else { return }
        if !isLeaving, session.cancelWaits(loop.context) { waitsEnded() }
        guard !isClosing else { return }
        // It has said all that it had to say, and hears nothing any more.
        if isLeaving, isHeard { return close("the daemon stops") }
        if force {
            // Behind half a reply nothing more can be said.
            if isWriting || isLeaving || session.isAnswering {
                return close("the daemon stops")
            }
            return end(Peer.shuttingDown)
        }
        guard !isWriting, !isWorking, !isWaitingForTurn, !isLeaving else { return }
        let isUnfinished = input.count > 0 || session.isBusy
        guard !isUnfinished else { return }
        end(Peer.shuttingDown)
    }

    private static var shuttingDown: SmallocError {
        SmallocError(.shuttingDown, .error, "the daemon is stopping")
    }

    func end(_ error: SmallocError) {
        session.fail(error, loop.context)
        run()
    }
}
