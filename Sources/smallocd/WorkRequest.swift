// Work on libuv's thread pool, and the peer that waits for it.

import CLibuv
import SmallocCore

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

    fileprivate func end() {
        uv.deallocate()
        peer.didWork()
    }
}

private func workRuns(_ request: UnsafeMutablePointer<uv_work_t>?) {
    guard let data = request?.pointee.data else { return }
    Unmanaged<WorkRequest>.fromOpaque(data).takeUnretainedValue().work.run()
}

private func workEnded(_ request: UnsafeMutablePointer<uv_work_t>?, _ status: Int32) {
    guard let data = request?.pointee.data else { return }
    Unmanaged<WorkRequest>.fromOpaque(data).takeRetainedValue().end()
}
