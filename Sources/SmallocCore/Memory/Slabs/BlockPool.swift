// Small memory: blocks of one size each, cut from slabs, without a header.
//
// For users with millions of small allocations: malloc would add 8 to 16 bytes to each, and spread
// them over the heap; here a 64-byte allocation with its name is a block of 104 bytes, and alloc
// with dispose by name costs 1,500 instructions instead of 2,690. It costs a slab or two of each
// size in use, and a sweep to find slabs whose blocks are all free.
//
// Invariant: a slab is of one size class; each block cut from it is in use or once on the list of
// its class. Free blocks keep their bytes until they are handed out again, and are wiped then.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import Synchronization

/// Hands out zeroed blocks and takes them back.
///
/// All methods from any thread. Blocks of more than `sizeMax` are malloc's.
final class BlockPool: @unchecked Sendable {
    /// Bytes of the largest block that is cut from a slab.
    static let sizeMax = 1024
    static let step = 8
    static let classCount = sizeMax / step + 1

    /// What the lock before it guards.
    struct SizeClass {
        /// Free blocks, each of which starts with the address of the next.
        var free: UnsafeMutableRawPointer?
        /// What is not cut yet of the newest slab.
        var uncut: UnsafeMutableRawPointer?
        var uncutSize = 0
    }

    /// A cache line for each size class: a lock, and from byte 8 on what it guards.
    private let classes: UnsafeMutableRawPointer
    let slabs = SlabPool()
    let isSweeping = Locked(())
    /// Told of what is free between blocks that are not, whenever a slab more is cut.
    var budget: MemoryBudget? {
        didSet { slabs.budget = budget }
    }
    private let isPlain: Bool

    /// - Parameter isPlain: Leaves everything to malloc, so that sanitizers see what is written
    ///   beyond a block, or after its end.
    init(isPlain: Bool = smalloc_is_sanitized()) {
        self.isPlain = isPlain
        classes = .allocate(byteCount: BlockPool.classCount * 64, alignment: 64)
        memset(classes, 0, BlockPool.classCount * 64)
        for index in 0..<BlockPool.classCount {
            live(index * BlockPool.step).initialize(to: Atomic(0))
        }
    }

    deinit { classes.deallocate() }

    /// Whether blocks of this size are cut from slabs.
    @inline(__always)
    func isPooled(_ size: Int) -> Bool { size <= BlockPool.sizeMax && !isPlain }

    /// The bytes that a block of this size takes, if it is cut from a slab.
    @inline(__always)
    static func capacity(for size: Int) -> Int { (size &+ (step - 1)) & -step }

    /// The bytes that a block takes which was cut from a slab.
    @inline(__always)
    static func capacity(of block: UnsafeMutableRawPointer) -> Int {
        Int(Slab(of: block).sizeClass.pointee) &* step
    }

    /// The lock and the class of blocks of `capacity` bytes.
    @inline(__always)
    func sizeClass(_ capacity: Int) -> (ByteLock, UnsafeMutablePointer<SizeClass>) {
        let line = classes + capacity &* (64 / BlockPool.step)
        return (ByteLock(line), (line + 8).assumingMemoryBound(to: SizeClass.self))
    }

    /// Blocks of `capacity` bytes in use; written under the lock of their class.
    @inline(__always)
    private func live(_ capacity: Int) -> UnsafeMutablePointer<Atomic<Int>> {
        (classes + capacity &* (64 / BlockPool.step) + 48).assumingMemoryBound(to: Atomic<Int>.self)
    }

    @inline(__always)
    private func count(_ capacity: Int, _ change: Int) {
        let live = live(capacity)
        live.pointee.store(live.pointee.load(ordering: .relaxed) &+ change, ordering: .relaxed)
    }

    /// Bytes of slabs that no block takes, and that no other size can have because some of their
    /// slab's blocks are in use.
    ///
    /// One slab of each class is not counted: no client causes it.
    var fragmentedSize: UInt64 {
        var live = 0
        for index in 1..<BlockPool.classCount {
            let capacity = index * BlockPool.step
            live += self.live(capacity).pointee.load(ordering: .relaxed) * capacity
        }
        return UInt64(max(0, slabs.cutSize - live - BlockPool.classCount * Slab.sizeMax))
    }

