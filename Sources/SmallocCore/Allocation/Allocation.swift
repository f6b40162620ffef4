// One allocation: a block of raw memory with a header, the name, and small data in one piece.
//
//   0  references  4   handles, transfers, lookups in progress, and 1 of the registry as it lives
//   4  lock        4   guards everything below, and the bytes up to the atomic size
//   8  size        8   bytes; truncate makes it smaller. Of inline data the upper half is the owner
//  16  type        1
//  17  nameSize    1   0: anonymous
//  18  nameRoom    1   units of 8 bytes, at least 1, so that a pointer to a longer name fits
//  19  flags       1
//  20  created     4   seconds after the registry's birth
//  24  name        nameRoom * 8
//      inline:  the data
//      else:    8 bytes that point to a StorageRecord
//
// A 64-byte allocation with a 10-byte name is a block of 104 bytes. What a user says of an
// allocation stands before all of this, in the same piece of memory: see Description.swift.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// A pointer to an allocation's block.
///
/// Copying it counts nothing: see `retain` and `release`.
struct Allocation: Equatable {
    let block: UnsafeMutableRawPointer

    static let headerSize = 24

    struct Flags: OptionSet {
        let rawValue: UInt8
        /// The data is not in the block: a record tells where it is.
        static let recorded = Flags(rawValue: 1)
        static let disposed = Flags(rawValue: 2)
        /// The block is cut from a slab, and not malloc's.
        static let pooled = Flags(rawValue: 4)
        /// Requests wait on cells of it: see `WaitQueues`.
        static let waited = Flags(rawValue: 8)
        /// Its bytes can't be changed any more.
        static let frozen = Flags(rawValue: 16)
        /// A description stands before the block.
        static let described = Flags(rawValue: 32)
        /// Its inline data has transfers under way: see `InlineTransfers`.
        static let transferred = Flags(rawValue: 64)
        /// It has a lease, which stands before the block with a description: see `Lease`.
        static let leased = Flags(rawValue: 128)
    }

