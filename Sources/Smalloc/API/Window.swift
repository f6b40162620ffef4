// Elements of an allocation or a slice, as bytes of the remote memory.

internal import SmallocWire

/// What an object looks at: all of an allocation, or a slice of it.
struct Window {
    let type: ElementType
    /// First byte, in the remote allocation.
    let start: Int
    /// Bytes from there, as far as is known.
    let size: Int
    let isSlice: Bool

    /// - Parameters:
    ///   - whole: Bytes of the remote allocation, as far as is known.
    ///   - start: First byte of a slice.
    ///   - sliceSize: Bytes of a slice; nil for all of the allocation.
    init(_ type: ElementType, _ whole: Int, _ start: Int, _ sliceSize: Int?) {
        self.type = type
        self.start = start
        size = sliceSize.map { min($0, max(0, whole - start)) } ?? whole
        isSlice = sliceSize != nil
    }

    var length: Int { size >> type.shift }

    /// Turns elements into bytes of the remote allocation.
    ///
    /// All of an allocation is checked by the daemon, which alone knows; a slice's end only we
    /// know.
    @inline(__always)
    func resolve(
        _ start: Int, _ count: Int
    ) throws(SmallocError) -> (offset: UInt64, size: UInt64) {
        let offset = type.bytes(start)
        let size = type.bytes(count)
        guard isSlice else { return (offset, size) }
        let held = UInt64(self.size)
        if offset > held { throw .outOfRange("start > length") }
        if size > held - offset { throw .outOfRange("start + count > length") }
        return (UInt64(self.start) + offset, size)
    }

    /// The same, and whether it lies within what is known of the remote allocation.
    ///
    /// - Parameter whole: Bytes of the remote allocation, as far as is known.
    @inline(__always)
    func resolve(
        _ start: Int, _ count: Int, of whole: Int
    ) throws(SmallocError) -> (offset: UInt64, size: UInt64, isKnown: Bool) {
        let (offset, size) = try resolve(start, count)
        let held = UInt64(whole)
        return (offset, size, offset <= held && size <= held - offset)
    }

    /// Elements from `start` to the end; 0 if it lies outside, which the daemon then refuses.
    func countFrom(_ start: Int) -> Int {
        start >= 0 && start < length ? length - start : 0
    }

    /// A part as the start and size of a slice, in bytes.
    func slice(_ start: Int, _ end: Int) throws(SmallocError) -> (start: Int, size: Int) {
        if start < 0 || start > length { throw .outOfRange("start > length") }
        if end < 0 || end > length { throw .outOfRange("end > length") }
        if start > end { throw .outOfRange("start > end") }
        return (self.start + start << type.shift, (end - start) << type.shift)
    }

    /// Byte offsets and size of a copy.
    ///
    /// A slice's end is known only here; without slices the daemon checks everything.
    func copy(
        _ sourceStart: Int, _ count: Int, onto dest: Window, _ destStart: Int
    ) throws(SmallocError) -> (offset: UInt64, destOffset: UInt64, size: UInt64) {
        let offset = type.bytes(sourceStart)
        let destOffset = dest.type.bytes(destStart)
        let size = type.bytes(count)
        guard isSlice || dest.isSlice else { return (offset, destOffset, size) }
        try Window.checkCopy(UInt64(self.size), offset, UInt64(dest.size), destOffset, size)
        return (offset + UInt64(start), destOffset + UInt64(dest.start), size)
    }

    /// Node's six comparisons, in bytes and in its order.
    private static func checkCopy(
        _ source: UInt64, _ sourceStart: UInt64, _ dest: UInt64, _ destStart: UInt64, _ size: UInt64
    ) throws(SmallocError) {
        if size > source { throw .outOfRange("copy_length > source_length") }
        if size > dest { throw .outOfRange("copy_length > dest_length") }
        if sourceStart > source { throw .outOfRange("source_start > source_length") }
        if destStart > dest { throw .outOfRange("dest_start > dest_length") }
        if size > source - sourceStart {
            throw .outOfRange("source_start + copy_length > source_length")
        }
        if size > dest - destStart { throw .outOfRange("dest_start + copy_length > dest_length") }
    }

    /// One element with a number stored in it, as a fill pattern.
    func pattern(_ value: Double) throws(SmallocError) -> [UInt8] {
        try type.checkDouble()
        var element: UInt64 = 0
        type.store(value, at: &element)
        return withUnsafeBytes(of: element) { Array($0[..<type.size]) }
    }

    /// Refuses a pattern that no fill takes.
    static func checkPattern(_ pattern: [UInt8]) throws(SmallocError) {
        guard (1...Limits.fillPatternSizeMax).contains(pattern.count) else {
            throw .invalidArgument(
                "a fill pattern has 1 to \(Limits.fillPatternSizeMax) bytes, not \(pattern.count)")
        }
    }

    /// Ranges in bytes, in groups that fit a frame each.
    func groups(
        _ ranges: [Range<Int>], frameSizeMax: UInt64
    ) throws(SmallocError) -> [[(offset: UInt64, size: UInt64)]] {
        let ranged = UInt64(Limits.rangesMax * 16)
        let most = frameSizeMax > 2 * ranged ? frameSizeMax - ranged : frameSizeMax / 2
        var groups: [[(offset: UInt64, size: UInt64)]] = []
        var group: [(offset: UInt64, size: UInt64)] = []
        var held: UInt64 = 0
        for range in ranges where !range.isEmpty {
            var (offset, size) = try resolve(range.lowerBound, range.count)
            while size > 0 {
                if group.count == Limits.rangesMax || held == most {
                    groups.append(group)
                    group = []
                    held = 0
                }
                let part = min(size, most - held)
                group.append((offset, part))
                held += part
                offset += part
                size -= part
            }
        }
        if !group.isEmpty { groups.append(group) }
        return groups
    }
}