    /// A zeroed block of at least `size` bytes, which is more than 0; nil: no memory.
    func take(_ size: Int) -> UnsafeMutableRawPointer? {
        guard isPooled(size) else { return smalloc_allocate_zeroed(size) }
        let capacity = BlockPool.capacity(for: size)
        let (lock, own) = sizeClass(capacity)
        lock.lock()
        guard let block = own.pointee.free else {
            defer { lock.unlock() }
            return cut(own, capacity)
        }
        count(capacity, 1)
        own.pointee.free = block.load(as: UnsafeMutableRawPointer?.self)
        lock.unlock()
        memset(block, 0, capacity)
        return block
    }

    /// Takes back a block that was asked for with this size.
    func give(_ block: UnsafeMutableRawPointer, _ size: Int) {
        guard isPooled(size) else { return free(block) }
        let (lock, own) = sizeClass(BlockPool.capacity(for: size))
        lock.lock()
        block.storeBytes(of: own.pointee.free, as: UnsafeMutableRawPointer?.self)
        own.pointee.free = block
        count(BlockPool.capacity(for: size), -1)
        lock.unlock()
    }

    /// A block that was never used, from a slab that is zeros.
    ///
    /// Under the lock of the class.
    @inline(never)
    private func cut(
        _ own: UnsafeMutablePointer<SizeClass>, _ capacity: Int
    ) -> UnsafeMutableRawPointer? {
        if own.pointee.uncutSize < capacity {
            guard let slab = slabs.take() else { return nil }
            slab.sizeClass.pointee = UInt8(capacity / BlockPool.step)
            own.pointee.uncut = slab.start
            own.pointee.uncutSize = slab.size
            budget?.noteFragmented(fragmentedSize)
        }
        count(capacity, 1)
        let block = own.pointee.uncut
        own.pointee.uncut = block.map { $0 + capacity }
        own.pointee.uncutSize -= capacity
        return block
    }

    /// Checks that free blocks are blocks of their class, and no more than there can be.
    ///
    /// While no thread sweeps. Cost: a look at every free block.
    func checkInvariants() {
        slabs.checkInvariants()
        let cutSize = slabs.cutSize
        var liveSize = 0
        for index in 1..<BlockPool.classCount {
            let capacity = index * BlockPool.step
            let (lock, own) = sizeClass(capacity)
            lock.lock()
            defer { lock.unlock() }
            let live = live(capacity).pointee.load(ordering: .relaxed)
            precondition(live >= 0, "no block comes back twice")
            liveSize += live * capacity
            var left = cutSize / capacity + 1
            var next = own.pointee.free
            while let block = next {
                let slab = Slab(of: block)
                precondition(Int(slab.sizeClass.pointee) == index, "a block is of its slab's class")
                precondition((block - slab.start) % capacity == 0, "a block is cut, not torn")
                left -= 1
                precondition(left >= 0, "the list of free blocks ends")
                next = block.load(as: UnsafeMutableRawPointer?.self)
            }
            precondition(own.pointee.uncutSize >= 0, "a slab is cut to its end at most")
        }
        precondition(isPlain || liveSize <= cutSize, "what is in use was cut")
    }

    // MARK: Tables

    /// Bytes of which a large table should be a multiple.
    static var tableUnit: Int { Slab.sizeMax }

    private func isRun(_ size: Int) -> Bool {
        // Of the slabs of a region all but the first make a run.
        !isPlain && size > 0 && size % Slab.sizeMax == 0 && size < 31 * Slab.sizeMax
    }

    /// Zeros for a table that is looked into at random: slabs if they are used as a whole, else
    /// malloc's.
    func takeTable(_ size: Int) -> UnsafeMutableRawPointer? {
        isRun(size) ? slabs.takeRun(size / Slab.sizeMax) : smalloc_allocate_zeroed(size)
    }

    /// Takes back a table of that size.
    func giveTable(_ start: UnsafeMutableRawPointer, _ size: Int) {
        if isRun(size) { slabs.giveRun(start, size / Slab.sizeMax) } else { free(start) }
    }
}
