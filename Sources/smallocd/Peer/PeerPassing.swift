// How descriptors leave a peer: with the replies that they belong to, by a system call of our own,
// as libuv can't. A socket that is full is tried again by a timer; it is rare, as only a client
// that asks to map and does not read gets there.

import CLibuv
import Glibc
import Logging
import SmallocCore
import SmallocWire

/// Replies with descriptors that wait for a socket, which own both.
struct Passing {
    let request: WriteRequest
    let descriptors: (Int32, Int32)
    /// When it began to wait, in the loop's milliseconds.
    let since: UInt64

    /// Closes the descriptors, and frees the bytes.
    func close(_ registry: Registry) {
        Passing.close(descriptors)
        request.free(registry)
    }

    static func close(_ descriptors: (Int32, Int32)) {
        if descriptors.0 >= 0 { Glibc.close(descriptors.0) }
        if descriptors.1 >= 0 { Glibc.close(descriptors.1) }
    }
}

extension Peer {
    /// Descriptors that a peer may not have received yet, at most.
    private static let passedMax = 16

    /// Sends the output with its descriptors.
    ///
    /// False: some of it waits, or it is closed.
    func pass() -> Bool {
        let output = loop.context.output
        let descriptors = output.pointee.descriptors
        output.pointee.descriptors = (-1, -1)
        let size = output.pointee.count
        guard !output.pointee.isLost else {
            Passing.close(descriptors)
            output.pointee.reset(keeping: LoopContext.outputKept)
            close("no memory for a reply")
            return false
        }
        switch mayPass(descriptors)
            ? transport.send(output.pointee.bytes, passing: descriptors) : .taken(0)
        {
        case .taken(0):
            // Kept apart from libuv's queue: the descriptors belong to its first byte.
            guard let request = waiting(from: 0) else {
                Passing.close(descriptors)
                close("no memory for what it does not read")
                return false
            }
            isWriting = true
            pauseReading()
            heldPassing = Passing(request: request, descriptors: descriptors, since: loop.now)
            loop.passAgain(self)
            return false
        case .taken(let written):
            notePassed(descriptors, written)
            if written < size { return queueOutput(from: written) }
            output.pointee.reset(keeping: LoopContext.outputKept)
            return true
        case .failed:
            Passing.close(descriptors)
            output.pointee.reset(keeping: LoopContext.outputKept)
            close("descriptors can't be sent")
            return false
        case .refused:
            Passing.close(descriptors)
            output.pointee.reset(keeping: LoopContext.outputKept)
            closeRefused()
            return false
        }
    }

    /// Tries again to send what waits with its descriptors.
    func passAgain() {
        guard let held = heldPassing, !isClosing else { return }
        guard mayPass(held.descriptors) else { return loop.passAgain(self) }
        switch transport.send(held.request.bytes, passing: held.descriptors) {
        case .taken(0): loop.passAgain(self)
        case .taken(let written):
            heldPassing = nil
            notePassed(held.descriptors, written)
            let size = held.request.bytes.count
            guard written < size else { return didWrite(0, held.request) }
            held.request.advance(written, loop.context.registry)
            if !transport.queue(held.request) {
                held.request.free(loop.context.registry)
                isWriting = false
                close("writing failed")
            }
        case .failed: close("descriptors can't be sent")
        case .refused: closeRefused()
        }
    }

    /// Others of this user's have as many under way as the system lets it: no try would go better
    /// until they receive theirs.
    private func closeRefused() {
        loop.log.warning(
            "the system passes no more descriptors of this user", metadata: ["cause": "passing"])
        close("descriptors can't be sent")
    }

    /// Whether the peer has received enough of the descriptors that were sent to it.
    ///
    /// - Parameter next: Those that are to be sent now.
    private func mayPass(_ next: (Int32, Int32)) -> Bool {
        let count = next.1 < 0 ? 1 : 2
        if session.passedCount - count < Peer.passedMax { return true }
        guard transport.isAllReceived else { return false }
        session.received(allBut: count, loop.context)
        return true
    }

    /// Takes note of descriptors that it has received.
    func lookForReceived() {
        guard session.passedCount > 0, heldPassing == nil, !isClosing, transport.isAllReceived
        else { return }
        session.received(allBut: 0, loop.context)
    }

    private func notePassed(_ descriptors: (Int32, Int32), _ written: Int) {
        Passing.close(descriptors)
        loop.context.counters.add(.bytesWritten, UInt64(written))
        record.add(.written, written)
        activeAt = loop.now
    }
}
