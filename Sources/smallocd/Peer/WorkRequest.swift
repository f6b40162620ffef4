// Work on libuv's thread pool, slice by slice, and the peer that waits for it.

import CLibuv
import SmallocCore
import SmallocSystem
import Synchronization

/// Work on libuv's thread pool, with a reference to the peer that waits for it.
///
/// The pool has few threads and takes what is queued in its order. While there is more work than
/// threads each slice goes to the back of the queue, so that a connection waits for one slice of
/// each other connection at most. Otherwise the thread goes on with the next slice at once: a
/// thread that woke for each could keep a loop from a processor that they share.
final class WorkRequest: @unchecked Sendable {
    private let uv = allocateUV(uv_work_t.self)
    fileprivate let work: Work
    fileprivate let peer: Peer
    /// Work of all loops under way.
    private static let count = Atomic<Int>(0)
    private static let threadCount = ThreadPool.size

    /// Written by the thread that runs a slice, read by the loop after it.
    fileprivate var isDone = false

    private init(_ work: Work, _ peer: Peer) {
        self.work = work
        self.peer = peer
        WorkRequest.count.add(1, ordering: .relaxed)
    }

    deinit { WorkRequest.count.subtract(1, ordering: .relaxed) }

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

    /// On a thread of the pool.
    fileprivate func runSlices() {
        Yielding.giveWay()
        repeat {
            isDone = work.run()
        } while !isDone && !work.isAbandoned
            && WorkRequest.count.load(ordering: .relaxed) <= WorkRequest.threadCount
    }

    /// A slice is done, on the loop's thread: queues the next, or ends.
    fileprivate func sliceEnded() {
        // No client waits for it any more: the connection is lost, or the daemon stops.
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
    Unmanaged<WorkRequest>.fromOpaque(data).takeUnretainedValue().runSlices()
}

private func workEnded(_ request: UnsafeMutablePointer<uv_work_t>?, _ status: Int32) {
    guard let data = request?.pointee.data else { return }
    let request = Unmanaged<WorkRequest>.fromOpaque(data).takeUnretainedValue()
    _ = request.peer.loop.turnClock.begin()
    request.sliceEnded()
}
