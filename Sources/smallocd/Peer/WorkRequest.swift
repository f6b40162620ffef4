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

    // MARK: Freezes

    /// Freezes of all loops, of which one runs at a time.
    ///
    /// The kernel may hold its thread for 150 milliseconds with each try, and what waits for that
    /// has no thread. They take turns, try by try.
    private struct Freezes {
        var isTaken = false
        var waiting: [WorkRequest] = []

        init() { waiting.reserveCapacity(WorkRequest.freezesMax + 1) }

        /// The one that runs next, behind one that goes on later.
        mutating func next(_ last: WorkRequest?) -> WorkRequest? {
            if let last { waiting.append(last) }
            isTaken = !waiting.isEmpty
            return isTaken ? waiting.removeFirst() : nil
        }
    }

    private static let freezes = Locked(Freezes())
    /// Freezes that wait at most: clients can make the last of them wait for 20 seconds.
    private static let freezesMax = 128

    /// - Returns: Whether it may run now; else the loop is told when it may, or that it is refused.
    private func mayFreeze() -> Bool {
        let (mayRun, waits) = WorkRequest.freezes.withLock { freezes in
            if !freezes.isTaken {
                freezes.isTaken = true
                return (true, false)
            }
            guard freezes.waiting.count < WorkRequest.freezesMax else { return (false, false) }
            freezes.waiting.append(self)
            return (false, true)
        }
        if !mayRun, !waits {
            // Told by mail, so that others have their turn before the connection's next request.
            isRefused = true
            work.refuse()
            peer.loop.post(.freeze(self))
        }
        return mayRun
    }

    /// Hands the turn on.
    ///
    /// - Parameter last: The one that had it, if it is to be run again.
    /// - Returns: Whether that is the next one, too.
    private static func handOn(_ last: WorkRequest?) -> Bool {
        var last = last
        while let next = freezes.withLock({ $0.next(last) }) {
            if next === last { return true }
            last = nil
            if next.peer.loop.post(.freeze(next)) { break }
            // That loop has ended.
        }
        return false
    }

    /// It may run, or is refused.
    ///
    /// On its loop's thread.
    func freeze() {
        // A peer that is not read from has not noticed that its client is gone.
        let isOver = isRefused || peer.isClosing || peer.transport.isGone
        if !isOver, uv_queue_work(peer.loop.uv, uv, workRuns, workEnded) == 0 { return }
        if !isRefused { _ = WorkRequest.handOn(nil) }
        work.refuse()
        end()
    }

    /// Takes back what a connection that ends waits for.
    ///
    /// - Returns: False: it runs, or is about to be told that it may.
    static func withdraw(_ peer: Peer) -> Bool {
        let request = freezes.withLock { freezes -> WorkRequest? in
            guard let index = freezes.waiting.firstIndex(where: { $0.peer === peer }) else {
                return nil
            }
            return freezes.waiting.remove(at: index)
        }
        request?.free()
        return request != nil
    }

    // MARK: Slices

    /// Written by the thread that runs a slice, read by the loop after it.
    fileprivate var isDone = false
    private var isRefused = false

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
        if work.isFreeze, !request.mayFreeze() { return true }
        guard uv_queue_work(loop, request.uv, workRuns, workEnded) == 0 else {
            if work.isFreeze { _ = handOn(nil) }
            request.free()
            return false
        }
        return true
    }

    /// On a thread of the pool.
    fileprivate func runSlices() {
        Yielding.giveWay()
        repeat {
            isDone = work.run()
        } while !isDone && !work.isAbandoned && !work.isFreeze
            && WorkRequest.count.load(ordering: .relaxed) <= WorkRequest.threadCount
    }

    /// A slice is done, on the loop's thread: queues the next, or ends.
    fileprivate func sliceEnded() {
        // No client waits for it any more: the connection is lost, or the daemon stops.
        let isOver = isDone || peer.isClosing
        if work.isFreeze, !WorkRequest.handOn(isOver ? nil : self), !isOver { return }
        if !isOver {
            if uv_queue_work(peer.loop.uv, uv, workRuns, workEnded) == 0 { return }
            while !work.run() {}
            if work.isFreeze { _ = WorkRequest.handOn(nil) }
        }
        end()
    }

    private func end() {
        free()
        peer.didWork()
    }

    private func free() {
        uv.deallocate()
        Unmanaged.passUnretained(self).release()
    }
}

private func workRuns(_ request: UnsafeMutablePointer<uv_work_t>?) {
    guard let data = request?.pointee.data else { return }
    Unmanaged<WorkRequest>.fromOpaque(data).takeUnretainedValue().runSlices()
}

private func workEnded(_ request: UnsafeMutablePointer<uv_work_t>?, _ status: Int32) {
    guard let data = request?.pointee.data else { return }
    let request = Unmanaged<WorkRequest>.fromOpaque(data).takeUnretainedValue()
    _ = request.peer.loop.beginCallback()
    request.sliceEnded()
}
