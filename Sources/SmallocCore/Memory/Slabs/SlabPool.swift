// Memory from the kernel for much that is small: slabs, in regions that may be huge pages, so that
// what is looked at among millions is found without a miss of the TLB each.
//
// Where a slab was given back the kernel must not make a huge page of its region again: the slab
// would be in memory once more, and not counted. So such a region is plain until all that was given
// back of it is taken again. Each plain region may cost two mappings more than none, of which a
// process has few, so that only so many regions are plain: what is given back of others still
// counts as cut.
//
// For users with so many small allocations that they fill gigabytes: with huge pages a look at one
// of 10 million costs 1.2 times one of 10 thousand, and 1.5 times without. It costs the plain
// regions above, which are needed only since the kernel may take a decision back.
//
// Invariant: a slab is zeros when it is free.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem

/// Hands out slabs and takes them back.
///
/// All methods from any thread. The lock is held for a few steps at a time, however many slabs
/// there are.
final class SlabPool: @unchecked Sendable {
    fileprivate struct State {
        /// The first region of those with as many free slabs as the index says.
        var lists: [Region?] = Array(repeating: nil, count: Region.slabCount + 1)
        var regionCount = 0
        var plainCount = 0
        /// Free slabs.
        var freeCount = 0
        /// Bytes; see `SlabPool.cutSize`.
        var cutSize = 0
        /// Whether the kernel was told that huge pages are welcome.
        var isHuge = false
        var budget: MemoryBudget?
    }

    /// Plain regions by default: 16 GiB of them, and a quarter of the mappings that Linux allows a
    /// process.
    private static let plainMax = 8192
    /// Regions with as many free slabs each that are looked at for a run.
    fileprivate static let looksMax = 8

    private let state = Locked(State())
    private let plainMax: Int
    /// Told of the kernel mappings: one for each region, and two more for a plain one, which lies
    /// between others.
    var budget: MemoryBudget? {
        get { state.withLock { $0.budget } }
        set { state.withLock { $0.budget = newValue } }
    }

    /// - Parameter plainMax: Regions without huge pages among those with them.
    init(plainMax: Int = SlabPool.plainMax) { self.plainMax = plainMax }

    deinit {
        state.withLock { state in state.forEachRegion { _ = $0.unmap() } }
    }

    /// Bytes of all regions.
    var mappedSize: Int { state.withLock { $0.regionCount * Region.size } }

    /// Bytes of slabs that were taken one by one, to be cut, or that came back and may be in memory
    /// all the same.
    var cutSize: Int { state.withLock { $0.cutSize } }

    /// Slabs that are not free.
    var usedCount: Int { state.withLock { $0.regionCount * Region.slabCount - $0.freeCount } }

    /// Checks that lists, bits and counts tell the same, while no slab is being given back.
    func checkInvariants() { state.withLock { $0.checkInvariants() } }

    /// A slab of zeros, of a region with few others; nil: no memory.
    func take() -> Slab? {
        state.withLock { state -> Slab? in
            let fullest = state.lists.dropFirst().first { $0 != nil } ?? nil
            guard let region = fullest ?? state.addRegion() else {
                return nil
            }
            let index = region.state.pointee.free.trailingZeroBitCount
            state.take(region, 1 << index)
            let slab = Slab(region: region, index: index)
            state.cutSize += slab.size
            return slab
        }
    }

    /// Memory for `count` slabs in one piece, zeros.
    func takeRun(_ count: Int) -> UnsafeMutableRawPointer? {
        state.withLock { state -> UnsafeMutableRawPointer? in
            guard let region = state.regionWithRun(count) ?? state.addRegion(),
                let index = region.firstRun(count)
            else { return nil }
            state.take(region, SlabPool.bits(index, count))
            return Slab(region: region, index: index).start
        }
    }

    /// Takes back what `takeRun` gave.
    func giveRun(_ start: UnsafeMutableRawPointer, _ count: Int) {
        // With the memory behind it: most will soon be wanted again.
        memset(start, 0, count * Slab.sizeMax)
        let first = Slab(of: start)
        state.withLock { $0.give(first.region, SlabPool.bits(first.index, count)) }
    }

    private static func bits(_ first: Int, _ count: Int) -> UInt32 { ((1 << count) - 1) << first }

    /// Takes a slab back, and gives its memory to the kernel, with its region if that is empty.
    func give(_ slab: Slab) {
        // First, lest a huge page comes right after.
        state.withLock { $0.beginReturn(slab, plainMax) }
        // It has to read as zeros when it is taken again.
        if !smalloc_return_pages(slab.start, slab.size) {
            memset(slab.start, 0, slab.size)
            state.withLock { $0.failReturn(slab) }
        }
        let empty = state.withLock { state -> Region? in
            state.give(slab.region, 1 << slab.index)
            return state.removeEmptyRegion()
        }
        guard let empty else { return }
        if empty.unmap() {
            budget?.unchargeMappings(1)
        } else {
            state.withLock { $0.keepEmptyRegion(empty) }
        }
    }
}

// MARK: Under the lock

extension SlabPool.State {
    func forEachRegion(_ body: (Region) -> Void) {
        for first in lists {
            var next = first
            while let region = next {
                next = region.state.pointee.next
                body(region)
            }
        }
    }

