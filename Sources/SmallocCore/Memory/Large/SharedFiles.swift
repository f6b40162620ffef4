// Memory that clients map: how much of it there is, and what of it is still held when its
// allocation has gone.
//
//   made -> an allocation's -> free                  no client holds it: its pages go to the system
//                          '-> held by a client      counted until the kernel tells that the last
//                                                    holder of any kind has gone
//
// The kernel is asked, never a client: a lease can be had only while no process holds a descriptor
// or a mapping, and the file's end is told by inotify. So a client that dies leaves nothing, and
// one that keeps what it was given is known to.
//
// No file is an allocation's twice: what a client puts into a pipe, or has opened in a way that is
// no lease's business, is not seen. Nor is one made ahead: that takes 11 microseconds of the 120 in
// which a client has alloc, map and dispose answered. What takes time is to make pages, 280
// microseconds a MiB at least, which another thread can do no faster.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import Synchronization

/// The files that clients map.
///
/// All methods from any thread.
final class SharedFiles: @unchecked Sendable {
    /// What an allocation has left that clients still hold.
    struct Held {
        var size: Int
        var owner: UInt32
        var slot: UInt32
    }

    /// Files at most, those that are held included.
    let countMax: Int
    let state: StateMemory
    private let count = Atomic<Int>(0)
    private let heldTotal = Atomic<UInt64>(0)
    /// Descriptors at most that clients may not have received yet.
    let passingMax: Int
    private let passing = Atomic<Int>(0)
    /// Tells when held files are gone.
    private let watch: Int32
    private let held: Locked<Table>

    /// What is held, by the number of its watch, and how much that is for each user.
    private struct Table {
        var files: [Int32: Held] = [:]
        var sizes: [UInt32: UInt64] = [:]
    }

    /// Files that a daemon has at most: a quarter of its descriptors, an eighth of the kernel
    /// mappings, and no more than the kernel can tell the end of at once.
    static var countMax: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
        let descriptors = Int(min(limit.rlim_cur / 4, 1 << 20))
        let mappings = Int(
            (SystemMemory.numberInFile("/proc/sys/vm/max_map_count") ?? 65_530) / 8)
        let events = Int(
            (SystemMemory.numberInFile("/proc/sys/fs/inotify/max_queued_events") ?? 16_384) / 2)
        // Each end is two events.
        return max(min(descriptors, mappings, events), 0)
    }

    /// Half of what the kernel lets a user have under way: beyond that it refuses to send any of
    /// that user's, whichever process and whichever client it is.
    private static var passingMax: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
        return Int(min(limit.rlim_cur / 2, 1 << 20))
    }

    /// Nil: the system has no memory files, or no inotify.
    init?(countMax: Int = SharedFiles.countMax) {
        guard countMax > 0, let state = StateMemory(slotCount: countMax) else { return nil }
        let watch = smalloc_watch_create()
        guard watch >= 0 else { return nil }
        self.countMax = countMax
        passingMax = SharedFiles.passingMax
        self.state = state
        self.watch = watch
        var table = Table()
        table.files.reserveCapacity(countMax)
        held = Locked(table)
    }

    deinit { close(watch) }

    /// Files that allocations have, or asked for, and those that are held.
    var fileCount: Int { count.load(ordering: .relaxed) }

    /// Bytes that clients hold of allocations that have gone.
    var heldSize: UInt64 { heldTotal.load(ordering: .relaxed) }

    /// Counts one more file unless there are too many.
    func add() -> Bool {
        if count.wrappingAdd(1, ordering: .relaxed).newValue <= countMax { return true }
        remove()
        return false
    }

    func remove() { count.wrappingSubtract(1, ordering: .relaxed) }

    // MARK: Descriptors under way

    /// Counts descriptors that a client is about to be sent, unless there are too many.
    func addPassing(_ count: Int) -> Bool {
        if passing.wrappingAdd(count, ordering: .relaxed).newValue <= passingMax { return true }
        removePassing(count)
        return false
    }

    /// So many were received, or their connection has ended.
    func removePassing(_ count: Int) { passing.wrappingSubtract(count, ordering: .relaxed) }

    /// Descriptors that clients may not have received yet.
    var passingCount: Int { passing.load(ordering: .relaxed) }

    // MARK: The end of a file

    /// Has the kernel tell when the last holder of a file has gone.
    ///
    /// The caller closes the file after this.
    ///
    /// - Returns: False: the kernel watches no more files for this user.
    func hold(_ file: Int32, _ what: Held) -> Bool {
        // Under the lock, so that the file's end is not looked up before it is noted.
        held.withLock { held in
            let number = smalloc_watch_file(watch, file)
            guard number >= 0 else { return false }
            held.files[number] = what
            held.sizes[what.owner, default: 0] += UInt64(what.size)
            heldTotal.wrappingAdd(UInt64(what.size), ordering: .relaxed)
            return true
        }
    }

    /// Takes note of held files that are gone.
    ///
    /// To be called every second or so.
    ///
    /// - Parameter budget: What their bytes were charged to.
    func releaseGone(_ budget: MemoryBudget) {
        guard heldSize > 0 else { return }
        withUnsafeTemporaryAllocation(of: Int32.self, capacity: 64) { gone in
            guard let first = gone.baseAddress else { return }
            while true {
                let count = Int(smalloc_watch_next(watch, first, 64))
                guard count > 0 else { return }
                for index in 0..<count { release(gone[index], budget) }
            }
        }
    }

    private func release(_ number: Int32, _ budget: MemoryBudget) {
        let known = held.withLock { held -> Held? in
            guard let what = held.files.removeValue(forKey: number) else { return nil }
            held.sizes[what.owner, default: 0] -= UInt64(what.size)
            if held.sizes[what.owner] == 0 { held.sizes.removeValue(forKey: what.owner) }
            return what
        }
        guard let what = known else { return }
        heldTotal.wrappingSubtract(UInt64(what.size), ordering: .relaxed)
        budget.uncharge(UInt64(what.size))
        state.give(what.slot)
        remove()
    }

    /// Calls back for the users of whose allocations most is held, the largest first, with how
    /// many bytes; once more, without a user, for the rest of them together.
    func forEachHolder(atMost count: Int, _ body: (_ owner: UInt32?, _ size: UInt64) -> Void) {
        guard heldSize > 0 else { return }
        var largest: [(owner: UInt32, size: UInt64)] = []
        var rest: UInt64 = 0
        held.withLock { held in
            for (owner, size) in held.sizes {
                let place = largest.firstIndex { ($0.size, owner) < (size, $0.owner) }
                largest.insert((owner, size), at: place ?? largest.count)
                if largest.count > count { rest += largest.removeLast().size }
            }
        }
        for holder in largest { body(holder.owner, holder.size) }
        if rest > 0 { body(nil, rest) }
    }
}

