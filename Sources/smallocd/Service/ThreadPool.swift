// libuv's thread pool, started before there is a client: libuv ends the process when it can't start
// a thread of it, and it starts them with the first work.

import CLibuv
import Glibc

/// The threads that work for the loops.
enum ThreadPool {
    /// Threads of the pool: 4, or what `UV_THREADPOOL_SIZE` says, read as libuv reads it.
    static var size: Int {
        guard let value = getenv("UV_THREADPOOL_SIZE") else { return 4 }
        return min(max(Int(atoi(value)), 1), 1024)
    }

    /// Starts the pool, and waits until it has worked.
    ///
    /// - Parameter others: Threads that the daemon needs beside the pool.
    /// - Throws: A `StartFailure` if the system has not as many threads. Tried with threads of our
    ///   own, all at once, as libuv does not come back from it.
    static func start(others: Int) throws(StartFailure) {
        try probe(size + others)
        let loop = allocateUV(uv_loop_t.self)
        let request = allocateUV(uv_work_t.self)
        defer {
            request.deallocate()
            loop.deallocate()
        }
        check(uv_loop_init(loop), "uv_loop_init")
        check(uv_queue_work(loop, request, poolWorks, poolWorked), "uv_queue_work")
        uv_run(loop, UV_RUN_DEFAULT)
        check(uv_loop_close(loop), "uv_loop_close")
    }

    /// Finds out whether so many threads can run at once.
    ///
    /// - Throws: A `StartFailure` that tells how many of them could.
    private static func probe(_ count: Int) throws(StartFailure) {
        let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
        defer {
            pthread_mutex_destroy(lock)
            lock.deallocate()
        }
        // They wait for the lock until all have been started.
        pthread_mutex_lock(lock)
        var threads: [pthread_t] = []
        var failed: Int32 = 0
        while threads.count < count, failed == 0 {
            var thread = pthread_t()
            failed = pthread_create(&thread, nil, threadWaits, lock)
            if failed == 0 { threads.append(thread) }
        }
        pthread_mutex_unlock(lock)
        for thread in threads { pthread_join(thread, nil) }
        guard failed == 0 else {
            throw .system(
                "the system gives \(threads.count) threads, and \(count) are needed:"
                    + " \(reason(failed))")
        }
    }
}

private func threadWaits(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let lock = context?.assumingMemoryBound(to: pthread_mutex_t.self) else { return nil }
    pthread_mutex_lock(lock)
    pthread_mutex_unlock(lock)
    return nil
}

private func poolWorks(_ request: UnsafeMutablePointer<uv_work_t>?) {}

private func poolWorked(_ request: UnsafeMutablePointer<uv_work_t>?, _ status: Int32) {}
