// What a user says of an allocation, before its block: made with it, never changed, and found by
// stat alone, so that no other request pays for it.
//
//  -n           lease        72, if it has one: see Lease.swift
//  ...          metadata     padded to 8
//  -8 - rank*8  dimensions   8 each
//  -8           rank         1, or 255: no shape
//  -7           leased       1
//  -6           size         2, of the metadata
//  -4           zero         4

internal import SmallocWire

extension Allocation {
    private static let noRank: UInt8 = 255

    /// Bytes that a description takes before a block; 0 without one, or where it says nothing.
    @inline(__always)
    static func frontSize(_ description: UnsafePointer<Description>?) -> Int {
        guard let description else { return 0 }
        return size(of: description.pointee)
    }

    @inline(never)
    private static func size(of description: Description) -> Int {
        description.isEmpty
            ? 0
            : frontSize(rank: description.shape?.rank ?? 0, description.metadataSize)
                + (description.lease == nil ? 0 : Lease.size)
    }

    private static func frontSize(rank: Int, _ metadataSize: Int) -> Int {
        8 + rank * 8 + (metadataSize + 7) / 8 * 8
    }

    /// Writes what `make` left room for.
    @inline(never)
    func describe(_ description: Description) {
        let rank = description.shape.map { UInt8($0.rank) } ?? Allocation.noRank
        (block - 8).storeBytes(of: rank, as: UInt8.self)
        (block - 7).storeBytes(of: description.lease == nil ? 0 : 1, as: UInt8.self)
        (block - 6).storeBytes(of: UInt16(description.metadataSize), as: UInt16.self)
        if let shape = description.shape {
            for dimension in 0..<shape.rank {
                (dimensions + dimension * 8).storeBytes(of: shape[dimension], as: UInt64.self)
            }
        }
        description.copyMetadata(to: metadataStart)
        if let milliseconds = description.lease {
            (block - describedSize).bindMemory(to: Lease.Fields.self, capacity: 1).initialize(
                to: Lease.Fields(milliseconds: milliseconds, allocation: self))
        }
    }

    private var metadataStart: UnsafeMutableRawPointer {
        block - Allocation.frontSize(rank: rank, metadataSize)
    }

    private var hasLease: Bool { (block - 7).load(as: UInt8.self) != 0 }

    /// Whether a user says anything of one that has the flag, or has done, but a lease.
    var hasDescription: Bool { isShaped || metadataSize > 0 }

    private var metadataSize: Int { Int((block - 6).load(as: UInt16.self)) }

    /// Whether it was made with a shape.
    private var isShaped: Bool { (block - 8).load(as: UInt8.self) != Allocation.noRank }

    private var rank: Int { isShaped ? Int((block - 8).load(as: UInt8.self)) : 0 }

    private var dimensions: UnsafeMutableRawPointer { block - 8 - rank * 8 }

    /// Bytes that the description of one that has the flag takes before the block.
    var describedSize: Int {
        Allocation.frontSize(rank: rank, metadataSize) + (hasLease ? Lease.size : 0)
    }

    /// The shape of one that has the flag; nil: it was made without one, or truncated since, and
    /// its elements lie in no such dimensions any more.
    ///
    /// Under the lock.
    var shape: Shape? {
        guard isShaped else { return nil }
        var shape = Shape()
        for dimension in 0..<rank {
            _ = shape.append((dimensions + dimension * 8).load(as: UInt64.self))
        }
        return shape.length == size >> UInt64(type.shift) ? shape : nil
    }

    /// The user's bytes, which stay where they are while it lives.
    var metadata: UnsafeRawBufferPointer {
        guard flags.contains(.described) else {
            return UnsafeRawBufferPointer(start: nil, count: 0)
        }
        return UnsafeRawBufferPointer(start: metadataStart, count: metadataSize)
    }

    /// Checks what must hold of one that has the flag.
    func checkDescription() {
        precondition(rank <= Shape.rankMax, "a shape has eight dimensions at most")
        precondition(metadataSize <= Description.metadataSizeMax, "metadata is small")
        precondition(hasLease == isLeased, "a lease is known from both")
        precondition(lease.map { $0.fields.pointee.allocation == self } ?? true)
    }
}
