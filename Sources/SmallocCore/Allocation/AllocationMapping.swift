// What an allocation knows of its mapping: how large it is, how much of it was ever written, and
// how much of that by an earlier owner.
//
//   0 ............ settledSize ............ dirtySize ............
//     ours: zeros or      an earlier owner's,      zeros
//     what was written    if `unsettled`
//
// Most of what is given back and taken again within milliseconds is then written from its first
// byte to its last: to wipe it before moves as much memory as the write itself. So it is wiped when
// it is touched, as far as it is touched, and what is received into it is not wiped at all. While
// it is unsettled nothing is ever written behind `settledSize` but under the lock, which then
// moves on. File systems know it as the valid data length.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Allocation {
    /// Where small memory is, or what is known of a mapping.
    var mappingPlace: UnsafeMutableRawPointer { block + Allocation.headerSize + nameRoom }

    /// The mapping, to be given back: of mapped ones.
    var mapping: Mapping {
        Mapping(base: data, capacity: mappingCapacity, dirtySize: dirtySize)
    }

    /// Notes the mapping of a new allocation at the place where small data would be.
    ///
    /// - Returns: Whether it holds bytes of an earlier owner.
    static func note(_ mapping: Mapping, at place: UnsafeMutableRawPointer) -> Bool {
        place.storeBytes(of: mapping.base, as: UnsafeMutableRawPointer.self)
        place.storeBytes(of: mapping.capacity, toByteOffset: 8, as: Int.self)
        place.storeBytes(of: mapping.dirtySize, toByteOffset: 16, as: Int.self)
        return mapping.dirtySize > 0
    }

    var mappingCapacity: Int { mappingPlace.load(fromByteOffset: 8, as: Int.self) }

    /// Bytes of data, from the first one, that may be other than zero.
    var dirtySize: Int { mappingPlace.load(fromByteOffset: 16, as: Int.self) }

    /// Notes that bytes up to `end` may be written: they are wiped before anybody else gets them.
    ///
    /// Called under the lock, before the bytes move.
    @inline(__always)
    func willWrite(upTo end: Int) {
        guard flags.contains(.mapped), end > dirtySize else { return }
        mappingPlace.storeBytes(of: end, toByteOffset: 16, as: Int.self)
    }

    /// The bytes of a range, settled; nil: they have to be settled first.
    ///
    /// Under the lock.
    @inline(__always)
    func readable(_ extent: Extent) -> UnsafeMutableRawPointer? {
        let place = mappingPlace
        guard flags.contains(.mapped) else { return place + extent.offset }
        guard extent.size == 0 || settle(upTo: extent.end) else { return nil }
        return place.load(as: UnsafeMutableRawPointer.self) + extent.offset
    }

    /// The same, of a range that will be written.
    @inline(__always)
    func writable(_ extent: Extent) -> UnsafeMutableRawPointer? {
        let place = mappingPlace
        guard flags.contains(.mapped) else { return place + extent.offset }
        guard extent.size == 0 || settle(upTo: extent.end) else { return nil }
        if extent.size > 0 { willWrite(upTo: extent.end) }
        return place.load(as: UnsafeMutableRawPointer.self) + extent.offset
    }

    // MARK: Settling

    /// Bytes that a loop wipes at once: it takes about 10 microseconds.
    static let settledAtOnceMax = 256 << 10

    /// Bytes from the start that hold nothing of an earlier owner.
    ///
    /// Under the lock.
    var settledSize: Int {
        guard flags.contains(.unsettled) else { return .max }
        return mappingPlace.load(fromByteOffset: 32, as: Int.self)
    }

    /// Sees to it that bytes up to `end` hold nothing of an earlier owner: what is left of him
    /// becomes zeros.
    ///
    /// Under the lock, before any byte is read or written, whoever does it.
    ///
    /// - Returns: False if that is too much for a loop: see `settleStep`.
    @inline(__always)
    func settle(upTo end: Int) -> Bool {
        guard flags.contains(.unsettled) else { return true }
        return settleSlowly(upTo: end)
    }

    @inline(never)
    private func settleSlowly(upTo end: Int) -> Bool {
        let done = settledSize
        guard end > done else { return true }
        guard min(end, dirtySize) - done <= Allocation.settledAtOnceMax else { return false }
        wipe(from: done, upTo: end)
        return true
    }

    /// All from where it was settled up to `end` was overwritten.
    ///
    /// Under the lock, held since before.
    func settled(upTo end: Int) {
        if end > settledSize { noteSettled(end) }
    }

    /// Settles some more, and takes the lock for it.
    ///
    /// - Returns: Whether it is settled up to `end`.
    func settleStep(upTo end: Int) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        let done = settledSize
        // Of what was disposed of nobody reads any more.
        guard done < end, !flags.contains(.disposed) else { return true }
        wipe(from: done, upTo: min(end, done + Allocation.settledAtOnceMax))
        return settledSize >= end
    }

    /// Fewer bytes than were ever written: what is unsettled ends where they do.
    ///
    /// Under the lock, when the mapping became smaller.
    func cutDirty(to size: Int) {
        guard dirtySize > size else { return }
        mappingPlace.storeBytes(of: size, toByteOffset: 16, as: Int.self)
        if flags.contains(.unsettled), settledSize >= size { flags.remove(.unsettled) }
    }

    private func wipe(from start: Int, upTo wanted: Int) {
        let end = min(wanted, dirtySize)
        memset(data + start, 0, max(0, end - start))
        noteSettled(end)
    }

    private func noteSettled(_ end: Int) {
        mappingPlace.storeBytes(of: end, toByteOffset: 32, as: Int.self)
        if end >= dirtySize { flags.remove(.unsettled) }
    }
}
