// Seals the file of an allocation that clients map, so that no process can write to it any more:
// safe publication, for producers that fill an array once and consumers that need not trust them.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import SmallocWire

/// The freezing of one allocation, which is flagged as frozen and as being frozen, and pinned.
///
/// Requests go on reading it; those that would write are answered `busy` meanwhile. Used by one
/// thread at a time, as its `Work` is.
final class Freezing {
    private let mappings: MappingPool
    private let events: EventRing
    /// An earlier one could not make the memory what it was, and some of it is for reading only.
    private let wasFrozen: Bool
    /// When it is tried no more; nil: it has not begun.
    private var deadline: UInt64?
    /// The last of what was on its way back to the kernel when it began.
    private var lastNumber: UInt64 = 0
    /// Bytes from the start that are mapped for reading only.
    private var mapped = 0
    private var isDone = false
    /// Why it can't be.
    private(set) var error: SmallocError?

    init(_ mappings: MappingPool, _ events: EventRing, wasFrozen: Bool) {
        self.mappings = mappings
        self.events = events
        self.wasFrozen = wasFrozen
    }

    /// Too many others wait: it is not tried.
    func refuse() { error = .busy }

    /// Tries it once.
    ///
    /// The kernel refuses the seal at once where a process has the memory mapped for writing. Where
    /// one only has a page in hand (a fault or a system call under way, a page in a pipe) it waits
    /// for that for 150 milliseconds, and then refuses: such pages come and go, so it is tried
    /// again.
    ///
    /// Cost: about as long as the kernel takes to map the memory anew.
    ///
    /// - Returns: Whether there is nothing left to do; else to be called again.
    func run(_ allocation: Allocation) -> Bool {
        guard let record = allocation.record, let base = record.base else {
            isDone = true
            return true
        }
        let (file, size) = (record.descriptor, record.madeSize)
        let now = Clock.now
        if deadline == nil { lastNumber = mappings.lastNumber }
        let end = deadline ?? now + Thresholds.freezingTimeMax
        deadline = end
        // What a truncate has just cut off can't be given back any more once it is sealed.
        if record.sharing.contains(.cut), !mappings.isDrained(lastNumber) {
            if now >= end { return fail(.busy, allocation) }
            usleep(1000)
            return false
        }
        // Also what is not charged: a part that is mapped for writing stands in the way.
        if mapped < size { mapped = map(file, base, 0..<size, isWritable: false) }
        guard mapped == size else { return fail(.outOfMemory, allocation) }
        if smalloc_file_freeze(file) {
            finish(allocation, isFrozen: true)
            return true
        }
        guard errno == EBUSY else { return fail(.outOfMemory, allocation) }
        // No other process can have it mapped for writing: it is a page.
        if now < end, !isMappedForWriting(allocation, file) { return false }
        return fail(.busy, allocation)
    }

    /// Under the lock, as all that opens the file: the lease that asks would refuse a `map`, and
    /// look like a holder to a `stat`.
    private func isMappedForWriting(_ allocation: Allocation, _ file: Int32) -> Bool {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        return !(0...1).contains(smalloc_file_holders(file))
    }

    /// It can't be: the memory becomes as it was, as far as the kernel lets it.
    ///
    /// - Returns: True.
    private func fail(_ error: SmallocError, _ allocation: Allocation) -> Bool {
        self.error = error
        guard let record = allocation.record, let base = record.base else { return true }
        let file = record.descriptor
        var isWritable = mapped == 0 && !wasFrozen
        // A client's seal can forbid new writable mappings: then it stays as it is, and no request
        // writes any more.
        if smalloc_file_is_writable(file) {
            let end = map(file, base, 0..<mapped, isWritable: true)
            isWritable = end == mapped && (!wasFrozen || mapped == record.madeSize)
            // What a kernel may have taken away when it refused is put back for reading.
            if end < mapped { _ = map(file, base, end..<mapped, isWritable: false) }
        }
        finish(allocation, isFrozen: false, isWritable: isWritable)
        return true
    }

    /// - Parameter isWritable: With a part that can't be mapped for writing again, no request may
    ///   write.
    private func finish(_ allocation: Allocation, isFrozen: Bool, isWritable: Bool = false) {
        isDone = true
        guard let record = allocation.record else { return }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        record.sharing.remove(.freezing)
        if isWritable { allocation.flags.remove(.frozen) }
        if isFrozen {
            record.sharing.insert(.sealed)
            mappings.shares?.state.raise(.frozen, of: record.slot)
            if !allocation.isAnonymous, !allocation.flags.contains(.disposed) {
                events.add(.frozen, allocation.name)
            }
        }
    }

    /// Maps memory anew, in slices.
    ///
    /// - Returns: Bytes from the start that are.
    private func map(
        _ file: Int32, _ base: UnsafeMutableRawPointer, _ range: Range<Int>, isWritable: Bool
    ) -> Int {
        for at in stride(from: range.lowerBound, to: range.upperBound, by: slice) {
            let size = min(slice, range.upperBound - at)
            guard smalloc_file_replace(file, at, base + at, size, isWritable) else { return at }
        }
        return range.upperBound
    }

    private var slice: Int { Thresholds.returnSliceSize }

    /// Ends it, done or not.
    ///
    /// Cost: between two tries that of mapping the memory anew.
    func end(_ allocation: Allocation) {
        // Nobody waits for it any more.
        if !isDone { _ = fail(.busy, allocation) }
        if let cut = allocation.unpin(mappings, writes: false) { mappings.give(forGood: cut) }
    }
}