extension MappingPool {
    /// Gives a record that has no memory yet a file, as zeros.
    ///
    /// Under the lock of its allocation. Cost: some system calls, about 10 microseconds.
    ///
    /// - Parameter size: Bytes of the allocation.
    /// - Returns: False: the system refuses it.
    func attachFile(_ record: StorageRecord, size: UInt64) -> Bool {
        let capacity = record.capacity
        // Larger memory is counted as a kernel mapping from the beginning.
        guard let shares, capacity > Arenas.sizeMax || budget.chargeMappings(1) else {
            return false
        }
        if let made = makeFile(capacity, size: size, shares) {
            record.attach(made.base, .memfd, madeSize: capacity, writtenSize: 0)
            record.descriptor = made.descriptor
            record.slot = made.slot
            return true
        }
        if capacity <= Arenas.sizeMax { budget.unchargeMappings(1) }
        return false
    }

    /// A new file, mapped, with a slot; nil: the system refuses it.
    ///
    /// The caller has counted the file, its bytes and its kernel mapping.
    func makeFile(
        _ capacity: Int, size: UInt64, _ shares: SharedFiles
    ) -> (base: UnsafeMutableRawPointer, descriptor: Int32, slot: UInt32)? {
        let descriptor = smalloc_file_create(capacity)
        guard descriptor >= 0 else { return nil }
        if let base = mapFile(descriptor, capacity) {
            let slot = shares.state.take(size: size)
            if slot != 0 { return (base, descriptor, slot) }
            _ = smalloc_unmap(base, capacity)
        }
        close(descriptor)
        return nil
    }

    private func mapFile(_ descriptor: Int32, _ capacity: Int) -> UnsafeMutableRawPointer? {
        let isHuge = capacity >= SystemMemory.hugePageSize
        let base = smalloc_file_map(
            descriptor, capacity, isHuge ? SystemMemory.hugePageSize : pageSize)
        // Where the system gives shared memory no huge pages it is slower, and right.
        if isHuge, let base { _ = smalloc_welcome_huge(base, capacity, true) }
        return base
    }

    /// Tells mapped clients how large an allocation is now.
    ///
    /// Under its lock.
    func tellSize(of allocation: Allocation) {
        guard let shares, let record = allocation.record, record.slot != 0 else { return }
        shares.state.resize(record.slot, to: allocation.size)
    }

    /// Tells mapped clients whether requests wait on an allocation, or are about to.
    ///
    /// Under its lock.
    func tellWaiters(on allocation: Allocation, areComing: Bool = false) {
        guard let shares, let record = allocation.record, record.slot != 0 else { return }
        shares.state.setWaiters(
            areComing || allocation.flags.contains(.waited), of: record.slot)
    }

    /// Gives up a file into which a mapping has moved in part; its pages go with the mapping.
    func dropHalfMoved(_ record: StorageRecord) {
        close(record.descriptor)
        record.descriptor = -1
        record.mustGo = true
        shares?.remove()
    }

    /// Gives a file's memory back, or notes what of it clients hold.
    ///
    /// On the reclaiming thread.
    ///
    /// - Returns: False: the kernel refuses some of it, which is to be tried again.
    func releaseFile(
        _ record: StorageRecord, _ base: UnsafeMutableRawPointer, pause: () -> Void
    ) -> Bool {
        guard let shares else { return true }
        let isOut = record.sharing.contains(.handedOut)
        // A client may have sealed it: then its pages go with the last holder.
        if !isOut || smalloc_file_holders(record.descriptor) == 0 {
            for offset in stride(from: 0, to: record.capacity, by: Thresholds.returnSliceSize) {
                let size = min(Thresholds.returnSliceSize, record.capacity - offset)
                guard smalloc_file_punch(record.descriptor, offset, size) else { break }
                pause()
            }
        }
        let made = record.madeSize
        let left = Mapping.unmap(base, made, pause: pause)
        // Tails that could not be given back: their addresses are gone, and their pages go with the
        // file.
        forgetTails(in: base + left..<base + made)
        record.madeSize = left
        guard left == 0 else { return false }
        if isOut {
            let size = record.capacity
            guard
                shares.hold(
                    record.descriptor,
                    SharedFiles.Held(size: size, owner: record.owner, slot: record.slot))
            else { return false }
            close(record.descriptor)
            // Mostly no client holds it, and the kernel says so at once.
            shares.releaseGone(budget)
        } else {
            close(record.descriptor)
            budget.uncharge(UInt64(record.capacity))
            shares.state.give(record.slot)
            shares.remove()
        }
        budget.unchargeMappings(1)
        free(record)
        return true
    }
}
