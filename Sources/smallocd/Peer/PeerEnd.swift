// How a connection ends: by a goodbye, which the other side hears, or at once.

import CLibuv
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
        tail.removeFirst(tail.count)
        // A Unix socket keeps what was sent for its reader, whatever is unread here.
        let isUnix = handle.handle.pointee.type == UV_NAMED_PIPE
        if inputEnded || (loop.isDraining && isUnix) { return close("goodbye was said") }
        var descriptor: Int32 = -1
        uv_fileno(handle.handle, &descriptor)
        if shutdown(descriptor, Int32(SHUT_WR)) != 0 { return close("it is gone") }
        resume()
    }

    /// Closes, once.
    ///
    /// Pending writes end before the close callback.
    ///
    /// - Parameter reason: For the log.
    func close(_ reason: StaticString) {
        guard !isClosing else { return }
        isClosing = true
        loop.log.debug("connection closed", metadata: metadata(reason))
        if isWorking { session.work?.abandon() } else { endSession() }
        uv_close(handle.handle, peerClosed)
    }

    /// Work that runs touches the session's allocations: it is waited for.
    func endSession() { session.end(loop.context) }

    /// The handle is closed; nothing of libuv's refers to the peer any more, but work may.
    func didClose() {
        handle.deallocate()
        loop.remove(self)
    }

    /// What the log says of an end.
    private func metadata(_ reason: StaticString) -> Logger.Metadata {
        var descriptor: Int32 = -1
        uv_fileno(handle.handle, &descriptor)
        var metadata: Logger.Metadata = ["fd": "\(descriptor)", "reason": "\(reason)"]
        if let error = session.failure { metadata["status"] = "\(error.name)" }
        return metadata
    }
}
