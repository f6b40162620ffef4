// The system's mutex, which the ThreadSanitizer sees and which sleeps under contention.
// Synchronization.Mutex does neither on Linux.

public import Glibc

/// A mutual exclusion lock.
public struct Lock: ~Copyable, @unchecked Sendable {
    @usableFromInline let mutex: UnsafeMutablePointer<pthread_mutex_t>

    /// Starts unlocked.
    public init() {
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        let code = pthread_mutex_init(mutex, nil)
        precondition(code == 0, "a mutex can be initialised")
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Takes the lock, which the calling thread must not have already.
    @inlinable @inline(__always)
    public func lock() { pthread_mutex_lock(mutex) }

    /// Gives it back.
    @inlinable @inline(__always)
    public func unlock() { pthread_mutex_unlock(mutex) }

    /// Takes the lock if no thread has it, the calling one included.
    @inlinable @inline(__always)
    public func tryLock() -> Bool { pthread_mutex_trylock(mutex) == 0 }

    /// Calls back while the calling thread has the lock.
    @inlinable @inline(__always)
    public func withLock<Result, Failure: Error>(
        _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }
}

/// A value that is touched under a lock of its own.
public struct Locked<Value: Sendable>: ~Copyable, @unchecked Sendable {
    @usableFromInline let lock: Lock
    @usableFromInline let value: UnsafeMutablePointer<Value>

    /// Starts with `value`, unlocked.
    public init(_ value: Value) {
        lock = Lock()
        self.value = .allocate(capacity: 1)
        self.value.initialize(to: value)
    }

    deinit {
        value.deinitialize(count: 1)
        value.deallocate()
    }

    /// Calls back with the value while no other thread has it.
    ///
    /// `body` must not call it again.
    @inlinable @inline(__always)
    public func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        lock.lock()
        defer { lock.unlock() }
        return try body(&value.pointee)
    }
}
