// A lock in four bytes: one in each allocation and each shard, where Mutex would not fit.

internal import CSmalloc
internal import Synchronization

/// A futex lock on a word of raw memory: 0 is free, 1 held, 2 held with somebody waiting.
///
/// What it guards takes microseconds (a copy of up to 1 MiB, and its answer's way out), so it spins
/// a little before it sleeps. Source: Drepper, "Futexes Are Tricky", mutex 2.
struct ByteLock {
    private let word: UnsafeMutablePointer<Atomic<UInt32>>

    /// - Parameter word: 4 aligned bytes that outlive this value, 0 when new.
    init(_ word: UnsafeMutableRawPointer) {
        self.word = word.assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    @inline(__always)
    func lock() {
        let (taken, _) = word.pointee.weakCompareExchange(
            expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed)
        if !taken { lockSlowly() }
    }

    /// Takes it if it is free.
    @inline(__always)
    func tryLock() -> Bool {
        word.pointee.compareExchange(
            expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed
        ).exchanged
    }

    @inline(__always)
    func unlock() {
        if word.pointee.exchange(0, ordering: .releasing) == 2 { wake() }
    }

    @inline(never)
    private func lockSlowly() {
        for _ in 0..<100 {
            let (taken, _) = word.pointee.compareExchange(
                expected: 0, desired: 1, successOrdering: .acquiring, failureOrdering: .relaxed)
            if taken { return }
            spin()
        }
        while word.pointee.exchange(2, ordering: .acquiring) != 0 {
            smalloc_futex_wait(
                UnsafeMutableRawPointer(word).assumingMemoryBound(to: UInt32.self), 2)
        }
    }

    @inline(never)
    private func wake() {
        smalloc_futex_wake(UnsafeMutableRawPointer(word).assumingMemoryBound(to: UInt32.self))
    }

    private func spin() { smalloc_spin_hint() }
}
