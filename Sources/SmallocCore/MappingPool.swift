// Large memory: mappings, kept warm for reuse, wiped and unmapped by a thread of their own, so that
// no loop waits for gigabytes to be zeroed or given back.

internal import CSmalloc
internal import Glibc

/// Page-aligned memory from the kernel.
///
/// Zero beyond `dirtySize`.
struct Mapping: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    /// Bytes, a multiple of the page size.
    let capacity: Int
    /// Bytes from the start that may be other than zero.
    var dirtySize = 0
    /// To be unmapped, not kept: it was warm for the longest time.
    var isStale = false
}

/// Hands out zeroed mappings and takes them back.
final class MappingPool: @unchecked Sendable {
    /// Bytes from which on an allocation is a mapping of its own.
    static let sizeMin = 65_536
    /// Up to here a mapping is wiped on the spot; it takes about 10 microseconds.
    private static let wipedAtOnceMax = 262_144
    private static let hugePage = 2 << 20
    private static let entriesMax = 64
    private static let trimSizeMin: UInt64 = 4 << 20

    private struct State {
        var clean: [Mapping] = []
        var cleanSize = 0
        var queue: [Mapping] = []
        var queueSize = 0
        var wantsTrim = false
        /// Bytes of heap ever freed, as of the last trim and the last look.
        var freedAtLastTrim: UInt64 = 0
        var freedAtLastLook: UInt64 = 0
        var isStarted = false
        /// Mappings ever queued, and ever done.
        var queuedCount = 0
        var doneCount = 0
    }

