// What is known of memory that is not inline: where it is, and how far it was written.
//
//    0  base            8  first byte, a multiple of the page size; 0: no memory yet
//    8  capacity        8  bytes that are charged, a multiple of the page size
//   16  made            8  bytes of address space, and in the bits below a page's: the kind
//   24  writtenSize     8  bytes, from the first one, that may be other than zero
//   32  overwrittenEnd  8  with memory: see below. Without: the pool that it comes from.
//                          In a list of the pool: the next one
//   40  staleEnd        8  in a list of the pool: the previous one
//   48  pieceEnd        8  in a list of the pool: a number or a time
//   56  pins            4  transfers and work under way
//   60  owner           4  the user that the allocation belongs to
//   64  descriptor      4  of shared memory: its file, and 1; else 0
//   68  slot            4  of shared memory: its place in the state memory
//   72  atWork          4  system calls and slices under way that move bytes without the lock
//   76  sharing         4  flags, see `Sharing`
//   80  movedEnd        8  of a mapping: bytes that are in the file already
//       keptEnd            of a file: bytes that no truncate has given back; 0: all
//   88  writers         4  transfers and work under way that write
//   92                  4  nothing
//
// Stale bytes are another allocation's: memory that was given back may be handed, before it is
// wiped, to a request that overwrites all of it. They are [overwrittenEnd, staleEnd). That
// request's piece under way is [overwrittenEnd, pieceEnd), and is its own until it says how far it
// came. Other requests wait until the rest is wiped, from the back, so that the two never meet.
//
// This is for users that put a whole frame or tensor into fresh memory, over and over: to wipe what
// is overwritten at once is to move as many bytes for nothing. It costs the three fields above, and
// the answer `later`, which no other operation has to know the reason of.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

/// What a request is about to do to the bytes that it asks for.
enum Intent {
    case read
    case modify
    /// One request overwrites the allocation from its first byte to its last, front to back.
    ///
    /// After each piece, and if no byte of it arrived, `overwritten` must be told.
    case overwrite
}

/// The answer to `Allocation.access`.
enum Access {
    /// The first of the bytes, until the lock is given back or, with a pin, until that ends.
    case here(UnsafeMutableRawPointer)
    /// They are not at hand: see `Registry.later`. The request is served again after it.
    case later
    /// The system has no memory for them; nothing has changed.
    case failed
    /// They can't be changed any more.
    case frozen
    /// They are being frozen, which may fail.
    case busy

    /// The first of the bytes, or nil for `later`.
    ///
    /// - Throws: `.outOfMemory` for `failed`, `.frozen`, `.busy`.
    @inline(__always)
    func atHand() throws(SmallocError) -> UnsafeMutableRawPointer? {
        switch self {
        case .here(let start): return start
        case .later: return nil
        case .failed: throw .outOfMemory
        case .frozen: throw .frozen
        case .busy: throw .busy
        }
    }
}

/// A pointer to a record of 96 bytes, which comes from the block pool.
///
/// Guarded by its allocation's lock, and by the pool's when it is in one of its lists.
struct StorageRecord: Equatable, @unchecked Sendable {
    enum Kind: Int {
        /// No memory yet: it comes with the first access.
        case none
        case arena
        case mapping
        /// The end of an allocation's memory, whose beginning stays in use.
        case tail
        /// The same of a mapping of its own, of which the addresses go as well.
        case mappingTail
        /// A file in memory, mapped here, that clients can map as well.
        case memfd
        /// The end of one.
        case memfdTail
    }

    /// What is known of memory that clients map, or that is on its way to be such.
    struct Sharing: OptionSet {
        let rawValue: UInt32
        /// A client asked for memory that can be mapped.
        static let shareable = Sharing(rawValue: 1)
        /// A client was given a descriptor: its pages are never another allocation's.
        static let handedOut = Sharing(rawValue: 2)
        /// Its bytes move to a file: they are touched under the lock only, meanwhile.
        static let moving = Sharing(rawValue: 4)
        /// It is being frozen: a request that would write is answered `busy`.
        static let freezing = Sharing(rawValue: 8)
        /// Its pages were made before they were touched.
        static let populated = Sharing(rawValue: 16)
        /// Its file is sealed against writing.
        static let sealed = Sharing(rawValue: 32)
        /// A truncate has given back, or is giving back, the end of its file.
        static let cut = Sharing(rawValue: 64)
    }

    static let size = 96
    private static let kindMask = 15
    private static let mustGoBit = 16

    let address: UnsafeMutableRawPointer

    @inline(__always)
    private func word(_ offset: Int) -> Int { address.load(fromByteOffset: offset, as: Int.self) }

    @inline(__always)
    private func set(_ offset: Int, _ value: Int) {
        address.storeBytes(of: value, toByteOffset: offset, as: Int.self)
    }

    // MARK: Memory

    /// First byte; nil: no memory yet.
    var base: UnsafeMutableRawPointer? {
        address.load(as: UnsafeMutableRawPointer?.self)
    }

    /// Bytes that are charged.
    var capacity: Int {
        get { word(8) }
        nonmutating set { set(8, newValue) }
    }

