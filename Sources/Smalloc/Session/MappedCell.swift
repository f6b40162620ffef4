// One element of shared memory that threads wait on.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// A cell of 4 bytes of a mapping.
struct MappedCell {
    static let size = 4

    let address: UnsafeMutableRawPointer
    /// Bytes of the allocation up to its last.
    let end: Int

    var value: UInt32 {
        address.assumingMemoryBound(to: Atomic<UInt32>.self).pointee
            .load(ordering: .sequentiallyConsistent)
    }

    /// Nanoseconds for which a wait asks before it sleeps; 0 where there is one processor.
    ///
    /// To put a thread to sleep and wake it takes some 20 microseconds (`smalloc-bench mapped`, on
    /// two processors), and a value that is seen by asking 0.3: half of the former is spent for the
    /// latter at the most.
    static let spinTime: UInt64 = sysconf(Int32(_SC_NPROCESSORS_ONLN)) > 1 ? 10_000 : 0

    /// Asks again and again until a moment whether it is still what it was.
    func stays(_ expected: UInt32, until end: UInt64) -> Bool {
        repeat {
            for _ in 0..<16 {
                if value != expected { return false }
                SharedFutex.pause()
            }
        } while Clock.now < end
        return true
    }
}
