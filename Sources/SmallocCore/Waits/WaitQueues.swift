// All waits, found by cell and by allocation, or by the name that they wait for.
//
// Allocations have no room for a list, and nearly none has waits: so those are in a table beside
// them. Those that wait on one cell are a ring, in the order in which they came, of which the first
// stands in the chain of a bucket; those on one allocation are another. To notify a cell is to find
// its first, however many wait on other cells.
//
// Those that wait for a name are a ring for each name, and stand in no other.
//
// Invariant: what is in the ring of a cell is in that of its allocation, and the other way round;
// and an allocation has the flag `waited` while its ring is not empty.

internal import Glibc
internal import SmallocSystem
internal import Synchronization

/// The queues of all waits.
///
/// A ring changes under its allocation's lock, that of a name under the lock of its shard. The
/// chain of a bucket is shared with others, and has a lock of its own, taken last.
final class WaitQueues: @unchecked Sendable {
    /// Which of its queues.
    enum Kind: UInt8, CaseIterable {
        /// Of a cell.
        case cell
        /// Of an allocation.
        case allocation
        /// Of a name.
        case name
    }

    /// What the waits of one ring wait for.
    private struct Key {
        var allocation: Allocation?
        var offset = 0
        var name = UnsafeRawBufferPointer(start: nil, count: 0)
        var isFrozen = false

        init(_ allocation: Allocation, _ offset: Int) {
            self.allocation = allocation
            self.offset = offset
        }

        init(_ name: UnsafeRawBufferPointer, isFrozen: Bool) {
            self.name = name
            self.isFrozen = isFrozen
        }

        init(_ wait: Wait, _ kind: Kind) {
            self =
                kind == .name
                ? Key(wait.name, isFrozen: wait.fields.pointee.aim.isFrozen)
                : Key(wait.allocation, kind == .cell ? wait.offset : 0)
        }

        func isOf(_ wait: Wait, _ kind: Kind) -> Bool {
            guard kind == .name else {
                return wait.allocation == allocation
                    && (kind == .allocation || wait.offset == offset)
            }
            guard wait.offset == name.count, wait.fields.pointee.aim.isFrozen == isFrozen,
                let one = wait.name.baseAddress, let other = name.baseAddress
            else { return false }
            return memcmp(one, other, name.count) == 0
        }
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
        let count = Kind.allCases.count * WaitQueues.bucketCount
        guard let memory = calloc(count, MemoryLayout<Bucket>.stride) else {
            preconditionFailure("no memory to start with")
        }
        // All zeros are free locks and empty chains.
        buckets = memory.bindMemory(to: Bucket.self, capacity: count)
    }

    deinit { free(buckets) }

    /// The number of the last wait so far.
    ///
    /// Under the lock of an allocation or a shard: what comes to its queues later has a larger one.
    var number: UInt64 { lastNumber.load(ordering: .relaxed) }

    /// The number of the next wait, under the lock of its allocation or shard.
    func nextNumber() -> UInt64 { lastNumber.wrappingAdd(1, ordering: .relaxed).newValue }

    // MARK: Waits

    /// Puts a wait at the end of its queues.
    ///
    /// Under the allocation's lock, or the shard's.
    func append(_ wait: Wait) {
        if wait.isForName { return append(wait, .name) }
        append(wait, .cell)
        append(wait, .allocation)
        wait.allocation.flags.insert(.waited)
    }

    /// Takes it out of them.
    ///
    /// Under the allocation's lock, or the shard's. The caller is the one who ends it.
    func remove(_ wait: Wait) {
        precondition(wait.fields.pointee.isQueued, "a wait ends once")
        wait.fields.pointee.isQueued = false
        if wait.isForName {
            _ = remove(wait, .name)
            return
        }
        _ = remove(wait, .cell)
        if remove(wait, .allocation) { wait.allocation.flags.remove(.waited) }
    }

    /// The oldest of those that wait on a cell.
    ///
    /// Under the allocation's lock.
    func first(on allocation: Allocation, at offset: Int) -> Wait? {
        guard allocation.flags.contains(.waited) else { return nil }
        return first(Key(allocation, offset), .cell)
    }

    /// The oldest of those that wait on any cell of an allocation.
    ///
    /// Under its lock.
    func first(on allocation: Allocation) -> Wait? {
        guard allocation.flags.contains(.waited) else { return nil }
        return first(Key(allocation, 0), .allocation)
    }

    /// The oldest of those that wait for a name, or for one of that name that is frozen.
    ///
    /// Under the shard's lock.
    func first(awaiting name: UnsafeRawBufferPointer, isFrozen: Bool) -> Wait? {
        first(Key(name, isFrozen: isFrozen), .name)
    }

    // MARK: Rings and chains

    private func bucket(_ key: Key, _ kind: Kind) -> UnsafeMutablePointer<Bucket> {
        let hash: UInt64
        if let allocation = key.allocation {
            var words = (UInt(bitPattern: allocation.block), key.offset)
            hash = withUnsafeBytes(of: &words) { self.hash.hash(of: $0) }
        } else {
            hash = self.hash.hash(of: key.name)
        }
        let index = Int(hash & UInt64(WaitQueues.bucketCount - 1))
        return buckets + Int(kind.rawValue) * WaitQueues.bucketCount + index
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
        _ bucket: UnsafeMutablePointer<Bucket>, _ key: Key, _ kind: Kind
    ) -> Wait? {
        var next = bucket.pointee.first
        while let wait = next {
            if key.isOf(wait, kind) { return wait }
            next = wait.place(kind).pointee.chainNext
        }
        return nil
    }

    private func first(_ key: Key, _ kind: Kind) -> Wait? {
        let bucket = bucket(key, kind)
        return locked(bucket) { find(bucket, key, kind) }
    }

    private func append(_ wait: Wait, _ kind: Kind) {
        let key = Key(wait, kind)
        let bucket = bucket(key, kind)
        let place = wait.place(kind)
        locked(bucket) {
            if let first = find(bucket, key, kind) {
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
        let bucket = bucket(Key(wait, kind), kind)
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

    /// How many waits are queued, each checked to be in its queues.
    ///
    /// For tests, while no other thread uses the registry.
    ///
    /// - Parameter body: Called for each that waits for a name.
    func checkInvariants(_ body: (Wait) -> Void = { _ in }) -> Int {
        var counts = [0, 0, 0]
        for kind in Kind.allCases {
            for index in 0..<WaitQueues.bucketCount {
                let bucket = buckets + index + Int(kind.rawValue) * WaitQueues.bucketCount
                var next = bucket.pointee.first
                var previous: Wait?
                while let first = next {
                    let place = first.place(kind).pointee
                    precondition(place.isFirst && place.chainPrevious == previous)
                    precondition(self.bucket(Key(first, kind), kind) == bucket)
                    precondition(first.isForName == (kind == .name))
                    precondition(kind == .name || first.allocation.flags.contains(.waited))
                    counts[Int(kind.rawValue)] += checkRing(of: first, kind, body)
                    previous = first
                    next = place.chainNext
                }
            }
        }
        precondition(counts[0] == counts[1], "what waits on a cell waits on its allocation")
        return counts[0] + counts[2]
    }

    private func checkRing(of first: Wait, _ kind: Kind, _ body: (Wait) -> Void) -> Int {
        var count = 0
        let key = Key(first, kind)
        var wait = first
        repeat {
            let place = wait.place(kind).pointee
            precondition(wait.fields.pointee.isQueued && key.isOf(wait, kind))
            if kind == .name { body(wait) }
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