    /// Bytes of address space; more than the capacity after a truncate.
    var madeSize: Int {
        get { word(16) & ~(SystemMemory.pageSize - 1) }
        nonmutating set { set(16, newValue | word(16) & (SystemMemory.pageSize - 1)) }
    }

    var kind: Kind { Kind(rawValue: word(16) & StorageRecord.kindMask) ?? .none }

    /// Not to be kept warm: it goes back to the kernel.
    var mustGo: Bool {
        get { word(16) & StorageRecord.mustGoBit != 0 }
        nonmutating set {
            let others = word(16) & ~StorageRecord.mustGoBit
            set(16, newValue ? others | StorageRecord.mustGoBit : others)
        }
    }

    /// Bytes, from the first one, that may be other than zero.
    var writtenSize: Int {
        get { word(24) }
        nonmutating set { set(24, newValue) }
    }

    /// Transfers and work under way.
    var pins: UInt32 {
        get { address.load(fromByteOffset: 56, as: UInt32.self) }
        nonmutating set { address.storeBytes(of: newValue, toByteOffset: 56, as: UInt32.self) }
    }

    /// The user that the allocation belongs to, by the system's number.
    var owner: UInt32 {
        get { address.load(fromByteOffset: 60, as: UInt32.self) }
        nonmutating set { address.storeBytes(of: newValue, toByteOffset: 60, as: UInt32.self) }
    }

    // MARK: Sharing

    /// The file of shared memory; -1: none.
    var descriptor: Int32 {
        get { address.load(fromByteOffset: 64, as: Int32.self) - 1 }
        nonmutating set { address.storeBytes(of: newValue + 1, toByteOffset: 64, as: Int32.self) }
    }

    /// Its place in the state memory; 0: none.
    var slot: UInt32 {
        get { address.load(fromByteOffset: 68, as: UInt32.self) }
        nonmutating set { address.storeBytes(of: newValue, toByteOffset: 68, as: UInt32.self) }
    }

    /// System calls and slices of work under way that move bytes without the lock.
    var atWork: UInt32 {
        get { address.load(fromByteOffset: 72, as: UInt32.self) }
        nonmutating set { address.storeBytes(of: newValue, toByteOffset: 72, as: UInt32.self) }
    }

    var sharing: Sharing {
        get { Sharing(rawValue: address.load(fromByteOffset: 76, as: UInt32.self)) }
        nonmutating set {
            address.storeBytes(of: newValue.rawValue, toByteOffset: 76, as: UInt32.self)
        }
    }

    /// Bytes from the first one that a promotion has moved to the file.
    var movedEnd: Int {
        get { word(80) }
        nonmutating set { set(80, newValue) }
    }

    /// Transfers and work under way that write.
    var writers: UInt32 {
        get { address.load(fromByteOffset: 88, as: UInt32.self) }
        nonmutating set { address.storeBytes(of: newValue, toByteOffset: 88, as: UInt32.self) }
    }

    /// Of a file that stays charged as a whole: bytes from the first one that no truncate has given
    /// back; 0: all.
    var keptEnd: Int {
        get { word(80) }
        nonmutating set { set(80, newValue) }
    }

    /// Whether it stands for one of the files that are counted.
    var isCountedShare: Bool { sharing.contains(.shareable) || descriptor >= 0 }

    /// Fills in a new record, which gets its memory of `pool` later.
    func initialize(capacity: Int, owner: UInt32, pool: MappingPool) {
        memset(address, 0, StorageRecord.size)
        self.capacity = capacity
        self.owner = owner
        set(32, Int(bitPattern: Unmanaged.passUnretained(pool).toOpaque()))
    }

    /// Notes the memory of a record that had none.
    func attach(
        _ base: UnsafeMutableRawPointer, _ kind: Kind, madeSize: Int, writtenSize: Int
    ) {
        set(0, Int(bitPattern: base))
        set(16, madeSize | kind.rawValue)
        self.writtenSize = writtenSize
        for offset in [32, 40, 48] { set(offset, 0) }
    }

    /// Its mapping has moved to its file as a whole.
    func becomeFile(slot: UInt32) {
        set(16, madeSize | Kind.memfd.rawValue)
        self.slot = slot
        movedEnd = 0
    }

    /// Makes what is written zero in steps, the last one first.
    ///
    /// - Parameter pause: Called after each.
    func wipe(pause: () -> Void = {}) {
        guard let base else { return }
        while writtenSize > 0 {
            let step = min(Yielding.stepSize, writtenSize)
            memset(base + (writtenSize - step), 0, step)
            writtenSize -= step
            pause()
        }
    }

    // MARK: Lists of the pool

    var next: StorageRecord? {
        get { UnsafeMutableRawPointer(bitPattern: word(32)).map { StorageRecord(address: $0) } }
        nonmutating set { set(32, newValue.map { Int(bitPattern: $0.address) } ?? 0) }
    }

    var previous: StorageRecord? {
        get { UnsafeMutableRawPointer(bitPattern: word(40)).map { StorageRecord(address: $0) } }
        nonmutating set { set(40, newValue.map { Int(bitPattern: $0.address) } ?? 0) }
    }

