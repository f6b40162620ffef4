// What takes too long for a loop: done slice by slice on threads that may be held up, and answered
// when it is done.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// A copy or fill of more than 1 MiB, or the wiping of memory that a request waits for.
///
/// Keeps its progress, so that others get their turn between slices, and so that a stop need not
/// wait for gigabytes. Holds references to its allocations; ended by `Registry.end`, once.
///
/// Used by one thread at a time: those that run its slices, in turn, and its loop's between them.
public final class Work: @unchecked Sendable {
    enum Kind {
        case copy(dest: Extent, source: Extent)
        case fill(dest: Extent, pattern: Pattern)
        /// Wipes what is left of another allocation's bytes; then the request is served once more.
        case wipe
        /// Gives the allocation memory that clients can map; then the request is served once more.
        case promote(Promotion)
        /// Makes the allocation's bytes unchangeable.
        case freeze(Freezing)
    }

    let kind: Kind
    /// Bytes.
    let size: Int
    let allocations: (Allocation?, Allocation?)
    private let sliceSize: Int
    /// Bytes that are done.
    private var done = 0
    private var yielding: Yielding

    /// Takes over the caller's references; under the locks of the allocations, if it moves bytes.
    ///
    /// A copy's first allocation is its source, a fill's its dest.
    ///
    /// - Parameter sliceSize: Bytes; a fill's slice ends with a whole pattern.
    init(
        kind: Kind, size: Int, allocations: (Allocation?, Allocation?),
        sliceSize: Int = Thresholds.workSliceSize, yielding: Yielding = Yielding()
    ) {
        self.kind = kind
        self.size = size
        self.allocations = allocations
        self.sliceSize = sliceSize
        self.yielding = yielding
        if isPinning {
            allocations.0?.pin(writes: writes(0))
            allocations.1?.pin(writes: writes(1))
        }
    }

    /// Whether it changes bytes of the allocation: of the last one.
    func writes(_ index: Int) -> Bool { isPinning && index == (allocations.1 == nil ? 0 : 1) }

    /// Whether the kernel may hold the thread up, as long as clients have pages in hand.
    public var isFreeze: Bool { if case .freeze = kind { true } else { false } }

    /// Has a freeze end as `busy` instead of being run.
    public func refuse() {
        if case .freeze(let freezing) = kind { freezing.refuse() }
    }

    private let abandoned = Atomic<Bool>(false)

    /// Whether its slices move bytes without the lock.
    var isPinning: Bool {
        switch kind {
        case .copy, .fill: true
        case .wipe, .promote, .freeze: false
        }
    }

    /// Whether the request that it was for is to be served once more, and not answered after it.
    var servesAgain: Bool {
        switch kind {
        case .wipe, .promote: true
        case .copy, .fill, .freeze: false
        }
    }

    /// What went wrong, if it is done and anything did.
    var error: SmallocError? {
        switch kind {
        case .promote(let promotion): promotion.error
        case .freeze(let freezing): freezing.error
        case .copy, .fill, .wipe: nil
        }
    }

    /// Its connection is gone, or the daemon stops.
    ///
    /// From any thread.
    public func abandon() { abandoned.store(true, ordering: .relaxed) }

    /// Whether `abandon` was called.
    public var isAbandoned: Bool { abandoned.load(ordering: .relaxed) }

    /// Does the next slice.
    ///
    /// - Returns: Whether that was the last one; else to be called again, after others.
    public func run() -> Bool {
        switch kind {
        case .copy(let dest, let source):
            guard let target = begin(1, dest, .modify) else { return false }
            guard let start = begin(0, source, .read) else {
                endSlice(1)
                return false
            }
            inSteps { copyStep(target, start, $0) }
            endSlice(0)
            endSlice(1)
        case .fill(let dest, let pattern):
            guard let target = begin(0, dest, .modify) else { return false }
            inSteps { fillStep(target, pattern, $0) }
            endSlice(0)
        case .wipe: return wipeSlice()
        case .promote(let promotion):
            guard let allocation = allocations.0 else { return true }
            return promotion.run(allocation, steps: sliceSize / Yielding.stepSize)
        case .freeze(let freezing):
            guard let allocation = allocations.0 else { return true }
            return freezing.run(allocation)
        }
        return done == size
    }

    /// Where the bytes are for this slice: a promotion may have moved them.
    ///
    /// - Returns: Nil: they are being moved, by steps of some hundred microseconds.
    private func begin(
        _ index: Int, _ extent: Extent, _ intent: Intent
    ) -> UnsafeMutableRawPointer? {
        guard let allocation = index == 0 ? allocations.0 : allocations.1 else { return nil }
        allocation.lock.lock()
        // They are pinned, and were at hand when the request was checked.
        guard !allocation.isMoving, case .here(let start) = allocation.access(extent, intent) else {
            allocation.lock.unlock()
            usleep(100)
            return nil
        }
        allocation.beginWork()
        allocation.lock.unlock()
        return start
    }

    private func endSlice(_ index: Int) {
        guard let allocation = index == 0 ? allocations.0 : allocations.1 else { return }
        allocation.lock.lock()
        allocation.endWork()
        allocation.lock.unlock()
    }

    /// Moves the bytes of a slice by steps of at most so many.
    private func inSteps(_ step: (Int) -> Int) {
        let end = min(size, done + sliceSize)
        while done < end {
            done += step(min(Yielding.stepSize, end - done))
            yielding.yieldIfWorthIt()
        }
    }

    /// As `memmove` would, in steps: from the end where the dest lies behind the source, so that
    /// no step overwrites what a later one has to read.
    ///
    /// - Returns: Bytes done.
    private func copyStep(
        _ dest: UnsafeMutableRawPointer, _ source: UnsafeRawPointer, _ count: Int
    ) -> Int {
        let distance = UnsafeRawPointer(dest) - source
        if distance == 0 { return size - done }
        let isBackward = distance > 0 && distance < size
        let start = isBackward ? size - done - count : done
        if size >= Thresholds.streamedSizeMin, abs(distance) >= count {
            smalloc_copy_streaming(dest + start, source + start, count)
        } else {
            memmove(dest + start, source + start, count)
        }
        return count
    }

    /// - Returns: Bytes done: whole patterns.
    private func fillStep(
        _ dest: UnsafeMutableRawPointer, _ pattern: Pattern, _ count: Int
    ) -> Int {
        let whole = max(1, count / pattern.size) * pattern.size
        pattern.fillStep(dest + done, whole)
        return whole
    }

    /// Wipes in steps, each under the lock, until none is left but what a piece under way covers.
    private func wipeSlice() -> Bool {
        guard let allocation = allocations.0 else { return true }
        for _ in 0..<sliceSize / Yielding.stepSize {
            allocation.lock.lock()
            let isDone = allocation.wipeStale(Yielding.stepSize)
            allocation.lock.unlock()
            if isDone { return true }
            yielding.yieldIfWorthIt()
        }
        return false
    }
}
