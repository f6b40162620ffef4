// How a process finds out that it is the fork of the one that connected.

internal import Glibc
internal import SmallocWire
internal import Synchronization

/// Counts the forks between the first process that connected and this one.
///
/// Parent and child share the sockets that were open at the fork, and would get each other's
/// answers. So a connection keeps the count of when it was made and is refused with another one:
/// a load from memory, where `getpid` would be a system call. A child that runs another program
/// (`posix_spawn`, `exec`) has no connection: sockets are closed on exec.
struct ForkGuard: Sendable {
    private let count: UInt32

    /// In memory that is never freed, so that looking at it needs no check of a `static let`.
    private nonisolated(unsafe) let present: UnsafePointer<Atomic<UInt32>>

    private nonisolated(unsafe) static let shared: UnsafePointer<Atomic<UInt32>> = {
        let count = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)
        count.initialize(to: Atomic(0))
        forkCount = count
        pthread_atfork(nil, nil) { forkCount?.pointee.add(1, ordering: .relaxed) }
        return UnsafePointer(count)
    }()

    /// Takes note of the process that calls.
    init() {
        present = ForkGuard.shared
        count = present.pointee.load(ordering: .relaxed)
    }

    /// Whether the caller runs in a fork of the process that made this.
    @inline(__always)
    var isForked: Bool { present.pointee.load(ordering: .relaxed) != count }

    /// Refuses a fork.
    ///
    /// - Throws: `.forked`.
    @inline(__always)
    func check() throws(SmallocError) { if isForked { throw .forked } }
}

/// The same as `ForkGuard.shared`, which a process that forks while it is made can't wait for.
private nonisolated(unsafe) var forkCount: UnsafeMutablePointer<Atomic<UInt32>>?
