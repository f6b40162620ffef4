// Data of a batch of replies that leaves straight from the allocations, in one system call with
// what was copied, instead of being copied first.

internal import Glibc
internal import SmallocSystem

/// Pieces of allocations that belong between the bytes of a loop's output.
///
/// Each allocation is locked from `take` until the pieces have left, so that what leaves is of one
/// moment. Only the first lock is waited for, and nothing else is begun while there are pieces: two
/// loops can't wait for each other. Empty between sessions.
public final class Gathered {
    private struct Piece {
        let allocation: Allocation
        let bytes: UnsafeRawBufferPointer
        /// Bytes of output that leave before it.
        let outputBefore: Int
    }

    /// Fewer bytes are copied: a piece costs a system call about as much as to copy so many.
    static let pieceSizeMin = 2 << 10
    /// Pieces at once.
    public static let piecesMax = 32
    /// Views that a batch can come to: output and pieces in turn.
    public static let viewsMax = 2 * piecesMax + 1

    private let pieces: UnsafeMutablePointer<Piece>
    // Touched by the loop's thread alone, by no method from within another.
    @exclusivity(unchecked) private var count = 0
    /// Bytes of all pieces.
    @exclusivity(unchecked) public private(set) var size = 0
    /// Bytes of pieces that are enough; one alone may be larger, since it is of one moment.
    @exclusivity(unchecked) public var sizeMax = Int.max

    init() { pieces = .allocate(capacity: Gathered.piecesMax) }

    deinit { pieces.deallocate() }

    /// Whether there are none.
    @inline(__always)
    public var isEmpty: Bool { count == 0 }

    /// Locks an allocation for a piece of it.
    ///
    /// - Parameters:
    ///   - size: Bytes of the piece.
    ///   - batchMax: Bytes of pieces that are enough besides `sizeMax`.
    /// - Returns: False if there are pieces already and either it would be too many with this one,
    ///   or this one is locked, perhaps by one of them: the batch has to leave first.
    @inline(__always)
    func take(_ allocation: Allocation, size: Int, batchMax: Int) -> Bool {
        if count == 0 {
            allocation.lock.lock()
            return true
        }
        return count < Gathered.piecesMax && self.size &+ size <= min(batchMax, sizeMax)
            && allocation.lock.tryLock()
    }

    /// Adds a piece of an allocation that was taken, behind what the output holds.
    @inline(__always)
    func append(_ allocation: Allocation, _ bytes: UnsafeRawBufferPointer, _ outputBefore: Int) {
        (pieces + count).initialize(
            to: Piece(allocation: allocation, bytes: bytes, outputBefore: outputBefore))
        count += 1
        size += bytes.count
    }

    /// Calls back with the output's bytes and the pieces, in the order in which they leave.
    public func forEachView(
        _ output: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
    ) {
        var done = 0
        for index in 0..<count {
            let piece = pieces[index]
            if piece.outputBefore > done {
                body(UnsafeRawBufferPointer(rebasing: output[done..<piece.outputBefore]))
                done = piece.outputBefore
            }
            body(piece.bytes)
        }
        if output.count > done { body(UnsafeRawBufferPointer(rebasing: output[done...])) }
    }

    /// A copy of all but the first `sent` bytes, to be deallocated by the caller.
    public func copy(
        _ output: UnsafeRawBufferPointer, droppingFirst sent: Int
    ) -> UnsafeMutableRawBufferPointer {
        let rest = UnsafeMutableRawBufferPointer.allocate(
            byteCount: output.count + size - sent, alignment: 16)
        var skip = sent
        var at = 0
        forEachView(output) { view in
            let dropped = min(skip, view.count)
            skip -= dropped
            let left = UnsafeRawBufferPointer(rebasing: view[dropped...])
            UnsafeMutableRawBufferPointer(rebasing: rest[at...]).copyMemory(from: left)
            at += left.count
        }
        return rest
    }

    /// The pieces have left or were copied: unlocks them all.
    public func release() {
        for index in 0..<count { pieces[index].allocation.lock.unlock() }
        count = 0
        size = 0
    }
}
