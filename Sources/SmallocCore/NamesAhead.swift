// Looks ahead in pipelined requests by name, so that what they will need is on its way from memory
// while those before them are done.

internal import CSmalloc
internal import SmallocWire
internal import Synchronization

/// The names of the next requests of a batch, with their hashes.
///
/// Where millions of names are held, each lookup waits for memory twice: for the slot of the table,
/// and for the allocation. The slots of several names are fetched at once, and the allocations of
/// those whose slots have come by then. Nothing depends on it: a name that is gone or changed
/// meanwhile costs a line of the cache.
struct NamesAhead: ~Copyable {
    /// Names looked at ahead, a power of two, and how many of them have their allocations fetched.
    ///
    /// Memory of a virtual machine takes up to half a microsecond, a request a fifth.
    private static let namesMax = 16
    private static let fetchedMax = 8

    private struct Upcoming {
        /// First byte.
        var start: UnsafeRawPointer
        var hash: UInt64
        /// Whether there should be an allocation to fetch.
        var isOld: Bool
    }

    /// Allocations from which on this pays: fewer are in the processor's caches anyway.
    var countMin: UInt64 = 1 << 16
    private(set) var isOn = false
    private let names: UnsafeMutablePointer<Upcoming>
    private var head = 0
    private var count = 0
    private var fetched = 0
    /// The frame to look at next; nil after one that has no name or is not whole.
    private var scan: UnsafeRawPointer?
    private var end: UnsafeRawPointer?

    init() { names = .allocate(capacity: NamesAhead.namesMax) }

    deinit { names.deallocate() }

    /// Begins with other input, which ends at `end`.
    mutating func begin(_ registry: Registry, end: UnsafeRawPointer) {
        isOn = registry.budget.allocationCount >= countMin
        count = 0
        self.end = end
    }

    /// Goes on to the frame whose name is at `name`, and fetches for those after it.
    ///
    /// - Parameter next: Where the next frame begins, or the input ends.
    /// - Returns: The hash of the name.
    mutating func move(
        to name: UnsafeRawBufferPointer, next: UnsafeRawPointer, _ registry: Registry
    ) -> UInt64 {
        let hash: UInt64
        var isFirst = false
        if count > 0, names[head].start == name.baseAddress {
            hash = names[head].hash
            head = (head &+ 1) & (NamesAhead.namesMax - 1)
            count &-= 1
            fetched = max(fetched &- 1, 0)
        } else {
            hash = registry.nameHash.hash(of: name)
            registry.prefetchSlot(hash)
            isFirst = true
            count = 0
            fetched = 0
            scan = next
        }
        while count < NamesAhead.namesMax, let name = look(registry) {
            names[(head &+ count) & (NamesAhead.namesMax - 1)] = name
            count &+= 1
        }
        if isFirst, count > 0 { registry.prefetchAllocation(hash) }
        while fetched < min(count, NamesAhead.fetchedMax) {
            let index = (head &+ fetched) & (NamesAhead.namesMax - 1)
            if names[index].isOld { registry.prefetchAllocation(names[index].hash) }
            fetched &+= 1
        }
        return hash
    }

    /// The name of the next frame, whose slot is on its way.
    private mutating func look(_ registry: Registry) -> Upcoming? {
        guard let frame = scan, let end else { return nil }
        scan = nil
        let left = end - frame
        guard left >= FrameHeader.byteCount else { return nil }
        let header = FrameHeader(from: frame)
        let size = FrameHeader.byteCount &+ Int(header.payloadSize)
        // Whatever else is wrong with it is found when it is served.
        guard header.magic == FrameHeader.requestMagic, header.nameSize > 0,
            UInt32(header.nameSize) <= header.payloadSize, size <= left
        else { return nil }
        scan = frame + size
        let start = frame + FrameHeader.byteCount
        let hash = registry.nameHash.hash(
            of: UnsafeRawBufferPointer(start: start, count: Int(header.nameSize)))
        registry.prefetchSlot(hash)
        return Upcoming(
            start: start, hash: hash, isOld: header.operation != Operation.alloc.rawValue)
    }
}

extension Registry {
    /// Begins to fetch the slot where the search for a name starts, without the shard's lock.
    ///
    /// What is read is one word that always tells of one table; that this may be gone by now does
    /// not matter, since nothing is read there.
    @inline(__always)
    func prefetchSlot(_ hash: UInt64) {
        let place = place(of: hash)
        let view = shards[place.shard].view.load(ordering: .relaxed)
        smalloc_prefetch(NameTable.firstSlot(of: view, tag: place.tag))
    }

    /// Begins to fetch the allocation that the first slot of a name tells of, under the lock.
    @inline(__always)
    func prefetchAllocation(_ hash: UInt64) {
        let place = place(of: hash)
        let lock = lock(of: place.shard)
        // A hint waits for nobody.
        guard lock.tryLock() else { return }
        let address = shards[place.shard].table.firstAddress(tag: place.tag)
        lock.unlock()
        // Nobody's address is no line of the cache, and takes long to be found so.
        guard address != 0 else { return }
        smalloc_prefetch(address)
        // Header, name and 64 bytes of data take two lines, or begin a third.
        smalloc_prefetch(address &+ 64)
    }
}
