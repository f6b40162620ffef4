// One connection: a uv stream and a Session. Bytes arrive, replies leave, and one of them waits for
// the other when it must.

import CLibuv
import Glibc
import SmallocCore
import SmallocWire

/// A connected socket. Belongs to its loop's thread; retained from `start` to the close callback.
final class Peer {
    /// Bytes that one peer may send before others get their turn.
    private static let turnSize = 512 << 10
    /// Bytes read at first when a large write is expected: its header and name, little of its data.
    private static let bulkHeadSize = 512
    /// How long the other side may take to close after we have said goodbye.
    private static let goodbyeMilliseconds: UInt64 = 1000
    /// Payload that counts as progress of an unfinished request.
    private static let progressSize = 65_536

    private unowned(unsafe) let loop: Loop
    private let handle: UnsafeMutableRawPointer
    private var session = Session()
    private var tail = Tail()
    var next: Peer?
    unowned(unsafe) var previous: Peer?

    private var isReading = false
    private var isWriting = false
    private var isWorking = false
    private var isWaitingForTurn = false
    /// Unconsumed input may hold whole requests.
    private var mustServe = false
    private var inputEnded = false
    private var endServed = false
    /// Everything is said; input is dropped until the other side closes.
    private var isLeaving = false
    private var isClosing = false
    /// When the last input came, or the last reply left.
    private var activeAt: UInt64
    /// When the unfinished request last made progress, and the bytes of it since.
    private var progressAt: UInt64
    private var progressed = 0

    /// Takes over a connected descriptor. Nil: libuv refuses it; the descriptor is still the
    /// caller's.
    init?(_ loop: Loop, _ descriptor: Int32, _ kind: ListeningSocket.Kind) {
        self.loop = loop
        activeAt = loop.now
        progressAt = loop.now
        let size = kind == .unix ? MemoryLayout<uv_pipe_t>.size : MemoryLayout<uv_tcp_t>.size
        handle = .allocate(byteCount: size, alignment: 16)
        let opened: Int32
        if kind == .unix {
            // ipc 0: descriptors that a peer sends along are dropped by the kernel.
            uv_pipe_init(loop.uv, handle.pipe, 0)
            opened = uv_pipe_open(handle.pipe, descriptor)
        } else {
            uv_tcp_init(loop.uv, handle.tcp)
            opened = uv_tcp_open(handle.tcp, descriptor)
            if opened == 0 {
                uv_tcp_nodelay(handle.tcp, 1)
                uv_tcp_keepalive(handle.tcp, 1, 30)
            }
        }
        handle.handle.pointee.data = nil
        guard opened == 0 else {
            // Initialised handles must be closed; nobody else looks at this one any more.
            uv_close(handle.handle, freeHandle)
            return nil
        }
    }

    /// Begins to read. The close callback takes the reference back.
    func start() {
        handle.handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
        resume()
    }

    // MARK: Input

    /// Where the next input goes: large payloads straight into their allocation, else the loop's
    /// buffer. libuv's contract: the buffer is ours, and comes back in the read callback.
    fileprivate func buffer() -> uv_buf_t {
        if tail.count == 0, !isLeaving {
            let piece = session.receivePiece
            if let base = piece.baseAddress, !piece.isEmpty {
                // More than the kernel would give at once anyway, and within 32 bits.
                let size = min(piece.count, 1 << 30)
                return uv_buf_t(base: base.assumingMemoryBound(to: CChar.self), len: size)
            }
        }
        return uv_buf_t(
            base: loop.readBuffer.assumingMemoryBound(to: CChar.self),
            len: session.expectsBulk ? Peer.bulkHeadSize : Loop.readSize)
    }

    /// Input came (count > 0), ended, or failed (count < 0). 0 is "not now".
    fileprivate func didRead(_ count: Int, _ buffer: UnsafeRawPointer?) {
        guard !isClosing, count != 0 else { return }
        guard count > 0, let buffer else {
            isReading = false
            uv_read_stop(handle.stream)
            if count == Int(UVError.endOfFile), !isLeaving {
                inputEnded = true
                run()
            } else {
                close()
            }
            return
        }
        if isLeaving { return }
        loop.context.counters.add(.bytesRead, UInt64(count))
        activeAt = loop.now
        if buffer == UnsafeRawPointer(loop.readBuffer) {
            serve(UnsafeRawBufferPointer(start: buffer, count: count))
        } else {
            session.received(count, loop.context)
        }
        noteProgress(count)
        run()
    }

