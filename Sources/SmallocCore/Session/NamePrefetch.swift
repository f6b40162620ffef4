// Looks ahead in pipelined requests by name, so that the processor fetches the memory that they
// need while it serves the requests before them.

internal import CSmalloc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// The names of the next requests of a batch, with their hashes.
///
/// Where millions of names are held, each lookup waits for memory twice: for the slot of the table,
/// and for the allocation. So up to 16 names are looked up together: first their slots are fetched,
/// then the allocations that the slots point to. Fetches stand close together, with no lock between
/// them: a processor goes on to the next fetch while one waits for its page's address, but begins
/// no atomic operation before all have theirs. No result depends on it: a name that is gone or
/// changed meanwhile costs a line of the cache.
struct NamePrefetch: ~Copyable {
    /// Names looked at together.
    private static let namesMax = 16

    private struct Upcoming {
        /// First byte.
        var start: UnsafeRawPointer
        var hash: UInt64
        /// Whether there should be an allocation to fetch.
        var isOld: Bool
        /// Its address; 0: none.
        var address: UInt = 0
    }

    /// Allocations from which on this pays.
    var countMin = Thresholds.prefetchCountMin
    private(set) var isOn = false
    private let names: UnsafeMutablePointer<Upcoming>
    /// Those looked at, from the next one on.
    private var head = 0
    private var count = 0
    private var end: UnsafeRawPointer?

    init() { names = .allocate(capacity: NamePrefetch.namesMax) }

    deinit { names.deallocate() }

    /// Begins with other input, which ends at `end`.
    mutating func begin(_ registry: Registry, end: UnsafeRawPointer) {
        isOn = registry.budget.allocationCount >= countMin
        head = 0
        count = 0
        self.end = end
    }

    /// Goes on to the request whose name is at `name`, and looks at those after it if it is a new
    /// one.
    @inline(never)
    mutating func advance(to name: UnsafeRawBufferPointer, _ registry: Registry) {
        if head == count || names[head].start != name.baseAddress { lookAhead(name, registry) }
        if head < count { head &+= 1 }
    }

    /// Looks at a request, behind its header, and those after it, and fetches what they need.
    @inline(never)
    private mutating func lookAhead(_ name: UnsafeRawBufferPointer, _ registry: Registry) {
        head = 0
        count = 0
        var frame = name.baseAddress.map { $0 - FrameHeader.byteCount }
        while count < NamePrefetch.namesMax, let next = frame {
            frame = add(next, registry.nameHash)
        }
        for index in 0..<count { registry.prefetchSlot(names[index].hash) }
        for index in 0..<count where names[index].isOld {
            names[index].address = registry.likelyAddress(names[index].hash)
        }
        for index in 0..<count {
            let address = names[index].address
            // To find that 0 is the address of nothing takes the processor long.
            guard address != 0 else { continue }
            smalloc_prefetch(address)
            // Header, name and 64 bytes of data take two lines, or begin a third.
            smalloc_prefetch(address &+ 64)
        }
    }

    /// Adds the name of a frame, if it has one and is whole.
    ///
    /// - Returns: Where the next frame begins; nil if this one is not to be looked behind.
    @inline(__always)
    private mutating func add(_ frame: UnsafeRawPointer, _ hash: NameHash) -> UnsafeRawPointer? {
        guard let end, end - frame >= FrameHeader.byteCount else { return nil }
        let header = FrameHeader(from: frame)
        let size = FrameHeader.byteCount &+ Int(header.payloadSize)
        // Whatever else is wrong with it is found when it is served.
        guard header.magic == FrameHeader.requestMagic, header.nameSize > 0,
            UInt32(header.nameSize) <= header.payloadSize, size <= end - frame
        else { return nil }
        let start = frame + FrameHeader.byteCount
        let name = UnsafeRawBufferPointer(start: start, count: Int(header.nameSize))
        names[count] = Upcoming(
            start: start, hash: hash.hash(of: name),
            isOld: header.operation != Operation.alloc.rawValue)
        count &+= 1
        return frame + size
    }
}

extension Registry {
    /// Begins to fetch the slots where the search for a name starts, without the shard's lock.
    ///
    /// What is read is one word that always tells of one table; that this may be gone by now does
    /// not matter, since nothing is read there.
    @inline(__always)
    func prefetchSlot(_ hash: UInt64) {
        let bucket = bucket(of: hash)
        let view = view(of: bucket.shard)
        let first = NameTable.firstSlot(of: view, tag: bucket.tag)
        smalloc_prefetch(first)
        // Most searches end within four slots: in this line or, begun in its second half, the next.
        smalloc_prefetch(first &+ 32)
    }

    /// The address of the allocation that the slots tell of for a name; 0: none, or the shard is in
    /// use.
    @inline(__always)
    func likelyAddress(_ hash: UInt64) -> UInt {
        let bucket = bucket(of: hash)
        let lock = lock(of: bucket.shard)
        // It is but a hint: a lock that another thread holds is not waited for.
        guard lock.tryLock() else { return 0 }
        defer { lock.unlock() }
        return shards[bucket.shard].table.likelyAddress(tag: bucket.tag)
    }
}
