// A region of an arena: address space that is cut into slots of one size, and which of them are
// free.
//
//   0      the header: the size of the slots, how many are free, the neighbours in a list
//   128    a bit for each slot that is free
//   64 Ki  the slots
//
// The header takes one page of memory; all else is the slots'.

internal import CSmalloc

/// 64 MiB from the kernel, aligned to their size.
///
/// A value is the region's address; all else is in the region, under the lock of the arenas.
struct ArenaRegion: Equatable, @unchecked Sendable {
    static let size = 64 << 20
    static let slotsOffset = 64 << 10
    private static let bitsOffset = 128
    static let wordCount = 16

    /// What is known of a region.
    struct Header {
        var sizeClass: Int
        var slotSize: Int
        var slotCount: Int
        var freeCount: Int
        /// Of those of the same class with free slots, or of those that are free as a whole.
        var next: ArenaRegion?
        var previous: ArenaRegion?
    }

    let start: UnsafeMutableRawPointer

    /// The region that an address is in.
    init(of address: UnsafeMutableRawPointer) {
        start = address - Int(bitPattern: address) % ArenaRegion.size
    }

    var header: UnsafeMutablePointer<Header> { start.assumingMemoryBound(to: Header.self) }

    private var bits: UnsafeMutablePointer<UInt64> {
        (start + ArenaRegion.bitsOffset).assumingMemoryBound(to: UInt64.self)
    }

    /// Address space in which no page is touched; nil if the kernel refuses it.
    static func map() -> ArenaRegion? {
        guard let start = smalloc_map_aligned(size, size) else { return nil }
        // A huge page would be in memory as a whole where one of its slots is.
        guard smalloc_welcome_huge(start, size, false) else {
            _ = smalloc_unmap(start, size)
            return nil
        }
        return ArenaRegion(of: start)
    }

    /// Gives the address space back, whose slots are all free.
    ///
    /// - Returns: False: the kernel refuses it, and all is as it was.
    func unmap() -> Bool { smalloc_unmap(start, ArenaRegion.size) }

    /// Cuts the region, of which nothing is in use, into free slots.
    func cut(_ sizeClass: Int, slotSize: Int) {
        let count = (ArenaRegion.size - ArenaRegion.slotsOffset) / slotSize
        header.initialize(
            to: Header(
                sizeClass: sizeClass, slotSize: slotSize, slotCount: count, freeCount: count))
        for word in 0..<ArenaRegion.wordCount {
            let left = count - word * 64
            bits[word] = left >= 64 ? .max : left > 0 ? (1 << UInt64(left)) - 1 : 0
        }
    }

    /// A free slot, which is one no longer.
    func takeSlot() -> UnsafeMutableRawPointer? {
        for word in 0..<ArenaRegion.wordCount where bits[word] != 0 {
            let bit = bits[word].trailingZeroBitCount
            bits[word] &= bits[word] - 1
            header.pointee.freeCount -= 1
            return start + ArenaRegion.slotsOffset + (word * 64 + bit) * header.pointee.slotSize
        }
        return nil
    }

    /// Makes a slot free again.
    func giveSlot(_ slot: UnsafeMutableRawPointer) {
        let offset = slot - start - ArenaRegion.slotsOffset
        let index = offset / header.pointee.slotSize
        precondition(
            offset >= 0 && offset % header.pointee.slotSize == 0
                && index < header.pointee.slotCount, "it is the start of a slot")
        precondition(bits[index / 64] & 1 << UInt64(index % 64) == 0, "the slot is in use")
        bits[index / 64] |= 1 << UInt64(index % 64)
        header.pointee.freeCount += 1
    }

    /// Free slots by the bits.
    var freeBitCount: Int {
        (0..<ArenaRegion.wordCount).reduce(0) { $0 + bits[$1].nonzeroBitCount }
    }
}