    /// Where smaller memory comes from: its free slabs are given back by the same thread.
    let blocks: BlockPool
    private let state = Locked(State())
    private let budget: MemoryBudget
    /// Bytes of warm memory kept at most.
    private let cleanSizeMax: Int
    /// The reclaiming thread sleeps on this; a count of what was queued.
    private let bell: UnsafeMutablePointer<sem_t>
    let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))

    init(budget: MemoryBudget, cleanSizeMax: Int, blocks: BlockPool = BlockPool()) {
        self.budget = budget
        self.blocks = blocks
        blocks.budget = budget
        self.cleanSizeMax = cleanSizeMax
        bell = .allocate(capacity: 1)
        sem_init(bell, 0, 0)
    }

    /// The bytes that a mapping for `size` bytes takes.
    func capacity(for size: Int) -> Int { (size + pageSize - 1) / pageSize * pageSize }

    /// Bytes given back that are not free yet.
    var pendingSize: Int { state.withLock { $0.queueSize } }

    /// Mappings that were ever queued to be given back, and those that are done.
    var queuedCount: Int { state.withLock { $0.queuedCount } }
    var doneCount: Int { state.withLock { $0.doneCount } }

    /// Bytes of warm memory.
    var warmSize: Int { state.withLock { $0.cleanSize } }

    /// A zeroed mapping of at least `size` bytes, or nil if the machine has none.
    ///
    /// The caller has charged `capacity(for: size)`; a larger warm one is not taken, so that the
    /// charge is what is used.
    func take(_ size: Int) -> Mapping? {
        let wanted = capacity(for: size)
        let warm = state.withLock { state -> Mapping? in
            guard let index = state.clean.lastIndex(where: { $0.capacity == wanted }) else {
                return nil
            }
            state.cleanSize -= wanted
            return state.clean.remove(at: index)
        }
        if let warm {
            budget.unpool(UInt64(wanted))
            return warm
        }
        return MappingPool.map(wanted)
    }

    /// Takes a mapping back, and its charge with it once the memory is free or warm and clean.
    func give(_ mapping: Mapping) {
        var mapping = mapping
        if mapping.dirtySize <= MappingPool.wipedAtOnceMax {
            memset(mapping.base, 0, mapping.dirtySize)
            mapping.dirtySize = 0
            if keep(mapping) { return }
            // Nothing but touched pages costs time to unmap, and these are few.
            MappingPool.unmap(mapping)
            budget.uncharge(UInt64(mapping.capacity))
            return
        }
        state.withLock { state in
            state.queue.append(mapping)
            state.queueSize += mapping.capacity
            state.queuedCount += 1
        }
        ring(1)
    }

    /// Takes back the end of a mapping, whose beginning stays in use: to be unmapped, never kept.
    func give(end mapping: Mapping) {
        var mapping = mapping
        mapping.isStale = true
        state.withLock { state in
            state.queue.append(mapping)
            state.queueSize += mapping.capacity
            state.queuedCount += 1
        }
        ring(1)
    }

    /// Tells the reclaiming thread of `count` queued mappings; the first call starts it.
    private func ring(_ count: Int) {
        let mustStart = state.withLock { state -> Bool in
            defer { state.isStarted = true }
            return !state.isStarted
        }
        if mustStart, !BackgroundThread.start({ [self] in while true { reclaimNext() } }) {
            // No thread to be had: better a slow loop than memory that never comes back.
            state.withLock { $0.isStarted = false }
            for _ in 0..<count {
                sem_post(bell)
                reclaimNext()
            }
            return
        }
        for _ in 0..<count { sem_post(bell) }
    }

    /// Has the heap's free pages given back, if much was freed and the freeing has ceased.
    ///
    /// To be called every second or so. Small allocations that go leave holes that malloc keeps;
    /// to look for them holds up whoever allocates, so it is done seldom.
    func trimHeap() {
        noteScattered()
        let freed = budget.heapFreedSize
        let isWorthIt = state.withLock { state -> Bool in
            let isQuiet = freed - state.freedAtLastLook < MappingPool.trimSizeMin / 8
            state.freedAtLastLook = freed
            let enough = max(MappingPool.trimSizeMin, budget.usedSize / 8)
            guard isQuiet, !state.wantsTrim, freed - state.freedAtLastTrim >= enough else {
                return false
            }
            state.freedAtLastTrim = freed
            state.wantsTrim = true
            state.queuedCount += 1
            return true
        }
        if isWorthIt { ring(1) }
    }

    /// Counts what is free between small allocations that are not.
    func noteScattered() { budget.noteScattered(blocks.scatteredSize) }

    /// Has small memory looked through for what can be given back, if much is scattered: for
    /// whoever would be refused otherwise.
    ///
    /// It is on its way back from then on, as what `queuedCount` counts.
    func gather() {
        guard budget.scatteredSize > 0 else { return }
        let mustRing = state.withLock { state -> Bool in
            guard !state.wantsTrim else { return false }
            state.wantsTrim = true
            state.queuedCount += 1
            return true
        }
        if mustRing { ring(1) }
    }

    /// Waits until all that was given back is free, and frees what is warm.
    ///
    /// For tests: it may wait for long.
    func drain() {
        // What is warm may be pushed out by what comes, and is then on its way itself.
        repeat {
            while doneCount < queuedCount { usleep(500) }
            dropWarm()
        } while pendingSize > 0
    }

    /// Gives all warm memory back to the kernel.
    func dropWarm() {
        let dropped = state.withLock { state -> [Mapping] in
            defer {
                state.clean = []
                state.cleanSize = 0
            }
            return state.clean
        }
        for mapping in dropped {
            MappingPool.unmap(mapping)
            budget.unpool(UInt64(mapping.capacity))
        }
    }

    /// Puts a clean mapping among the warm ones, if there is room.
    ///
    /// Its charge becomes pool.
    ///
    /// Makes room by queueing the oldest for the reclaiming thread, where unmapping them holds up
    /// nobody.
    private func keep(_ mapping: Mapping) -> Bool {
        // The beginning of what was truncated may be smaller than anything that is asked for.
        guard mapping.capacity >= MappingPool.sizeMin, mapping.capacity <= cleanSizeMax else {
            return false
        }
        let evicted = state.withLock { state -> Int in
            var evicted = 0
            while state.clean.count >= MappingPool.entriesMax
                || mapping.capacity > cleanSizeMax - state.cleanSize
            {
                var oldest = state.clean.removeFirst()
                oldest.isStale = true
                state.cleanSize -= oldest.capacity
                state.queue.append(oldest)
                state.queueSize += oldest.capacity
                state.queuedCount += 1
                budget.charge(pooled: UInt64(oldest.capacity))
                evicted += 1
            }
            state.clean.append(mapping)
            state.cleanSize += mapping.capacity
            // Before anybody can take it out again.
            budget.pool(UInt64(mapping.capacity))
            return evicted
        }
        if evicted > 0 { ring(evicted) }
        return true
    }

    // MARK: The reclaiming thread

    private func reclaimNext() {
        while sem_wait(bell) != 0 {}
        if state.withLock({ $0.wantsTrim }) {
            blocks.sweep()
            smalloc_heap_trim()
            noteScattered()
            state.withLock {
                $0.wantsTrim = false
                $0.doneCount += 1
            }
        }
        let next = state.withLock { state -> Mapping? in
            guard !state.queue.isEmpty else { return nil }
            return state.queue.removeFirst()
        }
        guard var mapping = next else { return }
        let size = mapping.capacity
        let wanted = !mapping.isStale && size <= cleanSizeMax
        if wanted {
            memset(mapping.base, 0, mapping.dirtySize)
            mapping.dirtySize = 0
        }
        if !wanted || !keep(mapping) {
            MappingPool.unmap(mapping)
            budget.uncharge(UInt64(size))
        }
        state.withLock { state in
            state.queueSize -= size
            state.doneCount += 1
        }
    }

    // MARK: The kernel

    private static func map(_ capacity: Int) -> Mapping? {
        let huge = capacity >= hugePage
        let slack = huge ? hugePage : 0
        guard
            let start = mmap(
                nil, capacity + slack, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), start != MAP_FAILED
        else { return nil }
        guard huge else { return Mapping(base: start, capacity: capacity) }
        // Aligned for huge pages: the first touch of 4 KiB pages is what makes large memory slow.
        let address = Int(bitPattern: start)
        let lead = (hugePage - address % hugePage) % hugePage
        if lead > 0 { munmap(start, lead) }
        if slack - lead > 0 { munmap(start + lead + capacity, slack - lead) }
        madvise(start + lead, capacity, MADV_HUGEPAGE)
        return Mapping(base: start + lead, capacity: capacity)
    }

    /// In slices: the kernel locks the whole address space meanwhile, and a loop may want memory.
    private static func unmap(_ mapping: Mapping) {
        var offset = 0
        while offset < mapping.capacity {
            let size = min(4 * hugePage, mapping.capacity - offset)
            if munmap(mapping.base + offset, size) != 0 {
                // Too many mappings to split one more: the pages go, the addresses stay.
                madvise(mapping.base + offset, size, MADV_DONTNEED)
            }
            offset += size
        }
    }
}