    /// In the queue its number, among the warm ones when it became so.
    var mark: UInt64 {
        get { UInt64(bitPattern: Int64(word(48))) }
        nonmutating set { set(48, Int(Int64(bitPattern: newValue))) }
    }

    // MARK: Access

    private var overwrittenEnd: Int {
        get { word(32) }
        nonmutating set { set(32, newValue) }
    }

    private var staleEnd: Int {
        get { word(40) }
        nonmutating set { set(40, newValue) }
    }

    private var pieceEnd: Int {
        get { word(48) }
        nonmutating set { set(48, newValue) }
    }

    /// Whether bytes are left that are another allocation's.
    var isStale: Bool { kind != .none && overwrittenEnd < staleEnd }

    /// See `Allocation.access`.
    ///
    /// - Parameter length: Bytes of the allocation.
    @inline(never)
    func access(_ extent: Extent, _ intent: Intent, length: UInt64) -> Access {
        switch kind {
        case .none:
            // Nothing is there to be read or written.
            if extent.size == 0 { return .here(address) }
            guard attachMemory(extent, intent, length: length) else { return .failed }
        case .arena, .mapping, .memfd: break
        case .tail, .mappingTail, .memfdTail:
            preconditionFailure("an allocation has more than a tail")
        }
        if overwrittenEnd < staleEnd, !isFree(extent, intent) { return .later }
        if intent != .read, extent.size > 0, extent.end > writtenSize { writtenSize = extent.end }
        guard let base else { return .failed }
        return .here(base + extent.offset)
    }

    private func attachMemory(_ extent: Extent, _ intent: Intent, length: UInt64) -> Bool {
        guard let pointer = UnsafeRawPointer(bitPattern: word(32)) else { return false }
        let pool = Unmanaged<MappingPool>.fromOpaque(pointer).takeUnretainedValue()
        let isWhole = intent == .overwrite && extent.offset == 0
        guard pool.attach(self, unwiped: isWhole, size: length) else { return false }
        guard isWhole, writtenSize > 0, let base else { return true }
        staleEnd = min(writtenSize, Int(length))
        // What lies behind the last byte, less than a page, could be mapped one day.
        if writtenSize > Int(length) {
            memset(base + Int(length), 0, writtenSize - Int(length))
            writtenSize = Int(length)
        }
        return true
    }

    /// Whether a request may have bytes although stale ones are left.
    private func isFree(_ extent: Extent, _ intent: Intent) -> Bool {
        guard pieceEnd <= overwrittenEnd else { return false }
        if intent == .overwrite, extent.offset == overwrittenEnd, extent.size > 0 {
            pieceEnd = extent.end
            return true
        }
        guard staleEnd - overwrittenEnd <= Thresholds.wipedAtOnceMax else { return false }
        return wipeStale(Thresholds.wipedAtOnceMax)
    }

    /// See `Allocation.overwritten`.
    func overwritten(upTo end: Int) {
        guard isStale else { return }
        overwrittenEnd = max(overwrittenEnd, end)
        pieceEnd = overwrittenEnd
        if overwrittenEnd >= staleEnd { endStale() }
    }

    /// Wipes up to `count` stale bytes, from the back, and none of the piece under way.
    ///
    /// - Returns: Whether none is left.
    func wipeStale(_ count: Int) -> Bool {
        guard isStale, let base else { return true }
        let start = max(overwrittenEnd, pieceEnd, staleEnd - count)
        if start < staleEnd {
            memset(base + start, 0, staleEnd - start)
            staleEnd = start
        }
        guard overwrittenEnd >= staleEnd else { return false }
        endStale()
        return true
    }

    /// Bytes from `size` on are out of reach from now on, and no longer written.
    func cut(to size: Int) {
        writtenSize = min(writtenSize, size)
        guard isStale else { return }
        staleEnd = min(staleEnd, size)
        if overwrittenEnd >= staleEnd { endStale() }
    }

    private func endStale() { for offset in [32, 40, 48] { set(offset, 0) } }

    /// Checks what must hold of an allocation's record under its lock.
    func checkInvariants(length: UInt64) {
        precondition(capacity > 0 && capacity % SystemMemory.pageSize == 0, "pages are charged")
        guard kind != .none else {
            precondition(base == nil && pins == 0, "no memory, and nothing under way in it")
            precondition(atWork == 0 && descriptor < 0, "and no file")
            return
        }
        precondition(base != nil && capacity <= madeSize, "what is charged has addresses")
        precondition(length <= UInt64(capacity) || pins > 0, "all bytes have memory")
        precondition(writtenSize <= capacity, "what is written has memory")
        precondition(overwrittenEnd >= 0 && overwrittenEnd <= staleEnd, "stale bytes are a range")
        precondition(staleEnd <= writtenSize, "stale bytes are written ones")
        precondition((kind == .memfd) == (slot != 0), "shared memory has a slot")
        precondition(kind != .memfd || descriptor >= 0, "and a file")
        precondition(writers <= pins, "who writes has pinned it")
    }
}