    /// Serves new input, in place wherever no earlier piece of a request waits for it.
    private func serve(_ input: UnsafeRawBufferPointer) {
        var rest = input
        while let base = rest.baseAddress, !rest.isEmpty {
            guard tail.count > 0 || session.pause != .none else {
                let consumed = session.serve(rest, loop.context)
                if consumed > 0 { progressAt = loop.now }
                keep(base + consumed, rest.count - consumed)
                return
            }
            // No more than the unfinished request lacks, so that what follows is served in place.
            let lacking = session.wanted - tail.count
            let size = lacking > 0 && session.pause == .none ? min(lacking, rest.count) : rest.count
            keep(base, size)
            rest = UnsafeRawBufferPointer(rebasing: rest[size...])
            if session.pause == .none { serveTail() }
        }
    }

    private func serveTail() {
        let consumed = session.serve(tail.bytes, loop.context)
        if consumed > 0 {
            progressAt = loop.now
            tail.removeFirst(consumed)
        }
    }

    private func keep(_ bytes: UnsafeRawPointer, _ size: Int) {
        guard size > 0, !tail.append(bytes, size) else { return }
        session.fail(
            SmallocError(.outOfMemory, .error, "no memory for a request"), loop.context)
    }

    private func noteProgress(_ count: Int) {
        progressed += count
        if progressed >= Peer.progressSize {
            progressed = 0
            progressAt = loop.now
        }
    }

    private func resume() {
        guard !isReading, !isClosing, !inputEnded else { return }
        isReading = true
        let result = uv_read_start(handle.stream, peerAllocate, peerRead)
        if result != 0 { close() }
    }

    private func pauseReading() {
        guard isReading else { return }
        isReading = false
        uv_read_stop(handle.stream)
    }

    // MARK: The line

    /// Goes on as far as it can: sends what is ready, serves what waits, and then reads again, or
    /// returns to be called when a write, work, or another's turn is over.
    func run() {
        isWaitingForTurn = false
        var sent = 0
        while !isClosing {
            // Sending ends the pause, and what waits behind it must be served then.
            if session.pause == .send { mustServe = true }
            guard flush(&sent) else { return }
            if sent > Peer.turnSize, session.pause != .none {
                pauseReading()
                if !isWaitingForTurn {
                    isWaitingForTurn = true
                    loop.turnAgain(self)
                }
                return
            }
            switch session.pause {
            case .none:
                if mustServe {
                    mustServe = false
                    // Also with an empty tail: a long answer in text may have more to say.
                    serveTail()
                } else if inputEnded {
                    if endServed { return close() }
                    endServed = session.serveEnd(tail.bytes, loop.context)
                } else {
                    return resume()
                }
            case .output:
                serveTail()
            case .send:
                break
            case .work:
                mustServe = true
                return beginWork()
            case .close:
                return leave()
            }
        }
    }

    // MARK: Output

    /// Sends replies and the data behind them. False: something is queued, and `didWrite` follows.
    private func flush(_ sent: inout Int) -> Bool {
        guard !isWriting else {
            pauseReading()
            return false
        }
        let output = loop.context.output
        while true {
            let head = output.pointee.bytes
            let piece =
                session.pause == .send
                ? session.sendPiece : UnsafeRawBufferPointer(start: nil, count: 0)
            if head.isEmpty, piece.isEmpty { return true }
            let written = tryWrite(head, piece)
            guard written >= 0 else {
                output.pointee.reset(keeping: 1 << 18)
                close()
                return false
            }
            sent += written
            loop.context.counters.add(.bytesWritten, UInt64(written))
            if written < head.count {
                queue(UnsafeRawBufferPointer(rebasing: head[written...]), isOwned: true)
                output.pointee.reset(keeping: 1 << 18)
                return false
            }
            output.pointee.reset(keeping: 1 << 18)
            let ofPiece = written - head.count
            if ofPiece < piece.count {
                session.sent(ofPiece, loop.context)
                queue(session.sendPiece, isOwned: false)
                return false
            }
            if ofPiece > 0 { session.sent(ofPiece, loop.context) }
        }
    }

