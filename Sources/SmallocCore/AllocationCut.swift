// What truncate cuts off a large allocation goes back to the system, in whole pages, as soon as
// nobody can be in the middle of moving it.

internal import SmallocWire

/// Transfers and work move bytes without the lock, where the memory was when they began. Until they
/// end they pin it: what is cut off meanwhile stays mapped, and charged, and goes with the last of
/// them. Whoever holds the lock needs no pin: `size` says how far one may go.
extension Allocation {
    /// Transfers and work under way.
    private var pins: Int {
        get { mappingPlace.load(fromByteOffset: 24, as: Int.self) }
        nonmutating set { mappingPlace.storeBytes(of: newValue, toByteOffset: 24, as: Int.self) }
    }

    /// Keeps the memory where it is, as far as it reaches now, until `unpin`.
    ///
    /// Under the lock, with a reference.
    func pin() {
        if flags.contains(.mapped) { pins += 1 }
    }

    /// Ends a `pin`.
    ///
    /// - Returns: What was cut off meanwhile, as `takeCut`.
    func unpin(_ mappings: MappingPool) -> Mapping? {
        lock.lock()
        defer { lock.unlock() }
        guard flags.contains(.mapped) else { return nil }
        pins -= 1
        return takeCut(mappings)
    }

    /// Parts with the whole pages behind `size`, unless they are pinned.
    ///
    /// Under the lock. They are the caller's to give back to the pool.
    func takeCut(_ mappings: MappingPool) -> Mapping? {
        guard flags.contains(.mapped), pins == 0 else { return nil }
        // A page at least, so that `data` always points to memory of our own.
        let kept = max(mappings.capacity(for: Int(size)), mappings.pageSize)
        let capacity = mappingCapacity
        guard kept < capacity else { return nil }
        mappingPlace.storeBytes(of: kept, toByteOffset: 8, as: Int.self)
        cutDirty(to: kept)
        return Mapping(base: data + kept, capacity: capacity - kept)
    }
}
