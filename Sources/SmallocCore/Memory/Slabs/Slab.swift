// A slab: memory for small blocks of one size, and what its region's header says of it.
//
//   region  2 MiB, aligned
//     0      the size class of each slab, 32 bytes, in one of 32 cache lines by the region's
//            address: were it always the same line, all regions would want one place in the cache
//     2048   what the pool knows of the region
//     2304   the chain of each slab, 1024 bytes
//     4096   slab 0, then at each multiple of 64 KiB slabs 1 to 31

/// 60 or 64 KiB of a region.
struct Slab: @unchecked Sendable {
    static let sizeMax = 64 << 10
    private static let headerSize = 4096
    private static let chainsOffset = 2304

    /// Blocks of a slab, each of which starts with the address of the next.
    struct Chain {
        var first: UnsafeMutableRawPointer?
        var last: UnsafeMutableRawPointer?
        var count = 0
        /// The start of the next slab in a list of such.
        var nextSlab: UnsafeMutableRawPointer?
    }

    /// Slabs in a list, linked through their chains: whatever their number, it takes no memory.
    struct List {
        private var first: UnsafeMutableRawPointer?

        var isEmpty: Bool { first == nil }

        mutating func push(_ slab: Slab) {
            slab.chain.pointee.nextSlab = first
            first = slab.start
        }

        mutating func pop() -> Slab? {
            guard let start = first else { return nil }
            let slab = Slab(of: start)
            first = slab.chain.pointee.nextSlab
            slab.chain.pointee.nextSlab = nil
            return slab
        }
    }

    let region: Region
    let index: Int

    /// The slab that an address is in.
    @inline(__always)
    init(of address: UnsafeMutableRawPointer) {
        let offset = Int(bitPattern: address) & (Region.size - 1)
        region = Region(start: address - offset)
        index = offset / Slab.sizeMax
    }

    init(region: Region, index: Int) {
        self.region = region
        self.index = index
    }

    var start: UnsafeMutableRawPointer {
        region.start + max(index * Slab.sizeMax, Slab.headerSize)
    }

    /// Bytes.
    var size: Int { Slab.size(1 << index) }

    /// Bytes of all slabs of a region whose bits are set.
    static func size(_ bits: UInt32) -> Int {
        bits.nonzeroBitCount * sizeMax - (bits & 1 == 0 ? 0 : headerSize)
    }

    /// A number for its owner, which is what the slab's blocks are like.
    @inline(__always)
    var sizeClass: UnsafeMutablePointer<UInt8> {
        let line = Int(bitPattern: region.start) / Region.size % Region.slabCount
        return (region.start + line * 64).assumingMemoryBound(to: UInt8.self) + index
    }

    /// Blocks that its owner's sweep has found free; empty when there is none.
    var chain: UnsafeMutablePointer<Chain> {
        (region.start + Slab.chainsOffset).assumingMemoryBound(to: Chain.self) + index
    }
}
