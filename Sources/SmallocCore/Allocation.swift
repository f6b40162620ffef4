// One allocation: a block of raw memory with a header, the name, and small data in one piece.
//
//   0  references  4   handles, transfers, lookups in progress, and 1 of the registry as it lives
//   4  lock        4   guards everything below, and the bytes up to the atomic size
//   8  size        8   bytes; truncate makes it smaller
//  16  type        1
//  17  nameSize    1   0: anonymous
//  18  nameRoom    1   units of 8 bytes, at least 1, so that a pointer to a longer name fits
//  19  flags       1
//  20  created     4   seconds after the registry's birth
//  24  name        nameRoom * 8
//      heap:    the data
//      mapping: base 8, capacity 8, dirtySize 8, pins 8
//
// A 64-byte allocation with a 10-byte name is 104 bytes: one 112-byte chunk of malloc.

internal import CSmalloc
internal import Glibc
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
        static let mapped = Flags(rawValue: 1)
        static let disposed = Flags(rawValue: 2)
        static let anonymous = Flags(rawValue: 4)
        static let nameElsewhere = Flags(rawValue: 8)
    }

    private var references: UnsafeMutablePointer<Atomic<UInt32>> {
        block.assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// Guards the fields and, up to the atomic size, the bytes.
    @inline(__always) var lock: ByteLock { ByteLock(block + 4) }

    /// Bytes.
    ///
    /// Read under the lock.
    var size: UInt64 {
        get { block.load(fromByteOffset: 8, as: UInt64.self) }
        nonmutating set { block.storeBytes(of: newValue, toByteOffset: 8, as: UInt64.self) }
    }

    /// Never changes.
    var type: ElementType {
        ElementType(wire: block.load(fromByteOffset: 16, as: UInt8.self)) ?? .uint8
    }

    private(set) var nameSize: Int {
        get { Int(block.load(fromByteOffset: 17, as: UInt8.self)) }
        nonmutating set {
            block.storeBytes(of: UInt8(newValue), toByteOffset: 17, as: UInt8.self)
        }
    }

    private var nameRoom: Int { Int(block.load(fromByteOffset: 18, as: UInt8.self)) * 8 }

    /// Read and changed under the lock.
    var flags: Flags {
        get { Flags(rawValue: block.load(fromByteOffset: 19, as: UInt8.self)) }
        nonmutating set {
            block.storeBytes(of: newValue.rawValue, toByteOffset: 19, as: UInt8.self)
        }
    }

    /// Seconds after the registry's birth.
    var created: UInt32 { block.load(fromByteOffset: 20, as: UInt32.self) }

    /// The name's bytes.
    ///
    /// Valid under the lock, and under the lock of its shard.
    var name: UnsafeRawBufferPointer {
        var start = UnsafeRawPointer(block + Allocation.headerSize)
        if flags.contains(.nameElsewhere) { start = start.load(as: UnsafeRawPointer.self) }
        return UnsafeRawBufferPointer(start: start, count: nameSize)
    }

    /// First byte of data.
    ///
    /// Never changes while a reference is held.
    var data: UnsafeMutableRawPointer {
        let place = block + Allocation.headerSize + nameRoom
        return flags.contains(.mapped) ? place.load(as: UnsafeMutableRawPointer.self) : place
    }

    var storage: StorageKind { flags.contains(.mapped) ? .mapping : .heap }

    // MARK: Life

    /// Makes a zero-filled allocation with one reference, or nil if the machine has no memory.
    ///
    /// Cost: up to 64 KiB is zeroed here; a mapping's pages come zeroed from the kernel or the
    /// pool.
    static func make(
        name: UnsafeRawBufferPointer, type: ElementType, size: Int, created: UInt32,
        mappings: MappingPool
    ) -> Allocation? {
        let units = max(1, (name.count + 7) / 8)
        let mapped = size >= MappingPool.sizeMin
        let dataSize = mapped ? 32 : size
        guard let block = calloc(1, headerSize + units * 8 + dataSize) else { return nil }
        let allocation = Allocation(block: block)
        if mapped {
            guard let mapping = mappings.take(size) else {
                free(block)
                return nil
            }
            let place = block + headerSize + units * 8
            place.storeBytes(of: mapping.base, as: UnsafeMutableRawPointer.self)
            place.storeBytes(of: mapping.capacity, toByteOffset: 8, as: Int.self)
        }
        allocation.references.initialize(to: Atomic(1))
        block.storeBytes(of: UInt64(size), toByteOffset: 8, as: UInt64.self)
        block.storeBytes(of: type.rawValue, toByteOffset: 16, as: UInt8.self)
        block.storeBytes(of: UInt8(name.count), toByteOffset: 17, as: UInt8.self)
        block.storeBytes(of: UInt8(units), toByteOffset: 18, as: UInt8.self)
        block.storeBytes(of: created, toByteOffset: 20, as: UInt32.self)
        var flags: Flags = mapped ? .mapped : []
        if name.isEmpty { flags.insert(.anonymous) }
        allocation.flags = flags
        if let source = name.baseAddress {
            (block + headerSize).copyMemory(from: source, byteCount: name.count)
        }
        return allocation
    }

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

    /// Users at this moment.
    var referenceCount: UInt64 { UInt64(references.pointee.load(ordering: .relaxed)) }

    /// Gives the memory back.
    ///
    /// Nobody may hold a reference any more.
    ///
    /// - Returns: Bytes of heap that are free again; those of a mapping are counted by the pool.
    func destroy(mappings: MappingPool) -> UInt64 {
        let charge = heapCharge
        if flags.contains(.nameElsewhere) {
            free(UnsafeMutableRawPointer(mutating: name.baseAddress))
        }
        if flags.contains(.mapped) {
            mappings.give(Mapping(base: data, capacity: mappingCapacity, dirtySize: dirtySize))
        }
        free(block)
        return charge
    }

    /// Bytes of heap that this takes: its chunk of malloc and its slot in the table of names.
    var heapCharge: UInt64 {
        let elsewhere = flags.contains(.nameElsewhere) ? name.baseAddress : nil
        let nameCharge = elsewhere.map {
            UInt64(smalloc_usable_size(UnsafeMutableRawPointer(mutating: $0))) + 8
        }
        return UInt64(smalloc_usable_size(block)) + 8 + 12 + (nameCharge ?? 0)
    }

    // MARK: Mappings

    var mappingPlace: UnsafeMutableRawPointer { block + Allocation.headerSize + nameRoom }

    var mappingCapacity: Int { mappingPlace.load(fromByteOffset: 8, as: Int.self) }

    /// Bytes from the start of a mapping that may be other than zero.
    var dirtySize: Int { mappingPlace.load(fromByteOffset: 16, as: Int.self) }

    /// Notes that bytes up to `end` may be written: they are wiped before anybody else gets them.
    ///
    /// Called under the lock, before the bytes move.
    @inline(__always)
    func willWrite(upTo end: Int) {
        guard flags.contains(.mapped), end > dirtySize else { return }
        mappingPlace.storeBytes(of: end, toByteOffset: 16, as: Int.self)
    }

    /// Gives a new name, under the lock and those of both shards.
    ///
    /// False: no memory for a longer one.
    func rename(_ newName: UnsafeRawBufferPointer) -> Bool {
        guard let source = newName.baseAddress else { return false }
        let place = block + Allocation.headerSize
        let old = flags.contains(.nameElsewhere) ? name.baseAddress : nil
        if newName.count <= nameRoom {
            // `source` is the peer's input, never this place.
            place.copyMemory(from: source, byteCount: newName.count)
            flags.remove(.nameElsewhere)
        } else {
            guard let copy = malloc(newName.count) else { return false }
            copy.copyMemory(from: source, byteCount: newName.count)
            place.storeBytes(of: copy, as: UnsafeMutableRawPointer.self)
            flags.insert(.nameElsewhere)
        }
        nameSize = newName.count
        flags.remove(.anonymous)
        if let old { free(UnsafeMutableRawPointer(mutating: old)) }
        return true
    }
}
