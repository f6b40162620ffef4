// What truncate cuts off a large allocation, and what dispose leaves of one to which others have
// handles, goes back to the system, in whole pages, as soon as nobody can be in the middle of
// moving it.

internal import SmallocSystem
internal import SmallocWire

/// Transfers and work move bytes without the lock, where the memory was when they began. Until they
/// end they pin it: what is cut off meanwhile stays mapped, and charged, and goes with the last of
/// them. Whoever holds the lock needs no pin: `size` says how far one may go.
extension Allocation {
    /// Transfers and work under way.
    private(set) var pins: Int {
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
        // With the last reference all of it goes, and in one piece.
        return isUnshared ? nil : takeCut(mappings)
    }

    /// From here on the allocation is gone for everybody.
    ///
    /// Under the lock. Who still has a handle to it need not know, and may keep it for days: so its
    /// memory is cut off, as by a truncate to nothing, unless the caller is the last user and
    /// `destroy` comes next.
    ///
    /// - Parameter ownReferences: Those that the caller gives back at once.
    /// - Returns: As `takeCut`.
    func endForAll(_ mappings: MappingPool, ownReferences: UInt64 = 1) -> Mapping? {
        flags.insert(.disposed)
        guard flags.contains(.mapped), referenceCount > ownReferences else { return nil }
        size = 0
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
        let size = capacity - kept
        return Mapping(base: data + kept, capacity: size, madeSize: size, isTail: true)
    }
}
