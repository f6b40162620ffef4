// What the allocations of each namespace take: a walk over all names, in short holds of the shards'
// locks, for threads that may take their time.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem

/// How many allocations there are below each first part of a name, and their bytes.
///
/// The namespace of a name is its text up to the first `/`. Names without one, and those of
/// namespaces beyond `trackedMax`, are counted as `other`. Its memory comes from one call that can
/// fail.
public final class Namespaces {
    /// One namespace.
    public struct Entry: Sendable {
        /// Printable ASCII.
        public let name: String
        /// Allocations.
        public let count: UInt64
        /// Bytes of their data.
        public let size: UInt64
    }

    /// Namespaces that are told apart at most, before the largest are chosen.
    static let trackedMax = 1024
    private static let slotCount = 4096

    private struct Slot {
        var hash: UInt64 = 0
        var count: UInt64 = 0
        var size: UInt64 = 0
        var nameSize: UInt64 = 0
    }

    /// Room for a name behind each slot.
    private static let nameRoom = 256
    private let memory: UnsafeMutableRawPointer
    private var slots: UnsafeMutablePointer<Slot> {
        memory.assumingMemoryBound(to: Slot.self)
    }
    /// Slots that hold a namespace, in the order in which they came.
    private var order: UnsafeMutablePointer<UInt16> {
        (memory + Namespaces.slotCount * MemoryLayout<Slot>.stride)
            .assumingMemoryBound(to: UInt16.self)
    }
    private var names: UnsafeMutableRawPointer {
        memory + Namespaces.slotCount * MemoryLayout<Slot>.stride + Namespaces.trackedMax * 2
    }
    private var used = 0
    private let hash = NameHash()
    /// Allocations that have names.
    public private(set) var namedCount: UInt64 = 0
    /// Of them, those of no namespace that is told apart.
    private var otherCount: UInt64 = 0
    private var otherSize: UInt64 = 0

    /// Nil: there is no memory for it.
    fileprivate init?() {
        let size =
            Namespaces.slotCount * MemoryLayout<Slot>.stride
            + Namespaces.trackedMax * (2 + Namespaces.nameRoom)
        guard let memory = smalloc_allocate_zeroed(size) else { return nil }
        self.memory = memory
    }

    deinit { free(memory) }

    fileprivate func add(_ name: UnsafeRawBufferPointer, size: UInt64) {
        namedCount += 1
        guard let start = name.baseAddress, let end = memchr(start, 0x2F, name.count) else {
            return addOther(1, size)
        }
        let prefix = UnsafeRawBufferPointer(start: start, count: UnsafeRawPointer(end) - start)
        let hash = hash.hash(of: prefix) | 1
        var index = Int(hash >> 32) & (Namespaces.slotCount - 1)
        // At most a quarter of the slots are in use.
        while slots[index].hash != 0 {
            if slots[index].hash == hash {
                slots[index].count += 1
                slots[index].size &+= size
                return
            }
            index = (index + 1) & (Namespaces.slotCount - 1)
        }
        guard used < Namespaces.trackedMax else { return addOther(1, size) }
        slots[index] = Slot(hash: hash, count: 1, size: size, nameSize: UInt64(prefix.count))
        order[used] = UInt16(index)
        (names + used * Namespaces.nameRoom).copyMemory(from: start, byteCount: prefix.count)
        used += 1
    }

    private func addOther(_ count: UInt64, _ size: UInt64) {
        otherCount += count
        otherSize &+= size
    }

    /// The namespaces with most bytes, the largest first, and what is left.
    ///
    /// One whose name is `other`, or empty, is counted among what is left: so the words are not
    /// taken for those of this table.
    ///
    /// - Parameters:
    ///   - countMax: How many at most, up to 500.
    ///   - isWanted: Whether a name may be told; else it is counted among what is left.
    public func largest(
        _ countMax: Int, where isWanted: (String) -> Bool = { _ in true }
    ) -> (entries: [Entry], other: Entry) {
        var entries: [Entry] = []
        entries.reserveCapacity(min(countMax, used))
        var (restCount, restSize) = (otherCount, otherSize)
        // A heap would be faster; a selection of 500 among 1,024 takes a millisecond.
        var isTaken = [Bool](repeating: false, count: used)
        for _ in 0..<used {
            var best = -1
            for index in 0..<used where !isTaken[index] {
                if best < 0 || slots[Int(order[index])].size > slots[Int(order[best])].size {
                    best = index
                }
            }
            isTaken[best] = true
            let slot = slots[Int(order[best])]
            let name = String(
                decoding: UnsafeRawBufferPointer(
                    start: names + best * Namespaces.nameRoom, count: Int(slot.nameSize)),
                as: UTF8.self)
            guard entries.count < countMax, name != "other", !name.isEmpty, isWanted(name) else {
                restCount += slot.count
                restSize &+= slot.size
                continue
            }
            entries.append(Entry(name: name, count: slot.count, size: slot.size))
        }
        return (entries, Entry(name: "other", count: restCount, size: restSize))
    }
}

extension Registry {
    /// Slots of a table that are looked at under one hold of its shard's lock: some dozen
    /// microseconds.
    private static let slotsAtOnce = 512

    /// Counts what each namespace holds.
    ///
    /// What comes or goes meanwhile may be counted or not. From any thread but those of loops: a
    /// million allocations take some 100 milliseconds.
    ///
    /// - Returns: Nil: there is no memory for it.
    public func namespaces() -> Namespaces? {
        guard let found = Namespaces() else { return nil }
        forEachNamed { found.add($0.name, size: $0.size) }
        return found
    }

    /// Calls back for each allocation that has a name, under its shard's lock, which is given back
    /// in between.
    func forEachNamed(_ body: (Allocation) -> Void) {
        for shard in 0..<Registry.shardCount {
            var index = 0
            while true {
                let lock = lock(of: shard)
                lock.lock()
                let end = min(index + Registry.slotsAtOnce, shards[shard].table.slotCount)
                while index < end {
                    if let allocation = shards[shard].table.allocation(at: index) {
                        body(allocation)
                    }
                    index += 1
                }
                let isLast = index >= shards[shard].table.slotCount
                lock.unlock()
                if isLast { break }
            }
        }
    }
}
