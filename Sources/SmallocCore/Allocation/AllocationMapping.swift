// What an allocation knows of its mapping: how large it is, and how much of it was ever written.

internal import Glibc
internal import SmallocWire

/// What a request is about to do to the bytes that it asks for.
enum Intent {
    case read
    case modify
    /// One request overwrites the allocation from its first byte to its last, front to back.
    case overwrite
}

/// The answer to `Allocation.access`.
enum Access {
    /// The first of the bytes, until the lock is given back or, with a pin, until that ends.
    case here(UnsafeMutableRawPointer)
    /// They are not at hand: see `Registry.later`. The request is served again after it.
    case later
}

extension Allocation {
    /// Where small memory is, or what is known of a mapping.
    var mappingPlace: UnsafeMutableRawPointer { block + Allocation.headerSize + nameRoom }

    /// The mapping, to be given back: of mapped ones.
    var mapping: Mapping {
        Mapping(
            base: data, capacity: mappingCapacity, madeSize: madeSize, dirtySize: dirtySize)
    }

    /// Notes the mapping of a new allocation at the place where small data would be.
    static func note(_ mapping: Mapping, at place: UnsafeMutableRawPointer) {
        place.storeBytes(of: mapping.base, as: UnsafeMutableRawPointer.self)
        place.storeBytes(of: mapping.capacity, toByteOffset: 8, as: Int.self)
        place.storeBytes(of: mapping.dirtySize, toByteOffset: 16, as: Int.self)
        place.storeBytes(of: mapping.madeSize, toByteOffset: 32, as: Int.self)
    }

    /// Bytes that the mapping was made with.
    private var madeSize: Int { mappingPlace.load(fromByteOffset: 32, as: Int.self) }

    var mappingCapacity: Int { mappingPlace.load(fromByteOffset: 8, as: Int.self) }

    /// Bytes of data, from the first one, that may be other than zero.
    var dirtySize: Int { mappingPlace.load(fromByteOffset: 16, as: Int.self) }

    /// The bytes of a range that was checked against `size`.
    ///
    /// Under the lock. The only way to an allocation's bytes, for every operation and for each
    /// piece of a transfer.
    @inline(__always)
    func access(_ extent: Extent, _ intent: Intent) -> Access {
        let place = mappingPlace
        guard flags.contains(.mapped) else { return .here(place + extent.offset) }
        if intent != .read, extent.size > 0, extent.end > dirtySize {
            place.storeBytes(of: extent.end, toByteOffset: 16, as: Int.self)
        }
        return .here(place.load(as: UnsafeMutableRawPointer.self) + extent.offset)
    }

    /// Bytes up to `end` have arrived of a request that overwrites the whole allocation.
    ///
    /// Under the lock, after each piece that `access` gave for it.
    func overwritten(upTo end: Int) {}

    /// Fewer bytes than were ever written.
    ///
    /// Under the lock, when the mapping became smaller.
    func cutDirty(to size: Int) {
        guard dirtySize > size else { return }
        mappingPlace.storeBytes(of: size, toByteOffset: 16, as: Int.self)
    }
}
