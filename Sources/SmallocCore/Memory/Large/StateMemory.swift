// What mapped clients read without asking: one page or more, read-only for them, with a slot of 16
// bytes for each allocation that can be mapped.
//
//   0  state       4  generation << 8 | truncates << 3 | flags: 1 live, 2 frozen, 4 waiters
//   4  zero        4
//   8  size        8  bytes of the allocation
//
// protocol/spec.md § State memory is the source.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import Synchronization

/// The slots that tell mapped clients of their allocations.
final class StateMemory: @unchecked Sendable {
    /// Flags of a state word.
    struct Flags: OptionSet {
        let rawValue: UInt32
        static let live = Flags(rawValue: 1)
        static let frozen = Flags(rawValue: 2)
        static let waiters = Flags(rawValue: 4)
    }

    static let slotSize = 16
    /// The bits of a state word that count truncates, and one of them.
    private static let truncates: UInt32 = 0xF8
    private static let truncate: UInt32 = 8
    /// Its descriptor, which no client is given: they get it opened anew, read-only.
    let descriptor: Int32
    private let base: UnsafeMutableRawPointer
    let size: Int
    /// Slots that are free; the last one is given next.
    private let free: Locked<[UInt32]>

    /// - Parameter slotCount: Slots to give; slot 0 stands for none.
    ///
    /// Nil: the system refuses it.
    init?(slotCount: Int) {
        let page = SystemMemory.pageSize
        size = ((slotCount + 1) * StateMemory.slotSize + page - 1) / page * page
        descriptor = smalloc_file_create(size)
        guard descriptor >= 0 else { return nil }
        guard let start = smalloc_file_map(descriptor, size, page) else {
            close(descriptor)
            return nil
        }
        base = start
        // Room for all from the start: to give one back takes no memory.
        free = Locked((1...UInt32(slotCount)).reversed())
    }

    deinit {
        _ = smalloc_unmap(base, size)
        close(descriptor)
    }

    private func word(_ slot: UInt32) -> UnsafeMutablePointer<Atomic<UInt32>> {
        (base + Int(slot) * StateMemory.slotSize).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    private func sizeWord(_ slot: UInt32) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (base + Int(slot) * StateMemory.slotSize + 8)
            .assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// A slot for an allocation that lives; 0: there is none.
    func take(size: UInt64) -> UInt32 {
        guard let slot = free.withLock({ $0.popLast() }) else { return 0 }
        sizeWord(slot).pointee.store(size, ordering: .relaxed)
        let generation = generation(of: slot) &+ 1
        word(slot).pointee.store(
            generation << 8 | Flags.live.rawValue, ordering: .releasing)
        return slot
    }

    /// Gives a slot back whose memory no process has any more.
    func give(_ slot: UInt32) {
        guard slot != 0 else { return }
        end(slot)
        free.withLock { $0.append(slot) }
    }

    /// How often it was given, as far as 24 bits tell.
    func generation(of slot: UInt32) -> UInt32 {
        word(slot).pointee.load(ordering: .relaxed) >> 8
    }

    private func wake(_ slot: UInt32) {
        _ = smalloc_futex_wake_shared(base + Int(slot) * StateMemory.slotSize, .max)
    }

    /// The allocation has become smaller.
    ///
    /// Under its lock, as all below. The state word changes, so that a client which has looked at
    /// the size and is about to sleep does not.
    func resize(_ slot: UInt32, to size: UInt64) {
        sizeWord(slot).pointee.store(size, ordering: .releasing)
        let old = word(slot).pointee.load(ordering: .relaxed)
        let count = (old &+ StateMemory.truncate) & StateMemory.truncates
        word(slot).pointee.store(old & ~StateMemory.truncates | count, ordering: .releasing)
        wake(slot)
    }

    /// The allocation has gone, its memory perhaps not.
    func end(_ slot: UInt32) {
        let old = word(slot).pointee.load(ordering: .relaxed)
        word(slot).pointee.store(old & ~0xFF, ordering: .releasing)
        wake(slot)
    }

    /// Sets flags beside those that are set.
    func raise(_ flags: Flags, of slot: UInt32) {
        word(slot).pointee.bitwiseOr(flags.rawValue, ordering: .sequentiallyConsistent)
        wake(slot)
    }

    /// Has mapped clients that notify tell the daemon, too, or not any more.
    ///
    /// What is read after it was raised is newer than what a client stored that did not see it.
    /// Wakes no client: none waits for this.
    func setWaiters(_ areThere: Bool, of slot: UInt32) {
        let flag = Flags.waiters.rawValue
        if areThere {
            word(slot).pointee.bitwiseOr(flag, ordering: .sequentiallyConsistent)
            atomicMemoryFence(ordering: .sequentiallyConsistent)
        } else {
            word(slot).pointee.bitwiseAnd(~flag, ordering: .relaxed)
        }
    }
}