    /// Bytes that the socket took, or a negative number if it is broken.
    private func tryWrite(_ head: UnsafeRawBufferPointer, _ piece: UnsafeRawBufferPointer) -> Int {
        func view(_ bytes: UnsafeRawBufferPointer) -> uv_buf_t {
            uv_buf_t(
                base: UnsafeMutableRawPointer(mutating: bytes.baseAddress)?
                    .assumingMemoryBound(to: CChar.self), len: min(bytes.count, 1 << 30))
        }
        var buffers = (view(head), view(piece))
        let written = withUnsafeMutablePointer(to: &buffers) { pointer in
            pointer.withMemoryRebound(to: uv_buf_t.self, capacity: 2) { first in
                head.isEmpty
                    ? uv_try_write(handle.stream, first + 1, 1)
                    : uv_try_write(handle.stream, first, piece.isEmpty ? 1 : 2)
            }
        }
        return written == UVError.again ? 0 : Int(written)
    }

    /// Leaves bytes to libuv. Owned ones are copied: the output buffer is everybody's. Others are an
    /// allocation's, which the session holds.
    private func queue(_ bytes: UnsafeRawBufferPointer, isOwned: Bool) {
        let request = WriteRequest.make(copying: isOwned ? bytes : nil, size: bytes.count)
        var buffer = uv_buf_t(
            base: (isOwned ? request.copy : UnsafeMutableRawPointer(mutating: bytes.baseAddress))?
                .assumingMemoryBound(to: CChar.self), len: bytes.count)
        isWriting = true
        pauseReading()
        let result = uv_write(request.uv, handle.stream, &buffer, 1, peerWrote)
        if result != 0 {
            isWriting = false
            request.free()
            close()
        }
    }

    /// A queued write is over. Called before the close callback, also for cancelled ones.
    fileprivate func didWrite(_ status: Int32, _ request: WriteRequest) {
        isWriting = false
        let (size, isOwned) = (request.size, request.copy != nil)
        request.free()
        guard !isClosing else { return }
        guard status == 0 else { return close() }
        activeAt = loop.now
        loop.context.counters.add(.bytesWritten, UInt64(size))
        if !isOwned { session.sent(size, loop.context) }
        run()
    }

    // MARK: Work

    private func beginWork() {
        guard !isWorking, let work = session.work else { return }
        isWorking = true
        pauseReading()
        if !WorkRequest.start(work, for: self, on: loop.uv) {
            // No thread: better a slow loop than no answer.
            work.run()
            didWork()
        }
    }

    fileprivate func didWork() {
        isWorking = false
        if isClosing { return endSession() }
        session.finish(loop.context)
        activeAt = loop.now
        run()
    }

    // MARK: Time

    /// Ends the connection if it has been silent, or busy with one request, for too long.
    func expire(_ limits: Limits) {
        guard !isClosing, !isWriting, !isWorking, !isWaitingForTurn else { return }
        let now = loop.now
        if isLeaving {
            if now - activeAt > Peer.goodbyeMilliseconds { close() }
            return
        }
        let isUnfinished = tail.count > 0 || session.isBusy
        if isUnfinished {
            let limit = limits.requestTimeoutMilliseconds
            guard limit > 0, now - progressAt > limit else { return }
            loop.context.counters.add(.requestTimeouts)
            end(SmallocError(.requestTimeout, .error, "the request did not arrive in time"))
        } else {
            let limit = limits.idleTimeoutMilliseconds
            guard limit > 0, now - activeAt > limit else { return }
            loop.context.counters.add(.idleTimeouts)
            end(SmallocError(.idleTimeout, .error, "the connection was idle for too long"))
        }
    }

    /// The daemon stops: ends the connection as soon as what arrived is answered.
    ///
    /// - Parameter force: Not soon but now.
    func drain(force: Bool) {
        guard !isClosing else { return }
        if force { return close() }
        guard !isWriting, !isWorking, !isWaitingForTurn, !isLeaving else { return }
        let isUnfinished = tail.count > 0 || session.isBusy
        guard !isUnfinished else { return }
        end(SmallocError(.shuttingDown, .error, "the daemon is stopping"))
    }

