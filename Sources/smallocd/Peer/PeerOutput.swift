// How replies, and the data behind them, leave a peer: by one system call if the socket takes all,
// else by libuv, one write at a time.

import CLibuv
import SmallocCore
import SmallocWire

extension Peer {
    /// Sends replies and the data behind them.
    ///
    /// False: something is queued, and `didWrite` follows.
    func flush(_ sent: inout Int) -> Bool {
        guard !isWriting else {
            pauseReading()
            return false
        }
        let output = loop.context.output
        while true {
            let head = output.pointee.bytes
            let whole = session.pause == .send ? session.sendPiece : Peer.nothing
            if head.isEmpty, whole.isEmpty { return true }
            let piece = slice(whole)
            let written = tryWrite(head, piece)
            guard written >= 0 else {
                output.pointee.reset(keeping: Peer.outputKept)
                close("writing failed")
                return false
            }
            sent += written
            loop.context.counters.add(.bytesWritten, UInt64(written))
            if written < head.count {
                queueOutput(from: written)
                return false
            }
            output.pointee.reset(keeping: Peer.outputKept)
            let ofPiece = written - head.count
            if ofPiece > 0 { session.sent(ofPiece, loop.context) }
            if ofPiece < piece.count {
                queue(WriteRequest(slice(session.sendPiece), owned: nil))
                return false
            }
            if sent > slicing.turn { return true }
        }
    }

    private static func view(_ bytes: UnsafeRawBufferPointer) -> uv_buf_t {
        uv_buf_t(
            base: UnsafeMutableRawPointer(mutating: bytes.baseAddress)?
                .assumingMemoryBound(to: CChar.self), len: bytes.count)
    }

    /// As much of a piece as is moved at once: a reader that keeps up could hold the loop in one
    /// system call for a gigabyte.
    private func slice(_ piece: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: piece.prefix(slicing.sentSize))
    }

    private static var nothing: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// Bytes that the socket took, or a negative number if it is broken.
    private func tryWrite(_ head: UnsafeRawBufferPointer, _ piece: UnsafeRawBufferPointer) -> Int {
        var buffers = (Peer.view(head), Peer.view(piece))
        let written = withUnsafeMutablePointer(to: &buffers) { pointer in
            pointer.withMemoryRebound(to: uv_buf_t.self, capacity: 2) { first in
                head.isEmpty
                    ? uv_try_write(handle.stream, first + 1, 1)
                    : uv_try_write(handle.stream, first, piece.isEmpty ? 1 : 2)
            }
        }
        return written == UVError.again ? 0 : Int(written)
    }

    /// Leaves the rest of the output to libuv: little of it as a copy, much of it with its buffer,
    /// which is everybody's otherwise.
    private func queueOutput(from written: Int) {
        let output = loop.context.output
        let left = output.pointee.count - written
        if left < Peer.outputKept / 2 {
            let copy = Peer.copy(UnsafeRawBufferPointer(rebasing: output.pointee.bytes[written...]))
            output.pointee.reset(keeping: Peer.outputKept)
            queue(WriteRequest(UnsafeRawBufferPointer(copy), owned: copy.baseAddress))
        } else {
            let (base, _) = output.pointee.detach()
            queue(
                WriteRequest(
                    UnsafeRawBufferPointer(start: base + written, count: left), owned: base))
        }
    }

    private static func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutableRawBufferPointer {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
        copy.copyMemory(from: bytes)
        return copy
    }

    private func queue(_ request: WriteRequest) {
        var buffer = uv_buf_t(
            base: UnsafeMutableRawPointer(mutating: request.bytes.baseAddress)?
                .assumingMemoryBound(to: CChar.self), len: request.bytes.count)
        isWriting = true
        pauseReading()
        let result = uv_write(request.uv, handle.stream, &buffer, 1, peerWrote)
        if result != 0 {
            isWriting = false
            request.free()
            close("writing failed")
        }
    }

    /// A queued write is over.
    ///
    /// Called before the close callback, also for cancelled ones.
    func didWrite(_ status: Int32, _ request: WriteRequest) {
        isWriting = false
        let (size, isOutput) = (request.bytes.count, request.ownsBytes)
        request.free()
        guard !isClosing else { return }
        guard status == 0 else { return close("writing failed") }
        activeAt = loop.now
        loop.context.counters.add(.bytesWritten, UInt64(size))
        loop.isActive = true
        if !isOutput { session.sent(size, loop.context) }
        run()
    }
}
