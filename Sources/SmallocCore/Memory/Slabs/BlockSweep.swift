// Small memory that is no longer in use: found among the free blocks, and given back.
//
// For users whose sizes change: what was one size yesterday can be another today, or large. To keep
// a count in each slab instead would cost every alloc and dispose a cache miss; a sweep costs the
// reclaiming thread a look at each free block, after much was freed or when an alloc is refused.

internal import SmallocSystem

extension BlockPool {
    /// Gives slabs whose blocks are all free back to the kernel.
    ///
    /// For a thread that may be held up: it looks at every free block. It takes all free blocks of
    /// a class off the list, and puts those of slabs in use back. A thread that finds the list
    /// empty meanwhile cuts new blocks; at the end of a slice the sweep puts the blocks of one slab
    /// back for it.
    ///
    /// - Parameter pause: Called after each slice, for what else the thread has to do; not for
    ///   another sweep.
    func sweep(pause: () -> Void = {}) {
        isSweeping.withLock { _ in
            for index in 1..<BlockPool.classCount {
                var emptied = sweep(index, pause)
                while let slab = emptied.pop() {
                    slabs.give(slab)
                    pause()
                }
            }
        }
    }

    /// Sorts the free blocks of a class by their slabs, and keeps those of slabs that are in use.
    ///
    /// - Returns: Slabs that are free as a whole.
    private func sweep(_ index: Int, _ pause: () -> Void) -> Slab.List {
        let capacity = index * BlockPool.step
        let (lock, own) = sizeClass(capacity)
        lock.lock()
        var next = own.pointee.free
        own.pointee.free = nil
        var uncut = own.pointee.uncut
        lock.unlock()
        // Those with blocks on their chains, and some that had.
        var seen = Slab.List()
        var count = 0
        while let block = next {
            next = block.load(as: UnsafeMutableRawPointer?.self)
            let slab = Slab(of: block)
            let chain = slab.chain
            if chain.pointee.count == 0 {
                chain.pointee.last = block
                seen.push(slab)
            }
            block.storeBytes(of: chain.pointee.first, as: UnsafeMutableRawPointer?.self)
            chain.pointee.first = block
            chain.pointee.count += 1
            count += 1
            guard count % Thresholds.sweepSliceCount == 0 else { continue }
            lock.lock()
            let isWanted = own.pointee.free == nil && own.pointee.uncut != uncut
            uncut = own.pointee.uncut
            lock.unlock()
            // One of these is seen again if there are more of its blocks, and not taken for free.
            if isWanted, let slab = seen.pop() { putBack(slab, lock, own) }
            pause()
        }
        var emptied = Slab.List()
        while let slab = seen.pop() {
            // A slab that is not cut to its end never gets there.
            if slab.chain.pointee.count == slab.size / capacity {
                slab.chain.pointee = Slab.Chain()
                emptied.push(slab)
            } else {
                putBack(slab, lock, own)
            }
            count += 1
            if count % Thresholds.sweepSliceCount == 0 { pause() }
        }
        return emptied
    }

    /// Puts the blocks of a slab's chain back on the list of their class.
    private func putBack(_ slab: Slab, _ lock: ByteLock, _ own: UnsafeMutablePointer<SizeClass>) {
        let chain = slab.chain.pointee
        guard let first = chain.first, let last = chain.last else { return }
        slab.chain.pointee = Slab.Chain()
        lock.lock()
        last.storeBytes(of: own.pointee.free, as: UnsafeMutableRawPointer?.self)
        own.pointee.free = first
        lock.unlock()
    }
}
