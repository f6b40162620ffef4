// Large memory: mappings, kept warm for reuse, wiped and unmapped by a thread of their own, so that
// no loop waits for gigabytes to be zeroed or given back.
//
//   given back -> queue -> wiped -> clean -> taken      by whoever wants zeros
//                   |         '---> unmapped            where there is enough that is warm, or
//                   |                                   nobody wanted it for long
//                   '-> taken as it is                  by whoever settles it as he goes

internal import Glibc
internal import SmallocSystem

/// Hands out zeroed mappings and takes them back.
final class MappingPool: @unchecked Sendable {
    /// Bytes from which on an allocation is a mapping of its own.
    static let sizeMin = 65_536
    /// Up to here a mapping is wiped on the spot; it takes some microseconds.
    private static let wipedAtOnceMax = 65_536
    private static let entriesMax = 64
    /// How long what was given back waits, in nanoseconds, for somebody who would write all of it
    /// anyway: to wipe it then is to move as much memory for nothing.
    static let restTime: UInt64 = 10_000_000
    /// Bytes of what is handed out before it is wiped, at most: to wipe it takes 20 milliseconds.
    private static let usedSizeMax = 256 << 20
    /// How long warm memory is kept that nobody asks for, in nanoseconds.
    static let warmTime: UInt64 = 10_000_000_000
    private static let trimSizeMin: UInt64 = 4 << 20

    /// Where smaller memory comes from: its free slabs are given back by the same thread.
    let blocks: BlockPool
    let state = Locked(State())
    let budget: MemoryBudget
    /// Bytes of warm memory kept at most.
    let cleanSizeMax: Int
    let restTime: UInt64
    private let warmTime: UInt64
    /// The reclaiming thread sleeps on this; a count of what was queued.
    let bell: UnsafeMutablePointer<sem_t>
    let arenas: Arenas
    let pageSize = SystemMemory.pageSize

    init(
        budget: MemoryBudget, cleanSizeMax: Int, blocks: BlockPool = BlockPool(),
        restTime: UInt64 = MappingPool.restTime, warmTime: UInt64 = MappingPool.warmTime
    ) {
        self.budget = budget
        self.restTime = restTime
        self.warmTime = warmTime
        self.blocks = blocks
        blocks.budget = budget
        arenas = Arenas(budget: budget)
        self.cleanSizeMax = cleanSizeMax
        bell = .allocate(capacity: 1)
        sem_init(bell, 0, 0)
    }

    /// The bytes that a mapping for `size` bytes takes.
    func capacity(for size: Int) -> Int { (size + pageSize - 1) / pageSize * pageSize }

    /// Bytes given back that are not free yet.
    var pendingSize: Int { state.withLock { $0.queueSize } }

    /// All that was ever queued to be given back; it is not left to rest any longer.
    func hurry() -> Tally {
        state.withLock { state in
            state.hurriedNumber = state.queued.mappings
            return state.queued
        }
    }

