// How a connection ends: by a goodbye, which the other side hears, or at once.

import CLibuv
import CSmalloc
import Glibc
import Logging
import SmallocCore
import SmallocWire

extension Peer {
    /// Says goodbye: no more output, input is dropped until the other side closes.
    ///
    /// A close with unread input would take the last replies away from the other side on TCP.
    func leave() {
        guard !isLeaving else { return }
        isLeaving = true
        activeAt = loop.now
        input.removeFirst(input.count, loop.context.registry)
        if inputEnded { return close("goodbye was said") }
        if !transport.shutdownOutput() { return close("it is gone") }
        if loop.isDraining, isHeard { return close("goodbye was said") }
        resume()
    }

    /// Whether a close takes nothing of what was said away from the other side, whatever is unread
    /// here.
    ///
    /// A Unix socket keeps what was sent for its reader; over TCP the other side's system has to
    /// have acknowledged all of it.
    var isHeard: Bool {
        !transport.losesSentAtClose || smalloc_unread_size(transport.descriptor) == 0
    }

    /// Closes, once.
    ///
    /// Pending writes end before the close callback.
    ///
    /// - Parameter reason: For the log.
    func close(_ reason: StaticString) {
        guard !isClosing else { return }
        isClosing = true
        // What it is owed and did not get: the buffer is the loop's, and the next peer's then.
        loop.context.output.pointee.reset(keeping: LoopContext.outputKept)
        Passing.close(loop.context.output.pointee.descriptors)
        loop.context.output.pointee.descriptors = (-1, -1)
        heldPassing?.close(loop.context.registry)
        heldPassing = nil
        loop.log.debug("connection closed", metadata: metadata(reason))
        if isWorking, WorkRequest.withdraw(self) { isWorking = false }
        if isWorking { session.work?.abandon() } else { endSession() }
        input.removeFirst(input.count, loop.context.registry)
        transport.close()
    }

    /// Work that runs touches the session's allocations: it is waited for.
    func endSession() { session.end(loop.context) }

    /// The handle is closed; nothing of libuv's refers to the peer any more, but work may.
    func didClose() {
        transport.free()
        loop.context.clients.remove(record)
        loop.remove(self)
    }

    /// Tells the log of a client that has said hello.
    func introduce() {
        isIntroduced = true
        record.setName(session.client)
        loop.log.debug(
            "client said hello", metadata: ["fd": "\(transport.descriptor)", "client": "\(client)"])
    }

    /// What the client calls itself, made harmless, and in quotes as it may hold blanks.
    private var client: String { "\"\(escaped(session.client.bytes))\"" }

    /// What the log says of an end.
    private func metadata(_ reason: StaticString) -> Logger.Metadata {
        var metadata: Logger.Metadata = ["fd": "\(transport.descriptor)", "reason": "\(reason)"]
        if let error = session.failure { metadata["status"] = "\(error.name)" }
        if session.isGreeted { metadata["client"] = "\(client)" }
        return metadata
    }
}
