// What a client has of an allocation's memory itself: a mapping of it, and of the state memory that
// tells whether it still lives. protocol/spec.md § 3.8.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// The state memory of a daemon, mapped for reading.
final class MappedState: @unchecked Sendable {
    private let base: UnsafeMutableRawPointer
    private let size: Int
    private static let slotSize = 16
    private static let liveBit: UInt32 = 1
    private static let frozenBit: UInt32 = 2
    private static let waitersBit: UInt32 = 4

    /// Maps it by its descriptor, which may be closed then.
    ///
    /// Nil: the system refuses to map it.
    init?(_ descriptor: Int32) {
        var facts = Glibc.stat()
        guard fstat(descriptor, &facts) == 0, facts.st_size > 0,
            let start = mmap(nil, Int(facts.st_size), PROT_READ, MAP_SHARED, descriptor, 0),
            start != MAP_FAILED
        else { return nil }
        base = start
        size = Int(facts.st_size)
    }

    deinit { munmap(base, size) }

    /// Bytes of the allocation of a slot; nil: it has gone.
    ///
    /// - Parameter writes: Nil if it is frozen, too.
    func liveSize(_ slot: UInt32, _ generation: UInt32, writes: Bool = false) -> UInt64? {
        guard let word = word(slot), let state = look(slot, generation),
            !writes || state & MappedState.frozenBit == 0
        else { return nil }
        let held = (word + 8).assumingMemoryBound(to: Atomic<UInt64>.self)
        return held.pointee.load(ordering: .acquiring)
    }

    /// Where the state word of a slot is.
    func word(_ slot: UInt32) -> UnsafeMutableRawPointer? {
        let at = Int(slot) * MappedState.slotSize
        return at + MappedState.slotSize <= size ? base + at : nil
    }

    /// The state word of a slot; nil: its allocation has gone.
    func look(_ slot: UInt32, _ generation: UInt32) -> UInt32? {
        guard let word = word(slot) else { return nil }
        let state = word.assumingMemoryBound(to: Atomic<UInt32>.self).pointee
            .load(ordering: .acquiring)
        guard state >> 8 == generation & 0xFF_FFFF, state & MappedState.liveBit != 0 else {
            return nil
        }
        return state
    }

    /// Whether requests wait on the allocation of a slot.
    func hasWaiters(_ slot: UInt32, _ generation: UInt32) -> Bool {
        look(slot, generation).map { $0 & MappedState.waitersBit != 0 } ?? false
    }
}

/// The state memory of a connection: the descriptor, which comes once, and the mapping, which is
/// made when a map first needs it.
final class ReceivedState: Sendable {
    private enum Content {
        case nothing
        case descriptor(Int32)
        case mapped(MappedState)
    }
    private let content = Locked(Content.nothing)

    deinit {
        if case .descriptor(let descriptor) = content.withLock({ $0 }) {
            _ = Glibc.close(descriptor)
        }
    }

    /// Takes over the descriptor; a second one is closed.
    func take(_ descriptor: Int32) {
        let isFirst = content.withLock { content in
            guard case .nothing = content else { return false }
            content = .descriptor(descriptor)
            return true
        }
        if !isFirst { _ = Glibc.close(descriptor) }
    }

    /// The state memory, mapped.
    ///
    /// - Throws: `.outOfMemory` if the system refuses, which the next call tries again;
    ///   `.unexpectedReply` if the daemon has not sent it.
    func mapped() throws(SmallocError) -> MappedState {
        try content.withLock { content throws(SmallocError) in
            switch content {
            case .nothing: throw .unexpectedReply("the state memory has not come")
            case .mapped(let state): return state
            case .descriptor(let descriptor):
                guard let state = MappedState(descriptor) else { throw .outOfMemory }
                _ = Glibc.close(descriptor)
                content = .mapped(state)
                return state
            }
        }
    }
}

