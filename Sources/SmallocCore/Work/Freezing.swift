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
    private var isDone = false
    /// Why it can't be.
    private(set) var error: SmallocError?

    init(_ mappings: MappingPool) { self.mappings = mappings }

    /// Does all of it.
    ///
    /// Cost: about as long as the kernel takes to map the memory anew; some 160 milliseconds more
    /// where another process has a system call under way on it.
    ///
    /// - Returns: True: there is nothing left to do.
    func run(_ allocation: Allocation) -> Bool {
        guard let record = allocation.record, let base = record.base else { return true }
        let (file, capacity) = (record.descriptor, record.capacity)
        var mapped = map(file, base, 0..<capacity, isWritable: false)
        var isFrozen = false
        if mapped == capacity {
            isFrozen = smalloc_file_freeze(file)
            if !isFrozen { error = errno == EBUSY ? .busy : .outOfMemory }
        } else {
            error = .outOfMemory
        }
        // A client's seal can forbid new writable mappings: then it stays as it is, and no request
        // writes any more.
        if !isFrozen, smalloc_file_is_writable(file) {
            let end = mapped
            mapped = map(file, base, 0..<end, isWritable: true)
            // What a kernel may have taken away when it refused is put back for reading.
            if mapped < end { _ = map(file, base, mapped..<end, isWritable: false) }
            mapped = mapped == end ? 0 : end
        }
        allocation.lock.lock()
        record.sharing.remove(.freezing)
        // With a part that can't be mapped for writing again, no request may write.
        if mapped == 0 { allocation.flags.remove(.frozen) }
        if isFrozen {
            record.sharing.insert(.sealed)
            mappings.shares?.state.raise(.frozen, of: record.slot)
        }
        allocation.lock.unlock()
        isDone = true
        return true
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
    func end(_ allocation: Allocation) {
        if !isDone {
            allocation.lock.lock()
            allocation.record?.sharing.remove(.freezing)
            allocation.flags.remove(.frozen)
            allocation.lock.unlock()
        }
        if let cut = allocation.unpin(mappings, writes: false) { mappings.give(forGood: cut) }
    }
}