    /// Whether as much is done, or was taken by somebody else.
    func hasDone(_ tally: Tally) -> Bool {
        state.withLock { state in
            let oldest = state.queue.first?.number ?? .max
            return oldest > tally.mappings && state.trimsDone >= tally.trims
                && state.underWay.allSatisfy { $0 > tally.mappings }
        }
    }

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
        return Mapping.make(wanted, arenas, budget)
    }

    /// A mapping of `capacity` bytes that was given back and is not wiped yet, or nil.
    ///
    /// It comes with its charge. Bytes up to `dirtySize` are somebody else's: see
    /// `Allocation.settle`. None that is so large that to touch its end would take long.
    func takeUsed(_ capacity: Int) -> Mapping? {
        guard capacity <= MappingPool.usedSizeMax else { return nil }
        return state.withLock { state -> Mapping? in
            // The youngest: the others are about to be wiped, and may be many.
            guard
                let index = state.queue.suffix(MappingPool.entriesMax)
                    .lastIndex(where: { $0.capacity == capacity && !$0.isStale })
            else { return nil }
            state.queueSize -= capacity
            return state.queue.remove(at: index)
        }
    }

    /// Takes a mapping back, and its charge with it once the memory is free or warm and clean.
    func give(_ mapping: Mapping) {
        var mapping = mapping
        // What was truncated may have a tail in the queue, and goes behind it.
        if mapping.capacity < mapping.madeSize { return give(forGood: mapping) }
        if mapping.dirtySize <= MappingPool.wipedAtOnceMax {
            mapping.wipe()
            if !keep(mapping) { unmap(mapping) }
            return
        }
        mapping.givenAt = Clock.now
        state.withLock { $0.enqueue(mapping) }
        ring(1)
    }

    /// Gives a mapping back to the kernel, and takes its charge off.
    ///
    /// What the kernel does not take back stays charged.
    func unmap(_ mapping: Mapping, pause: () -> Void = {}) {
        if mapping.unmap(arenas, budget, pause: pause) {
            budget.uncharge(UInt64(mapping.capacity))
        }
    }

    /// Takes back what must not be handed out again: a tail, or what is left of a mapping without
    /// one.
    func give(forGood mapping: Mapping) {
        var mapping = mapping
        mapping.isStale = true
        state.withLock { $0.enqueue(mapping) }
        ring(1)
    }

    /// Tells the reclaiming thread of `count` queued mappings; the first call starts it.
    private func ring(_ count: Int) {
        let mustStart = state.withLock { state -> Bool in
            defer { state.isStarted = true }
            return !state.isStarted
        }
        let isOnItsOwn =
            !mustStart
            || BackgroundThread.start { [self] in
                var turns = Yielding()
                while true { reclaimNext(&turns) }
            }
        if !isOnItsOwn {
            // No thread to be had: better a slow loop than memory that never comes back.
            state.withLock { $0.isStarted = false }
            var turns = Yielding()
            for _ in 0..<count {
                sem_post(bell)
                reclaimNext(&turns)
            }
            return
        }
        for _ in 0..<count { sem_post(bell) }
    }

    /// Has what is free given back to the kernel: warm memory that nobody asked for in
    /// `warmTime`, and the heap's free pages, if much was freed and the freeing has ceased.
    ///
    /// To be called every second or so. Small allocations that go leave holes that malloc keeps;
    /// to look for them holds up whoever allocates, so it is done seldom.
    func returnMemory() {
        let evicted = state.withLock { state -> Int in
            // Here: nothing that is warm can be younger.
            let now = Clock.now
            var count = 0
            while let oldest = state.clean.first, now - oldest.givenAt >= warmTime {
                state.evictOldest(budget)
                count += 1
            }
            return count
        }
        if evicted > 0 { ring(evicted) }
        noteScattered()
        let isWorthIt = state.withLock { state -> Bool in
            let freed = budget.heapFreedSize
            let isQuiet = freed - state.freedAtLastLook < MappingPool.trimSizeMin / 8
            state.freedAtLastLook = freed
            let enough = max(MappingPool.trimSizeMin, budget.usedSize / 8)
            guard isQuiet, !state.wantsTrim, freed - state.freedAtLastTrim >= enough else {
                return false
            }
            state.freedAtLastTrim = freed
            state.wantsTrim = true
            state.queued.trims += 1
            return true
        }
        if isWorthIt { ring(1) }
    }

    /// Counts what is free between small allocations that are not.
    func noteScattered() { budget.noteScattered(blocks.scatteredSize) }

    /// Has small memory looked through for what can be given back, if much is scattered: for
    /// whoever would be refused otherwise.
    ///
    /// It is on its way back from then on, as what `hurry` tells.
    func gather() {
        guard budget.scatteredSize > 0 else { return }
        let mustRing = state.withLock { state -> Bool in
            guard !state.wantsTrim else { return false }
            state.wantsTrim = true
            state.queued.trims += 1
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
            let queued = hurry()
            while !hasDone(queued) { usleep(500) }
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
            budget.charge(pooled: UInt64(mapping.capacity))
            unmap(mapping)
        }
    }

    /// Puts a clean mapping among the warm ones, if there is room.
    ///
    /// Its charge becomes pool.
    ///
    /// Makes room by queueing the oldest for the reclaiming thread, where unmapping them holds up
    /// nobody.
    func keep(_ mapping: Mapping) -> Bool {
        var mapping = mapping
        // The beginning of what was truncated may be smaller than anything that is asked for.
        guard mapping.capacity >= MappingPool.sizeMin, mapping.capacity <= cleanSizeMax else {
            return false
        }
        let evicted = state.withLock { state -> Int in
            var evicted = 0
            while state.clean.count >= MappingPool.entriesMax
                || mapping.capacity > cleanSizeMax - state.cleanSize
            {
                state.evictOldest(budget)
                evicted += 1
            }
            mapping.givenAt = Clock.now
            state.clean.append(mapping)
            state.cleanSize += mapping.capacity
            // Before anybody can take it out again.
            budget.pool(UInt64(mapping.capacity))
            return evicted
        }
        if evicted > 0 { ring(evicted) }
        return true
    }
}