    private var references: UnsafeMutablePointer<Atomic<UInt32>> {
        block.assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// Guards the fields and, up to the atomic size, the bytes.
    @inline(__always) var lock: ByteLock { ByteLock(block + 4) }

    /// Bytes, and of inline data the owner above them.
    private var sizeWord: UnsafeMutablePointer<Atomic<UInt64>> {
        (block + 8).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// Bytes.
    ///
    /// Changed under the lock; without it, it is that of a moment ago.
    @inline(__always)
    var size: UInt64 {
        get {
            // In this order: a promotion takes the owner out of the word before it sets the flag.
            let flags = Flags(rawValue: flagsByte.pointee.load(ordering: .acquiring))
            let word = sizeWord.pointee.load(ordering: .relaxed)
            return flags.contains(.recorded) ? word : word & 0xFFFF_FFFF
        }
        nonmutating set {
            let owner = flags.contains(.recorded) ? 0 : sizeWord.pointee.load(ordering: .relaxed)
            sizeWord.pointee.store(newValue | owner & ~0xFFFF_FFFF, ordering: .relaxed)
        }
    }

    /// The flags, as a thread sees them that has not the lock.
    private var flagsByte: UnsafeMutablePointer<Atomic<UInt8>> {
        (block + 19).assumingMemoryBound(to: Atomic<UInt8>.self)
    }

    /// Never changes.
    var type: ElementType {
        ElementType(wire: block.load(fromByteOffset: 16, as: UInt8.self)) ?? .uint8
    }

    /// Changes under the lock and that of the shard; 0: anonymous.
    ///
    /// A name of more than `nameRoom` bytes is elsewhere. So what a shard's lock guards is not in
    /// the flags, which the allocation's lock guards alone.
    private(set) var nameSize: Int {
        get { Int(block.load(fromByteOffset: 17, as: UInt8.self)) }
        nonmutating set {
            block.storeBytes(of: UInt8(newValue), toByteOffset: 17, as: UInt8.self)
        }
    }

    @inline(__always)
    private var isNameElsewhere: Bool { nameSize > nameRoom }

    /// Whether it has no name, and goes with its handle.
    ///
    /// Read under the lock.
    var isAnonymous: Bool { nameSize == 0 }

    var nameRoom: Int { Int(block.load(fromByteOffset: 18, as: UInt8.self)) * 8 }

    /// Read and changed under the lock.
    var flags: Flags {
        get { Flags(rawValue: block.load(fromByteOffset: 19, as: UInt8.self)) }
        nonmutating set { flagsByte.pointee.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// Whether it has a lease: it never changes, and needs no lock.
    @inline(__always)
    var isLeased: Bool {
        flagsByte.pointee.load(ordering: .relaxed) & Flags.leased.rawValue != 0
    }

    /// Seconds after the registry's birth.
    var created: UInt32 { block.load(fromByteOffset: 20, as: UInt32.self) }

    /// The name's bytes.
    ///
    /// Valid under the lock, and under the lock of its shard.
    var name: UnsafeRawBufferPointer {
        var start = UnsafeRawPointer(block + Allocation.headerSize)
        if isNameElsewhere { start = start.load(as: UnsafeRawPointer.self) }
        return UnsafeRawBufferPointer(start: start, count: nameSize)
    }

    /// Where inline data is, or the pointer to a record.
    @inline(__always)
    private var place: UnsafeMutableRawPointer { block + Allocation.headerSize + nameRoom }

    /// What is known of data that is not inline; nil: it is.
    ///
    /// It comes with the allocation or with its promotion, and stays; what is in it is guarded by
    /// the lock.
    var record: StorageRecord? {
        guard flags.contains(.recorded) else { return nil }
        return StorageRecord(address: place.load(as: UnsafeMutableRawPointer.self))
    }

    /// First byte of data, after an `access` to it.
    var data: UnsafeMutableRawPointer {
        guard let record else { return place }
        return record.base ?? record.address
    }

    var storage: StorageKind { flags.contains(.recorded) ? .mapping : .heap }

    /// The user that the allocation belongs to, by the system's number.
    var owner: UInt32 {
        record?.owner ?? UInt32(sizeWord.pointee.load(ordering: .relaxed) >> 32)
    }

    /// Whether the data is in the block.
    @inline(__always)
    var isInline: Bool { !flags.contains(.recorded) }

    /// Whether its bytes can't be changed any more, and that is not to be undone.
    ///
    /// Under the lock.
    var isFrozenForGood: Bool {
        flags.contains(.frozen) && record?.sharing.contains(.freezing) != true
    }

    /// Whether its bytes move to a file: they are touched under the lock only, meanwhile.
    var isMoving: Bool { record?.sharing.contains(.moving) ?? false }

    /// Whether its bytes are touched under the lock only: they are inline, or move.
    var needsLock: Bool { record.map { $0.sharing.contains(.moving) } ?? true }

    /// Whether clients can map it.
    var isShared: Bool { record?.kind == .memfd }

    /// A system call, or a slice of work, is about to move bytes without the lock.
    ///
    /// Under the lock. Promotion waits until it has called `endWork`.
    func beginWork() { record?.atWork += 1 }

    /// Ends what `beginWork` began; under the lock.
    func endWork() { record?.atWork -= 1 }

    /// Whether memory is still to be made for it, by the first `access` to its bytes.
    var hasNoMemory: Bool { record?.kind == StorageRecord.Kind.none }

    // MARK: Data

    /// The bytes of a range that was checked against `size`.
    ///
    /// Under the lock. The only way to an allocation's bytes, for every operation and for each
    /// piece of a transfer.
    @inline(__always)
    func access(_ extent: Extent, _ intent: Intent) -> Access {
        guard flags.isDisjoint(with: [.recorded, .frozen]) else {
            return accessRecorded(extent, intent)
        }
        return .here(place + extent.offset)
    }

    @inline(never)
    private func accessRecorded(_ extent: Extent, _ intent: Intent) -> Access {
        if intent != .read, flags.contains(.frozen) {
            return record?.sharing.contains(.freezing) == true ? .busy : .frozen
        }
        guard let record else { return .here(place + extent.offset) }
        return record.access(extent, intent, length: size)
    }

    /// The cell of an atomic operation: one element, aligned to its size.
    ///
    /// Under the lock, which keeps all requests apart. What changes a cell does so by an atomic
    /// instruction all the same (`smalloc_atomic`), for whoever reaches it without the lock.
    ///
    /// - Parameter extent: Was checked against `size`; its offset is a multiple of its size.
    /// - Returns: Nil: the bytes are not at hand, see `Registry.later`.
    @inline(__always)
    func cell(_ extent: Extent, _ intent: Intent) throws(SmallocError) -> UnsafeMutableRawPointer? {
        try access(extent, intent).atHand()
    }

    /// Bytes up to `end` have arrived of a request that overwrites the whole allocation.
    ///
    /// Under the lock, after each piece that `access` gave for it, also when none arrived.
    func overwritten(upTo end: Int) { record?.overwritten(upTo: end) }

    /// Wipes up to `count` bytes that are another allocation's, none of a piece under way.
    ///
    /// Under the lock. Cost: as much memory is moved; 128 KiB take some ten microseconds.
    ///
    /// - Returns: Whether none is left.
    func wipeStale(_ count: Int) -> Bool { record?.wipeStale(count) ?? true }

    /// Checks what must hold under the lock.
    func checkInvariants() {
        precondition(
            flags.isSubset(of: [
                .recorded, .disposed, .pooled, .waited, .frozen, .described, .transferred, .leased,
            ]), "flags are known")
        precondition(nameRoom >= 8 && nameRoom <= 256, "there is room for a pointer")
        precondition(!flags.isSuperset(of: [.recorded, .transferred]), "a record counts by itself")
        if flags.contains(.described) { checkDescription() }
        record?.checkInvariants(length: size)
    }

    // MARK: Life

    /// Makes a zero-filled allocation with one reference, or nil if the machine has no memory.
    ///
    /// Cost: up to 64 KiB is zeroed here; what is larger gets its memory with the first access.
    ///
    /// - Parameter isShareable: Whether clients will map it; a file was counted for it then.
    @inline(__always)
    static func make(
        name: UnsafeRawBufferPointer, type: ElementType, size: Int, created: UInt32,
        owner: UInt32, description: UnsafePointer<Description>? = nil,
        isShareable: Bool = false, mappings: MappingPool
    ) -> Allocation? {
        let isInline = size < Thresholds.outOfLineSizeMin && !isShareable
        let front = frontSize(description)
        let blockSize = front + blockSize(nameSize: name.count, size: isInline ? size : 0)
        guard let start = mappings.blocks.take(blockSize) else { return nil }
        let block = start + front
        let units = nameUnits(name.count)
        var flags: Flags = mappings.blocks.isPooled(blockSize) ? .pooled : []
        if front > 0 {
            flags.insert(.described)
            if description?.pointee.lease != nil { flags.insert(.leased) }
        }
        if !isInline {
            guard
                let record = mappings.makeRecord(size, owner: owner, isShareable: isShareable)
            else {
                mappings.blocks.give(start, blockSize)
                return nil
            }
            flags.insert(.recorded)
            (block + headerSize + units * 8).storeBytes(
                of: record.address, as: UnsafeMutableRawPointer.self)
        }
        let allocation = Allocation(block: block)
        allocation.references.initialize(to: Atomic(1))
        allocation.sizeWord.initialize(
            to: Atomic(UInt64(size) | (isInline ? UInt64(owner) << 32 : 0)))
        // One store instead of five.
        let small =
            UInt32(type.rawValue) | UInt32(truncatingIfNeeded: name.count) << 8
            | UInt32(truncatingIfNeeded: units) << 16 | UInt32(flags.rawValue) << 24
        block.storeBytes(
            of: (UInt64(created) << 32 | UInt64(small)).littleEndian, toByteOffset: 16,
            as: UInt64.self)
        if let source = name.baseAddress { copyName(source, name.count, to: block + headerSize) }
        if front > 0, let description { allocation.describe(description.pointee) }
        return allocation
    }

    /// Bytes of the block: header, name, and data or the pointer to a record, which any data may
    /// become.
    @inline(__always)
    private static func blockSize(nameSize: Int, size: Int) -> Int {
        headerSize + nameUnits(nameSize) * 8
            + (size >= Thresholds.outOfLineSizeMin ? 8 : max(size, 8))
    }

    /// Replaces inline data by a record, which has its bytes.
    ///
    /// Under the lock.
    func becomeRecorded(_ record: StorageRecord, _ mappings: MappingPool) {
        if flags.contains(.transferred) {
            let count = mappings.inlineTransfers.take(key)
            (record.pins, record.writers) = (count.all, count.writers)
            flags.remove(.transferred)
        }
        let size = size
        sizeWord.pointee.store(size, ordering: .relaxed)
        place.storeBytes(of: record.address, as: UnsafeMutableRawPointer.self)
        flagsByte.pointee.store(flags.union(.recorded).rawValue, ordering: .releasing)
    }

    /// Most names have 8 to 16 bytes: their first and last 8 are all of them, and no call.
    @inline(__always)
    private static func copyName(
        _ source: UnsafeRawPointer, _ count: Int, to place: UnsafeMutableRawPointer
    ) {
        guard count >= 8, count <= 16 else {
            return place.copyMemory(from: source, byteCount: count)
        }
        let first = source.loadUnaligned(as: UInt64.self)
        let last = source.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
        place.storeBytes(of: first, as: UInt64.self)
        place.storeBytes(of: last, toByteOffset: count &- 8, as: UInt64.self)
    }

    @inline(__always)
    private static func nameUnits(_ nameSize: Int) -> Int { max(1, (nameSize &+ 7) / 8) }

    /// Counts one more user.
    @inline(__always)
    func retain() { references.pointee.wrappingAdd(1, ordering: .relaxed) }

    /// Counts one user less.
    ///
    /// True: it was the last one, and the caller must `destroy`.
    @inline(__always)
    func release() -> Bool {
        references.pointee.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0
    }

    /// Users at this moment, with all that those did which are none any more.
    var referenceCount: UInt64 { UInt64(references.pointee.load(ordering: .acquiring)) }

    /// Whether the caller's reference is the only one, and nothing that others did is to come.
    @inline(__always)
    var isUnshared: Bool { references.pointee.load(ordering: .acquiring) == 1 }

    /// Gives the memory back, to which there must be no reference any more.
    ///
    /// - Returns: Bytes of heap that are free again; those of a record are counted by the pool.
    func destroy(mappings: MappingPool) -> UInt64 {
        let flags = flags
        var charge = Allocation.slotCharge
        if isNameElsewhere, let start = name.baseAddress {
            charge += nameCharge(mappings.blocks)
            mappings.blocks.give(UnsafeMutableRawPointer(mutating: start), nameSize)
        }
        if let record { mappings.give(record) }
        let start = flags.contains(.described) ? block - describedSize : block
        if flags.contains(.pooled) {
            let capacity = BlockPool.capacity(of: block)
            charge += UInt64(capacity)
            mappings.blocks.give(start, capacity)
        } else {
            charge += UInt64(smalloc_usable_size(start)) + 8
            free(start)
        }
        return charge
    }

    // MARK: What it is charged

    /// Bytes that a name takes of a table of names, more or less.
    private static let slotCharge: UInt64 = 12

    /// Bytes of heap that an allocation would be charged; exact unless it is malloc's.
    @inline(__always)
    static func heapCharge(
        nameSize: Int, size: Int, description: UnsafePointer<Description>? = nil
    ) -> UInt64 {
        let blockSize = frontSize(description) + blockSize(nameSize: nameSize, size: size)
        return UInt64(BlockPool.capacity(for: blockSize)) + slotCharge
    }

    /// Bytes of heap that this takes: its block and its slot in the table of names.
    ///
    /// A record is charged by itself.
    func heapCharge(_ blocks: BlockPool) -> UInt64 {
        let start = flags.contains(.described) ? block - describedSize : block
        let capacity =
            flags.contains(.pooled)
            ? UInt64(BlockPool.capacity(of: block)) : UInt64(smalloc_usable_size(start)) + 8
        return capacity + Allocation.slotCharge + nameCharge(blocks)
    }

    private func nameCharge(_ blocks: BlockPool) -> UInt64 {
        guard isNameElsewhere, let start = name.baseAddress else { return 0 }
        if blocks.isPooled(nameSize) { return UInt64(BlockPool.capacity(for: nameSize)) }
        return UInt64(smalloc_usable_size(UnsafeMutableRawPointer(mutating: start))) + 8
    }

    // MARK: Names

    /// Gives a new name, under the lock and those of both shards.
    ///
    /// - Parameter willRename: Called where nothing can fail any more, and the name is still the
    ///   old one.
    /// - Returns: False: no memory for a longer one.
    func rename(
        _ newName: UnsafeRawBufferPointer, _ blocks: BlockPool, _ willRename: () -> Void = {}
    ) -> Bool {
        guard let source = newName.baseAddress else { return false }
        let place = block + Allocation.headerSize
        let old = isNameElsewhere ? name : nil
        if newName.count <= nameRoom {
            willRename()
            // `source` is the peer's input, never this place.
            place.copyMemory(from: source, byteCount: newName.count)
        } else {
            guard let copy = blocks.take(newName.count) else { return false }
            copy.copyMemory(from: source, byteCount: newName.count)
            willRename()
            place.storeBytes(of: copy, as: UnsafeMutableRawPointer.self)
        }
        nameSize = newName.count
        if let old, let start = old.baseAddress {
            blocks.give(UnsafeMutableRawPointer(mutating: start), old.count)
        }
        return true
    }
}
