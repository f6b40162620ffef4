// All waits, found by cell and by allocation.
//
// Allocations have no room for a list, and nearly none has waits: so those are in a table beside
// them. Those that wait on one cell are a ring, in the order in which they came, of which the first
// stands in the chain of a bucket; those on one allocation are another. To notify a cell is to find
// its first, however many wait on other cells.
//
// Invariant: what is in the ring of a cell is in that of its allocation, and the other way round;
// and an allocation has the flag `waited` while its ring is not empty.

internal import Glibc
internal import SmallocSystem
internal import Synchronization

/// The queues of all waits.
///
/// A ring changes under its allocation's lock. The chain of a bucket is shared with other
/// allocations, and has a lock of its own, taken last.
final class WaitQueues: @unchecked Sendable {
    /// Which of its two queues.
    enum Kind: UInt8 {
        /// Of a cell.
        case cell
        /// Of an allocation.
        case allocation
    }

    private struct Bucket {
        var lockWord: UInt32 = 0
        var first: Wait?
    }

    /// For each kind.
    ///
    /// A chain is about as long as there are cells waited on for each bucket: a hundred for the six
    /// million waits that fit a GiB. They take memory once they are used.
    private static let bucketCount = 1 << 16
    private let buckets: UnsafeMutablePointer<Bucket>
    private let hash: NameHash
    private let lastNumber = Atomic<UInt64>(0)

    /// - Parameter hash: A client chooses offsets, and must not be able to choose those that
    ///   collide.
    init(hash: NameHash) {
        self.hash = hash
        let count = 2 * WaitQueues.bucketCount
        guard let memory = calloc(count, MemoryLayout<Bucket>.stride) else {
            preconditionFailure("no memory to start with")
        }
        // All zeros are free locks and empty chains.
        buckets = memory.bindMemory(to: Bucket.self, capacity: count)
    }

    deinit { free(buckets) }

    /// The number of the last wait so far.
    ///
    /// Under the lock of an allocation: what comes to its queues later has a larger one.
    var number: UInt64 { lastNumber.load(ordering: .relaxed) }

    /// The number of the next wait, under the lock of its allocation.
    func nextNumber() -> UInt64 { lastNumber.wrappingAdd(1, ordering: .relaxed).newValue }

    // MARK: Waits

    /// Puts a wait at the end of both of its queues.
    ///
    /// Under the allocation's lock.
    func append(_ wait: Wait) {
        append(wait, .cell)
        append(wait, .allocation)
        wait.allocation.flags.insert(.waited)
    }

    /// Takes it out of them.
    ///
    /// Under the allocation's lock. The caller is the one who ends it.
    func remove(_ wait: Wait) {
        precondition(wait.fields.pointee.isQueued, "a wait ends once")
        wait.fields.pointee.isQueued = false
        _ = remove(wait, .cell)
        if remove(wait, .allocation) { wait.allocation.flags.remove(.waited) }
    }

    /// The oldest of those that wait on a cell.
    ///
    /// Under the allocation's lock.
    func first(on allocation: Allocation, at offset: Int) -> Wait? {
        guard allocation.flags.contains(.waited) else { return nil }
        return first(allocation, offset, .cell)
    }

    /// The oldest of those that wait on any cell of an allocation.
    ///
    /// Under its lock.
    func first(on allocation: Allocation) -> Wait? {
        guard allocation.flags.contains(.waited) else { return nil }
        return first(allocation, 0, .allocation)
    }

    // MARK: Rings and chains

    private func bucket(
        _ allocation: Allocation, _ offset: Int, _ kind: Kind
    ) -> UnsafeMutablePointer<Bucket> {
        var key = (UInt(bitPattern: allocation.block), kind == .cell ? offset : 0)
        let hash = withUnsafeBytes(of: &key) { self.hash.hash(of: $0) }
        let index = Int(hash & UInt64(WaitQueues.bucketCount - 1))
        return buckets + (kind == .cell ? index : index + WaitQueues.bucketCount)
    }

    /// Calls back under a bucket's lock.
    private func locked<Result>(
        _ bucket: UnsafeMutablePointer<Bucket>, _ body: () -> Result
    ) -> Result {
        let lock = ByteLock(UnsafeMutableRawPointer(bucket))
        lock.lock()
        defer { lock.unlock() }
        return body()
    }