/// An allocation's memory in this process.
///
/// Stays until the last reference goes, whatever becomes of the allocation and the daemon.
@usableFromInline
final class MappedMemory: @unchecked Sendable {
    @usableFromInline let base: UnsafeMutableRawPointer
    /// Bytes.
    @usableFromInline let size: Int
    let isWritable: Bool
    /// When a wait has looked whether the daemon is there, in nanoseconds of `Clock.now`.
    let lastLook = Atomic<UInt64>(0)
    /// Nil where there are no bytes.
    private let state: MappedState?
    private let slot: UInt32
    private let generation: UInt32
    /// Of a mapping that forks of this process do not have; nil: they have it, too.
    private let fork: ForkGuard?

    /// Maps what a reply to `map` tells, and takes over its descriptor.
    ///
    /// - Parameters:
    ///   - isInherited: Whether forks of this process have it, too. Else they have nothing there,
    ///     and do not keep memory that they know nothing of.
    ///   - state: The connection's.
    /// - Throws: `.unexpectedReply`; `.outOfMemory` if the system refuses.
    init(
        _ reply: Reply, isWritable: Bool, populates: Bool, isInherited: Bool,
        _ state: ReceivedState
    ) throws(SmallocError) {
        defer { for descriptor in reply.descriptors { _ = Glibc.close(descriptor) } }
        guard reply.payload.count >= 12, let size = Int(exactly: reply.header.size),
            let offset = Int(exactly: reply.header.offset)
        else { throw .unexpectedReply("the answer to map tells no memory") }
        func number(_ index: Int) -> UInt32 {
            reply.payload.withUnsafeBytes {
                UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
            }
        }
        slot = number(0)
        generation = number(1)
        self.size = size
        self.isWritable = isWritable
        fork = isInherited ? nil : ForkGuard()
        guard size > 0 else {
            self.state = nil
            // An address that is never used.
            base = UnsafeMutableRawPointer(bitPattern: 4096)!
            return
        }
        guard let descriptor = reply.descriptors.first else {
            throw .unexpectedReply("the answer to map came without a descriptor")
        }
        self.state = try state.mapped()
        let rights = isWritable ? PROT_READ | PROT_WRITE : PROT_READ
        let flags = MAP_SHARED | (populates ? Int32(MAP_POPULATE) : 0)
        guard let start = mmap(nil, size, rights, flags, descriptor, offset), start != MAP_FAILED
        else { throw .outOfMemory }
        base = start
        _ = madvise(start, size, MADV_HUGEPAGE)
        if !isInherited { _ = madvise(start, size, MADV_DONTFORK) }
    }

    deinit {
        // In a fork something else may be there by now.
        if size > 0, fork?.isForked != true { munmap(base, size) }
    }

    /// Whether requests wait on the allocation.
    var hasWaiters: Bool { state?.hasWaiters(slot, generation) ?? false }

    /// What a client that sleeps on a cell has to watch: where the state word is, and what it is;
    /// nil: the cell has gone.
    ///
    /// - Parameter end: Bytes from the first one up to the cell's last.
    func watched(cellEnd end: Int) -> (word: UnsafeRawPointer, state: UInt32)? {
        // The word before the size: what changes after it was read ends the sleep.
        guard let state, let word = state.word(slot), let known = state.look(slot, generation),
            let size = state.liveSize(slot, generation), end <= size
        else { return nil }
        return (UnsafeRawPointer(word), known)
    }

    /// Whether bytes can be read, or written, by it now, as far as the daemon has told.
    ///
    /// If not, the daemon says by the socket what is wrong with them.
    func holds(_ offset: UInt64, _ size: Int, writes: Bool) -> Bool {
        guard let held = liveSize(writes: writes) else { return false }
        return offset <= held && UInt64(size) <= held - offset
    }

    /// Bytes that the allocation has now, without asking the daemon; nil: it has gone.
    var liveSize: UInt64? { liveSize(writes: false) }

    /// The same, and nil if it is to be written to and is frozen.
    func liveSize(writes: Bool) -> UInt64? {
        if size == 0 { return 0 }
        return state?.liveSize(slot, generation, writes: writes).map { min($0, UInt64(size)) }
    }
}
