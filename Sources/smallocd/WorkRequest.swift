// Work on libuv's thread pool, slice by slice, and the peer that waits for it.

import CLibuv
import SmallocCore

/// Work on libuv's thread pool, with a reference to the peer that waits for it.
///
/// The pool has few threads and takes what is queued in its order: each slice goes to the back of
/// the queue, so that nobody waits for more than one slice of everybody else's.
final class WorkRequest: @unchecked Sendable {
    private let uv = allocateUV(uv_work_t.self)
    fileprivate let work: Work
    private let peer: Peer
    /// Written by the thread that runs a slice, read by the loop after it.
    fileprivate var isDone = false

    private init(_ work: Work, _ peer: Peer) {
        self.work = work
        self.peer = peer
    }

    /// False: libuv refuses, and nothing was begun.
    static func start(_ work: Work, for peer: Peer, on loop: UnsafeMutablePointer<uv_loop_t>)
        -> Bool
    {
        let request = WorkRequest(work, peer)
        request.uv.pointee.data = Unmanaged.passRetained(request).toOpaque()
        guard uv_queue_work(loop, request.uv, workRuns, workEnded) == 0 else {
            Unmanaged.passUnretained(request).release()
            request.uv.deallocate()
            return false
        }
        return true
    }

    /// A slice is done, on the loop's thread: queues the next, or ends.
    fileprivate func sliceEnded() {
        // Nobody waits for it any more: the connection is lost, or the daemon stops.
        let isAbandoned = peer.isClosing
        if !isDone, !isAbandoned {
            if uv_queue_work(peer.loop.uv, uv, workRuns, workEnded) == 0 { return }
            while !work.run() {}
        }
        uv.deallocate()
        Unmanaged.passUnretained(self).release()
        peer.didWork()
    }
}

private func workRuns(_ request: UnsafeMutablePointer<uv_work_t>?) {
    guard let data = request?.pointee.data else { return }
    let request = Unmanaged<WorkRequest>.fromOpaque(data).takeUnretainedValue()
    request.isDone = request.work.run()
}

private func workEnded(_ request: UnsafeMutablePointer<uv_work_t>?, _ status: Int32) {
    guard let data = request?.pointee.data else { return }
    Unmanaged<WorkRequest>.fromOpaque(data).takeUnretainedValue().sliceEnded()
}
