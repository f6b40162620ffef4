// How much data is moved by a mapping for async code: by the rules of the blocking face, and in
// slices, between which other tasks have the thread.

internal import SmallocWire

extension AsyncAllocation {
    /// Bytes that are copied before other tasks have their turn.
    ///
    /// They take 60 to 120 microseconds, a millisecond where pages are touched for the first time.
    /// To yield costs up to 17; with slices of a quarter of this, moving 64 MiB took 1.4 times as
    /// long.
    private static var sliceSize: Int { 1 << 20 }

    /// Moves bytes by a mapping, if they are many and one is to be had.
    ///
    /// - Parameters:
    ///   - offset: Where they begin, within what is known of the allocation.
    ///   - copy: Moves one slice: what is mapped of it, and where it begins in the caller's memory.
    /// - Returns: Whether they have been moved. Else they go by the socket, all of them, which also
    ///   tells what is wrong with them.
    /// - Throws: `.cancelled`, which may leave a part written.
    func moveByMapping(
        _ offset: UInt64, _ size: Int, writes: Bool,
        _ copy: @Sendable (UnsafeMutableRawBufferPointer, Int) -> Void
    ) async throws(SmallocError) -> Bool {
        guard let memory = try await mapped(size, writes: writes),
            remote.owner.link.mayBypass(for: remote)
        else { return false }
        return try await move(memory, offset, size, writes: writes, copy)
    }

    /// Moves them slice by slice.
    ///
    /// Not on the caller's actor, which it would keep from its other tasks.
    ///
    /// - Returns: Whether all of it is there still.
    @concurrent
    private func move(
        _ memory: MappedMemory, _ offset: UInt64, _ size: Int, writes: Bool,
        _ copy: @Sendable (UnsafeMutableRawBufferPointer, Int) -> Void
    ) async throws(SmallocError) -> Bool {
        var done = 0
        while done < size {
            if Task.isCancelled { throw .cancelled }
            // It may have been disposed of, truncated or frozen.
            guard memory.holds(offset, size, writes: writes) else { return false }
            let part = min(size - done, AsyncAllocation.sliceSize)
            copy(
                UnsafeMutableRawBufferPointer(
                    start: memory.base + Int(offset) + done, count: part), done)
            done += part
            if done < size { await Task.yield() }
        }
        // What was truncated meanwhile has been read as zeros.
        return writes || memory.holds(offset, size, writes: false)
    }

    /// The mapping by which a transfer goes; nil: it goes by the socket.
    private func mapped(_ size: Int, writes: Bool) async throws(SmallocError) -> MappedMemory? {
        guard link.maps, link.options.mapsLargeTransfers else { return nil }
        switch remote.way(ofTransfer: size, writes: writes) {
        case .bySocket: return nil
        case .byMapping(let memory): return memory
        case .byNewMapping:
            do throws(SmallocError) {
                let made = try await link.map(
                    remote, writable: writes, populate: false, isInherited: false)
                remote.mapped(made, writes: writes)
                return made
            } catch {
                if error.status == .cancelled {
                    remote.endMapping()
                    throw error
                }
                remote.mapped(nil, writes: writes)
                return nil
            }
        }
    }
}
