// Memory that small reads are received into while their tasks wait.

internal import Synchronization

/// Blocks of one size, which belong to a request until its task has what was read.
///
/// An array can't be received into across a suspension, and a block from malloc would make a read
/// of 64 bytes 5 % dearer (160 instructions of 3,100).
final class RoomPool: @unchecked Sendable {
    /// Bytes of a block.
    private let size: Int
    /// Blocks to be taken, under the link's lock.
    ///
    /// Each begins with the address of the next one.
    @exclusivity(unchecked) private var free: UnsafeMutableRawPointer?
    /// Blocks that were given back, by their addresses; 0 for none.
    ///
    /// Tasks add to them without a lock, and they are taken out all at once.
    private let returned = Atomic<UInt>(0)

    init(size: Int) { self.size = size }

    deinit {
        for first in [
            free, UnsafeMutableRawPointer(bitPattern: returned.load(ordering: .acquiring)),
        ] {
            var next = first
            while let block = next {
                next = block.load(as: UnsafeMutableRawPointer?.self)
                block.deallocate()
            }
        }
    }

    /// Takes a block, under the link's lock.
    @inline(__always)
    func take() -> UnsafeMutableRawPointer {
        if free == nil {
            free = UnsafeMutableRawPointer(
                bitPattern: returned.exchange(0, ordering: .acquiring))
        }
        guard let block = free else { return .allocate(byteCount: size, alignment: 16) }
        free = block.load(as: UnsafeMutableRawPointer?.self)
        return block
    }

    /// Gives a block back; from any thread, without the lock.
    @inline(__always)
    func giveBack(_ block: UnsafeMutableRawPointer) {
        var first = returned.load(ordering: .relaxed)
        while true {
            block.storeBytes(of: first, as: UInt.self)
            let (isDone, present) = returned.weakCompareExchange(
                expected: first, desired: UInt(bitPattern: block),
                successOrdering: .releasing, failureOrdering: .relaxed)
            if isDone { return }
            first = present
        }
    }
}