    /// Under the bucket's lock.
    private func find(
        _ bucket: UnsafeMutablePointer<Bucket>, _ allocation: Allocation, _ offset: Int,
        _ kind: Kind
    ) -> Wait? {
        var next = bucket.pointee.first
        while let wait = next {
            if wait.allocation == allocation, kind == .allocation || wait.offset == offset {
                return wait
            }
            next = wait.place(kind).pointee.chainNext
        }
        return nil
    }

    private func first(_ allocation: Allocation, _ offset: Int, _ kind: Kind) -> Wait? {
        let bucket = bucket(allocation, offset, kind)
        return locked(bucket) { find(bucket, allocation, offset, kind) }
    }

    private func append(_ wait: Wait, _ kind: Kind) {
        let bucket = bucket(wait.allocation, wait.offset, kind)
        let place = wait.place(kind)
        locked(bucket) {
            if let first = find(bucket, wait.allocation, wait.offset, kind) {
                let last = first.place(kind).pointee.previous ?? first
                place.pointee.next = first
                place.pointee.previous = last
                last.place(kind).pointee.next = wait
                first.place(kind).pointee.previous = wait
            } else {
                place.pointee.next = wait
                place.pointee.previous = wait
                place.pointee.isFirst = true
                place.pointee.chainNext = bucket.pointee.first
                bucket.pointee.first?.place(kind).pointee.chainPrevious = wait
                bucket.pointee.first = wait
            }
        }
    }

    /// - Returns: Whether its ring is empty now.
    private func remove(_ wait: Wait, _ kind: Kind) -> Bool {
        let bucket = bucket(wait.allocation, wait.offset, kind)
        let place = wait.place(kind)
        return locked(bucket) {
            guard let next = place.pointee.next, let previous = place.pointee.previous else {
                preconditionFailure("what is queued is in a ring")
            }
            let isAlone = next == wait
            if place.pointee.isFirst {
                let chainNext = place.pointee.chainNext
                let chainPrevious = place.pointee.chainPrevious
                if !isAlone {
                    // The next one stands in the chain in its place.
                    next.place(kind).pointee.isFirst = true
                    next.place(kind).pointee.chainNext = chainNext
                    next.place(kind).pointee.chainPrevious = chainPrevious
                }
                let heir = isAlone ? chainNext : next
                if let chainPrevious {
                    chainPrevious.place(kind).pointee.chainNext = heir
                } else {
                    bucket.pointee.first = heir
                }
                chainNext?.place(kind).pointee.chainPrevious = isAlone ? chainPrevious : next
            }
            previous.place(kind).pointee.next = next
            next.place(kind).pointee.previous = previous
            place.pointee = Wait.Place()
            return isAlone
        }
    }

    /// How many waits are queued, each checked to be in both queues.
    ///
    /// For tests, while no other thread uses the registry.
    func checkInvariants() -> Int {
        var counts = [0, 0]
        for kind in [Kind.cell, .allocation] {
            for index in 0..<WaitQueues.bucketCount {
                let bucket = buckets + index + Int(kind.rawValue) * WaitQueues.bucketCount
                var next = bucket.pointee.first
                var previous: Wait?
                while let first = next {
                    let place = first.place(kind).pointee
                    precondition(place.isFirst && place.chainPrevious == previous)
                    precondition(self.bucket(first.allocation, first.offset, kind) == bucket)
                    precondition(first.allocation.flags.contains(.waited))
                    counts[Int(kind.rawValue)] += checkRing(of: first, kind)
                    previous = first
                    next = place.chainNext
                }
            }
        }
        precondition(counts[0] == counts[1], "what waits on a cell waits on its allocation")
        return counts[0]
    }

    private func checkRing(of first: Wait, _ kind: Kind) -> Int {
        var count = 0
        var wait = first
        repeat {
            let place = wait.place(kind).pointee
            precondition(wait.fields.pointee.isQueued && wait.allocation == first.allocation)
            precondition(kind == .allocation || wait.offset == first.offset)
            precondition(place.isFirst == (wait == first), "a ring has one first")
            guard let next = place.next else { preconditionFailure("a ring has no end") }
            precondition(next.place(kind).pointee.previous == wait)
            precondition(
                next == first || next.fields.pointee.number > wait.fields.pointee.number,
                "the oldest comes first")
            wait = next
            count += 1
        } while wait != first
        return count
    }
}
