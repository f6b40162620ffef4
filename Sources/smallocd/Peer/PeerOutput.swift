// How replies, and the data behind them, leave a peer: by one system call if the socket takes all,
// else by libuv, one write at a time. What waits for the socket is a copy of its own: nothing of an
// allocation is kept for a reader that does not read.

import CLibuv
import Glibc
import SmallocCore
import SmallocWire

extension Peer {
    /// Bytes of data that are copied to wait until the socket is writable again.
    ///
    /// Then it has room for much more, which leaves from the allocation.
    private static let waitingSize = 16 << 10

    /// Sends replies and the data behind them.
    ///
    /// False: something is queued, and `didWrite` follows, or it is closed.
    func flush(_ sent: inout Int) -> Bool {
        guard !isWriting else {
            pauseReading()
            return false
        }
        let output = loop.context.output
        if output.pointee.passesDescriptors { return pass() }
        if output.pointee.isLost {
            output.pointee.reset(keeping: LoopContext.outputKept)
            close("no memory for a reply")
            return false
        }
        while true {
            let sizes = session.pause == .send ? chunkSizes : .coarse
            let pieces =
                session.pause == .send
                ? session.fillViews(sizeMax: sizes.sentSize, loop.context) : 0
            let head = output.pointee.count
            if head == 0, pieces == 0 { return true }
            guard case .taken(let written) = send(pieces) else {
                output.pointee.reset(keeping: LoopContext.outputKept)
                close("writing failed")
                return false
            }
            sent += written
            loop.context.counters.add(.bytesWritten, UInt64(written))
            record.add(.written, written)
            if written < head {
                if pieces > 0 { session.sent(0, loop.context) }
                return queueOutput(from: written)
            }
            output.pointee.reset(keeping: LoopContext.outputKept)
            if pieces > 0 {
                let size = (0..<pieces).reduce(0) { $0 + loop.context.views[$1].count }
                session.sent(written - head, loop.context)
                if written - head < size {
                    session.copyNext(sizeMax: Peer.waitingSize, loop.context)
                    return queueOutput(from: 0)
                }
            }
            if sent > sizes.turn { return true }
        }
    }

    /// Sends the output and the first views of the loop's in one system call.
    private func send(_ pieces: Int) -> Transport.Sent {
        let head = loop.context.output.pointee.bytes
        guard pieces > 0 else {
            var view = uv_buf_t(head)
            return transport.send(&view, 1)
        }
        var count = 0
        if !head.isEmpty {
            loop.buffers[0] = uv_buf_t(head)
            count = 1
        }
        for index in 0..<pieces {
            loop.buffers[count] = uv_buf_t(loop.context.views[index])
            count += 1
        }
        return transport.send(loop.buffers, count)
    }

    /// Leaves the rest of the output to libuv: little of it as a copy, much of it with its buffer,
    /// which all connections of the loop share otherwise.
    ///
    /// - Returns: False, always: `didWrite` follows, or it is closed.
    func queueOutput(from written: Int) -> Bool {
        let output = loop.context.output
        let left = output.pointee.count - written
        // Without memory for the rest the client can't get what it is owed.
        guard let request = waiting(from: written) else {
            output.pointee.reset(keeping: LoopContext.outputKept)
            close("no memory for what it does not read")
            return false
        }
        precondition(request.bytes.count == left, "the rest of the output is \(left) bytes")
        isWriting = true
        pauseReading()
        if !transport.queue(request) {
            isWriting = false
            request.free(loop.context.registry)
            close("writing failed")
        }
        return false
    }

    /// The output beyond `written` bytes, with memory of its own; the output is empty after it.
    func waiting(from written: Int) -> WriteRequest? {
        let output = loop.context.output
        let left = output.pointee.count - written
        guard loop.context.registry.chargeBuffer(left) else { return nil }
        let request: WriteRequest?
        if left < LoopContext.outputKept / 2 {
            request = WriteRequest(
                copying: UnsafeRawBufferPointer(rebasing: output.pointee.bytes[written...]))
        } else {
            request = output.pointee.detach().flatMap { held in
                WriteRequest(owning: held.base, from: written, size: left)
            }
        }
        if request == nil { loop.context.registry.unchargeBuffer(left) }
        output.pointee.reset(keeping: LoopContext.outputKept)
        queuedSize = request?.bytes.count ?? 0
        noteWaiting()
        return request
    }

    /// A queued write is over.
    ///
    /// Called before the close callback, also for cancelled ones.
    func didWrite(_ status: Int32, _ request: WriteRequest) {
        isWriting = false
        let size = request.bytes.count
        request.free(loop.context.registry)
        guard !isClosing else { return }
        guard status == 0 else { return close("writing failed") }
        activeAt = loop.now
        loop.context.counters.add(.bytesWritten, UInt64(size))
        record.add(.written, size)
        queuedSize = 0
        noteWaiting()
        loop.isActive = true
        run()
    }
}