    private func end(_ error: SmallocError) {
        session.fail(error, loop.context)
        run()
    }

    // MARK: The end

    /// Says goodbye: no more output, input is dropped until the other side closes. A close with
    /// unread input would take the last replies away from the other side on TCP.
    private func leave() {
        guard !isLeaving else { return }
        isLeaving = true
        activeAt = loop.now
        tail.removeFirst(tail.count)
        if inputEnded || loop.isDraining { return close() }
        var descriptor: Int32 = -1
        uv_fileno(handle.handle, &descriptor)
        if shutdown(descriptor, Int32(SHUT_WR)) != 0 { return close() }
        resume()
    }

    /// Closes, once. Pending writes end before the close callback.
    private func close() {
        guard !isClosing else { return }
        isClosing = true
        if !isWorking { endSession() }
        uv_close(handle.handle, peerClosed)
    }

    /// Work that runs touches the session's allocations: it is waited for.
    private func endSession() { session.end(loop.context) }

    /// The handle is closed; nothing of libuv's refers to the peer any more, but work may.
    fileprivate func didClose() {
        handle.deallocate()
        loop.remove(self)
    }
}

// MARK: - Callbacks

private func peer(of data: UnsafeMutableRawPointer?) -> Peer? {
    data.map { Unmanaged<Peer>.fromOpaque($0).takeUnretainedValue() }
}

private func peerAllocate(
    _ handle: UnsafeMutablePointer<uv_handle_t>?, _ suggested: Int,
    _ buffer: UnsafeMutablePointer<uv_buf_t>?
) {
    guard let peer = peer(of: handle?.pointee.data) else { return }
    buffer?.pointee = peer.buffer()
}

private func peerRead(
    _ stream: UnsafeMutablePointer<uv_stream_t>?, _ count: Int,
    _ buffer: UnsafePointer<uv_buf_t>?
) {
    peer(of: stream?.pointee.data)?.didRead(count, buffer?.pointee.base.map { UnsafeRawPointer($0) })
}

private func peerWrote(_ request: UnsafeMutablePointer<uv_write_t>?, _ status: Int32) {
    guard let request, let peer = peer(of: request.pointee.handle?.pointee.data) else { return }
    peer.didWrite(status, WriteRequest(uv: request))
}

private func peerClosed(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
    guard let data = handle?.pointee.data else { return }
    Unmanaged<Peer>.fromOpaque(data).takeRetainedValue().didClose()
}

private func freeHandle(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
    UnsafeMutableRawPointer(handle)?.deallocate()
}

/// Work on libuv's thread pool, with a reference to the peer that waits for it.
final class WorkRequest: @unchecked Sendable {
    private let uv = allocateUV(uv_work_t.self)
    fileprivate let work: Work
    private let peer: Peer

    private init(_ work: Work, _ peer: Peer) {
        self.work = work
        self.peer = peer
    }

    /// False: libuv refuses, and nothing was begun.
    static func start(_ work: Work, for peer: Peer, on loop: UnsafeMutablePointer<uv_loop_t>) -> Bool {
        let request = WorkRequest(work, peer)
        request.uv.pointee.data = Unmanaged.passRetained(request).toOpaque()
        guard uv_queue_work(loop, request.uv, workRuns, workEnded) == 0 else {
            Unmanaged.passUnretained(request).release()
            request.uv.deallocate()
            return false
        }
        return true
    }

    fileprivate func end() {
        uv.deallocate()
        peer.didWork()
    }
}

private func workRuns(_ request: UnsafeMutablePointer<uv_work_t>?) {
    guard let data = request?.pointee.data else { return }
    Unmanaged<WorkRequest>.fromOpaque(data).takeUnretainedValue().work.runInBackground()
}

private func workEnded(_ request: UnsafeMutablePointer<uv_work_t>?, _ status: Int32) {
    guard let data = request?.pointee.data else { return }
    Unmanaged<WorkRequest>.fromOpaque(data).takeRetainedValue().end()
}
