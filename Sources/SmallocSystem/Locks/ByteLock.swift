// A lock in four bytes: one in each allocation and each shard, where Mutex would not fit.

internal import CSmalloc
public import Synchronization

/// A futex lock on a word of raw memory: 0 is free, 1 held, 2 held with a thread waiting.
///
/// What it guards takes microseconds, so it spins a little before it sleeps. Source: Drepper,
/// "Futexes Are Tricky", mutex 2.
@frozen
public struct ByteLock {
    @usableFromInline let word: UnsafeMutablePointer<Atomic<UInt32>>

    /// - Parameter word: 4 aligned bytes that outlive this value, 0 when new.
    @inlinable @inline(__always)
    public init(_ word: UnsafeMutableRawPointer) {
        self.word = word.assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// Takes the lock, and waits for it if another thread has it.
    @inlinable @inline(__always)
    public func lock() {
        let (taken, _) = word.pointee.weakCompareExchange(
            expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed)
        if !taken { lockSlowly() }
    }

    /// Takes the lock if it is free.
    ///
    /// - Returns: False: another thread has it.
    @inlinable @inline(__always)
    public func tryLock() -> Bool {
        word.pointee.compareExchange(
            expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed
        ).exchanged
    }

    /// Gives the lock back, and wakes a thread that waits for it.
    @inlinable @inline(__always)
    public func unlock() {
        if word.pointee.exchange(0, ordering: .releasing) == 2 { wake() }
    }

    @usableFromInline @inline(never)
    func lockSlowly() {
        for _ in 0..<100 {
            let (taken, _) = word.pointee.compareExchange(
                expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed)
            if taken { return }
            smalloc_spin_hint()
        }
        while word.pointee.exchange(2, ordering: .acquiring) != 0 {
            smalloc_futex_wait(
                UnsafeMutableRawPointer(word).assumingMemoryBound(to: UInt32.self), 2)
        }
    }

    @usableFromInline @inline(never)
    func wake() {
        smalloc_futex_wake(UnsafeMutableRawPointer(word).assumingMemoryBound(to: UInt32.self))
    }
}
