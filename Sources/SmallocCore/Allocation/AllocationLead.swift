// Where in its mapping large data begins: in the middle of a page, if pages have 4 KiB.
//
// Where the two addresses of a copy lie a few bytes apart within a page, processors may copy at a
// fraction of their speed (AMD EPYC, `rep movsb`: a twelfth if the dest lies 1 to 31 bytes behind,
// two thirds at 32 to 64). Whoever reads has memory that mostly begins 0, 16 or 48 bytes behind a
// page, and what is copied into a socket lies behind the 40 bytes of its header. Half a page is far
// from all of them: readers with malloc's memory were up to 2.5 times as fast, large reads that are
// copied up to 1.3 times.

internal import Glibc

extension Allocation {
    private static let leadSize = 2048
    /// Bytes of data from which on there is a lead: it takes a page more, which is then little.
    static let ledSizeMin = 256 << 10

    /// Bytes of a mapping before the data of an allocation of so many bytes.
    @inline(__always)
    static func lead(for size: Int) -> Int { size >= ledSizeMin ? leadSize : 0 }

    /// Bytes of mapping that an allocation of so many needs.
    @inline(__always)
    static func mappingSize(for size: Int) -> Int { size + lead(for: size) }

    /// Bytes of this one's mapping before its data, which are always zeros.
    ///
    /// Of mapped ones; mappings begin at a page of 4 KiB or more. A truncate does not change it.
    var lead: Int { Int(bitPattern: data) & Allocation.leadSize }

    /// The mapping, to be given back: of mapped ones.
    var mapping: Mapping {
        Mapping(
            base: data - lead, capacity: mappingCapacity,
            dirtySize: dirtySize > 0 ? lead + dirtySize : 0)
    }

    /// Notes the mapping of a new allocation.
    ///
    /// - Parameters:
    ///   - place: Where small data would be.
    ///   - size: Bytes of data.
    /// - Returns: Whether it holds bytes of an earlier owner.
    static func note(
        _ mapping: Mapping, at place: UnsafeMutableRawPointer, size: Int
    ) -> Bool {
        let lead = lead(for: size)
        // An earlier owner had one, too, by the mapping's size; but nothing here depends on that.
        if mapping.dirtySize > 0, lead > 0 {
            memset(mapping.base, 0, min(lead, mapping.dirtySize))
        }
        let dirtySize = max(0, mapping.dirtySize - lead)
        place.storeBytes(of: mapping.base + lead, as: UnsafeMutableRawPointer.self)
        place.storeBytes(of: mapping.capacity, toByteOffset: 8, as: Int.self)
        place.storeBytes(of: dirtySize, toByteOffset: 16, as: Int.self)
        place.storeBytes(of: 0, toByteOffset: 40, as: Int.self)
        return dirtySize > 0
    }
}
