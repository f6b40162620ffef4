// Data on its way straight between a socket and an allocation.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

/// A payload that leaves from, or arrives in, an allocation, without a copy in between.
///
/// Holds a reference, so that a dispose meanwhile takes nothing away under it. Ended by
/// `Registry.end`, once.
struct Transfer {
    let allocation: Allocation
    let operation: UInt8
    let cookie: UInt64
    /// Bytes in all.
    let size: Int
    /// First byte of the allocation's data; looked up once, under the lock.
    private let base: UnsafeMutableRawPointer
    private let ranges: UnsafeMutablePointer<Extent>
    private let rangeCount: Int
    private var index = 0
    private var position = 0
    /// Bytes still to move.
    private(set) var left: Int

    /// Takes over the caller's reference.
    ///
    /// Under the allocation's lock. Nil: no memory for the ranges.
    init?(_ allocation: Allocation, _ extents: UnsafeBufferPointer<Extent>, _ header: FrameHeader) {
        guard !extents.isEmpty, let memory = malloc(extents.count * MemoryLayout<Extent>.stride),
            let source = extents.baseAddress
        else { return nil }
        ranges = memory.bindMemory(to: Extent.self, capacity: extents.count)
        ranges.initialize(from: source, count: extents.count)
        rangeCount = extents.count
        self.allocation = allocation
        allocation.pin()
        base = allocation.data
        operation = header.operation
        cookie = header.cookie
        // The sum was checked against the frame size, so it fits.
        size = extents.reduce(0) { $0 + $1.size }
        left = size
        skipEmpty()
    }

    /// The next piece of memory to send from or receive into; empty at the end.
    var piece: UnsafeMutableRawBufferPointer {
        guard index < rangeCount else { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        let extent = ranges[index]
        return UnsafeMutableRawBufferPointer(
            start: base + extent.offset + position, count: extent.size - position)
    }

    /// `count` bytes of the piece have moved.
    mutating func advance(_ count: Int) {
        position += count
        left -= count
        skipEmpty()
    }

    private mutating func skipEmpty() {
        while index < rangeCount, position == ranges[index].size {
            index += 1
            position = 0
        }
    }

    func freeRanges() { free(ranges) }
}