    private mutating func link(_ region: Region) {
        let count = region.freeCount
        region.state.pointee.previous = nil
        region.state.pointee.next = lists[count]
        if let next = lists[count] { next.state.pointee.previous = region }
        lists[count] = region
    }

    private mutating func unlink(_ region: Region) {
        let (next, previous) = (region.state.pointee.next, region.state.pointee.previous)
        if let next { next.state.pointee.previous = previous }
        if let previous {
            previous.state.pointee.next = next
        } else {
            lists[region.freeCount] = next
        }
    }

    mutating func addRegion() -> Region? {
        guard budget?.chargeMappings(1) ?? true else { return nil }
        guard let region = Region.map() else {
            budget?.unchargeMappings(1)
            return nil
        }
        // A daemon with little in it stays small: huge pages are for where there is more.
        if regionCount > 0 {
            if !isHuge { forEachRegion { if !$0.state.pointee.isPlain { $0.welcome(huge: true) } } }
            isHuge = true
            region.welcome(huge: true)
        }
        add(region, returned: 0)
        return region
    }

    private mutating func add(_ region: Region, returned: UInt32) {
        region.state.initialize(to: Region.State(free: Region.allSlabs, returned: returned))
        regionCount += 1
        freeCount += Region.slabCount
        link(region)
    }

    /// A region with that many free slabs of one size in a row, rather one with few others.
    func regionWithRun(_ count: Int) -> Region? {
        for first in lists.dropFirst(count) {
            var next = first
            for _ in 0..<SlabPool.looksMax {
                guard let region = next else { break }
                if region.firstRun(count) != nil { return region }
                next = region.state.pointee.next
            }
        }
        return nil
    }

    /// Takes free slabs, which are not counted as cut by this.
    mutating func take(_ region: Region, _ bits: UInt32) {
        unlink(region)
        let state = region.state
        if !state.pointee.isPlain { cutSize -= Slab.size(state.pointee.returned & bits) }
        state.pointee.free &= ~bits
        state.pointee.returned &= ~bits
        freeCount -= bits.nonzeroBitCount
        if state.pointee.isPlain, state.pointee.returned == 0 {
            state.pointee.isPlain = false
            plainCount -= 1
            budget?.unchargeMappings(2)
            if isHuge { region.welcome(huge: true) }
        }
        link(region)
    }

    /// A slab that is not free yet is about to be given back to the kernel.
    mutating func beginReturn(_ slab: Slab, _ plainMax: Int) {
        let state = slab.region.state
        // Later a huge page may be there already, and what was given back before in it.
        if !state.pointee.isPlain, state.pointee.returned == 0, plainCount < plainMax,
            budget?.chargeMappings(2) ?? true
        {
            if slab.region.welcome(huge: false) {
                state.pointee.isPlain = true
                plainCount += 1
            } else {
                budget?.unchargeMappings(2)
            }
        }
        state.pointee.returned |= 1 << slab.index
        if state.pointee.isPlain { cutSize -= slab.size }
    }

    /// The kernel did not take a slab's memory: it is there, so what was given back of its region
    /// counts as cut, as that of a region with huge pages does.
    mutating func failReturn(_ slab: Slab) {
        let state = slab.region.state
        guard state.pointee.isPlain else { return }
        state.pointee.isPlain = false
        plainCount -= 1
        budget?.unchargeMappings(2)
        cutSize += Slab.size(state.pointee.returned)
    }

    mutating func give(_ region: Region, _ bits: UInt32) {
        unlink(region)
        region.state.pointee.free |= bits
        freeCount += bits.nonzeroBitCount
        link(region)
    }

    /// Parts with a region of which nothing is in use, to be unmapped.
    mutating func removeEmptyRegion() -> Region? {
        guard let region = lists[Region.slabCount] else { return nil }
        unlink(region)
        regionCount -= 1
        freeCount -= Region.slabCount
        if region.state.pointee.isPlain {
            plainCount -= 1
            budget?.unchargeMappings(2)
        } else {
            cutSize -= Slab.size(region.state.pointee.returned)
        }
        if regionCount == 0 { isHuge = false }
        return region
    }

    func checkInvariants() {
        var (regions, plain, free, counted) = (0, 0, 0, 0)
        for (count, first) in lists.enumerated() {
            var next = first
            var previous: Region?
            while let region = next {
                let state = region.state.pointee
                precondition(region.freeCount == count, "a region is in the list of its number")
                precondition(state.previous?.start == previous?.start, "linked both ways")
                regions += 1
                plain += state.isPlain ? 1 : 0
                free += count
                counted += state.isPlain ? 0 : Slab.size(state.returned)
                (previous, next) = (region, state.next)
            }
        }
        precondition(regions == regionCount && free == freeCount, "regions and slabs are counted")
        precondition(plain == plainCount, "plain regions are counted")
        precondition(counted <= cutSize, "what may be in memory is counted")
    }

    /// Takes back a region that can't be unmapped, and counts what the kernel may make of it.
    mutating func keepEmptyRegion(_ region: Region) {
        add(region, returned: Region.allSlabs)
        cutSize += Slab.size(Region.allSlabs)
    }
}
