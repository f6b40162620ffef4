// Large memory, as the kernel hands it out and takes it back.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem

/// Page-aligned memory of the kernel's.
///
/// Zero beyond `writtenSize`.
struct Mapping: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    /// Bytes, a multiple of the page size.
    let capacity: Int
    /// Bytes from the start that may be other than zero.
    var writtenSize = 0
    /// How it is given back.
    var kind = StorageRecord.Kind.tail
    /// Whether its bytes stop counting once they are given back.
    var isCharged = true

    /// Bytes that stop counting then.
    var charge: Int { isCharged ? capacity : 0 }

    /// Fresh memory of its own, or nil if the kernel refuses it.
    static func map(_ capacity: Int) -> UnsafeMutableRawPointer? {
        // Aligned for huge pages: the first touch of 4 KiB pages is what makes large memory slow.
        let start = smalloc_map_aligned(capacity, SystemMemory.hugePageSize)
        // Without them it is slow, and right.
        if let start { _ = smalloc_welcome_huge(start, capacity, true) }
        return start
    }

    /// Gives back what was cut off: its pages, and its addresses if it has them.
    ///
    /// - Returns: False: the kernel refuses some of it.
    func giveBack() -> Bool {
        switch kind {
        case .mappingTail: return Mapping.unmap(base, capacity) == 0
        case .memfdTail: return Mapping.removePages(base, capacity)
        default: return Mapping.returnPages(base, capacity)
        }
    }

    /// Makes memory zero in steps.
    ///
    /// - Parameter pause: Called after each.
    static func wipe(_ start: UnsafeMutableRawPointer, _ size: Int, pause: () -> Void = {}) {
        for offset in stride(from: 0, to: size, by: Yielding.stepSize) {
            memset(start + offset, 0, min(Yielding.stepSize, size - offset))
            pause()
        }
    }

    /// Gives pages of shared memory back and keeps the addresses, in slices.
    ///
    /// - Parameter pause: Called after each.
    /// - Returns: False: the kernel refuses some of it, as it does where a client has sealed it.
    static func removePages(
        _ start: UnsafeMutableRawPointer, _ size: Int, pause: () -> Void = {}
    ) -> Bool {
        for offset in stride(from: 0, to: size, by: Thresholds.returnSliceSize) {
            let slice = min(Thresholds.returnSliceSize, size - offset)
            guard smalloc_remove_pages(start + offset, slice) else { return false }
            pause()
        }
        return true
    }

    /// Gives pages back and keeps the addresses, in slices.
    ///
    /// - Parameter pause: Called after each.
    /// - Returns: False: the kernel refuses some of it.
    static func returnPages(
        _ start: UnsafeMutableRawPointer, _ size: Int, pause: () -> Void = {}
    ) -> Bool {
        var areGone = true
        for offset in stride(from: 0, to: size, by: Thresholds.returnSliceSize) {
            let isDone = smalloc_return_pages(
                start + offset, min(Thresholds.returnSliceSize, size - offset))
            areGone = areGone && isDone
            pause()
        }
        return areGone
    }

    /// Gives addresses back with their pages, in slices, the last one first.
    ///
    /// - Parameter pause: Called after each.
    /// - Returns: Bytes from the start that the kernel refuses to take back; 0 if all are gone.
    static func unmap(
        _ start: UnsafeMutableRawPointer, _ size: Int, pause: () -> Void = {}
    ) -> Int {
        var left = size
        while left > 0 {
            let slice = (left - 1) % Thresholds.returnSliceSize + 1
            guard smalloc_unmap(start + (left - slice), slice) else { return left }
            left -= slice
            pause()
        }
        return 0
    }
}
