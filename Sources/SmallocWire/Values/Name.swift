// The grammar of names.

/// Names of allocations: 1 to 255 bytes of printable ASCII without spaces (0x21 to 0x7E).
public enum Name {
    /// Whether bytes are a name.
    public static func isValid(_ name: RawSpan) -> Bool {
        name.withUnsafeBytes { isValid($0) }
    }

    /// Whether bytes are a name.
    ///
    /// Cost: about ten instructions for each 8 bytes.
    public static func isValid(_ name: UnsafeRawBufferPointer) -> Bool {
        guard let start = name.baseAddress, name.count > 0, name.count <= Limits.nameSizeMax else {
            return false
        }
        guard name.count >= 8 else { return name.allSatisfy { $0 > 0x20 && $0 < 0x7F } }
        var at = 0
        while at &+ 8 < name.count {
            guard isPrintable(start.loadUnaligned(fromByteOffset: at, as: UInt64.self)) else {
                return false
            }
            at &+= 8
        }
        // The last 8 bytes, some of which were looked at before.
        return isPrintable(
            start.loadUnaligned(fromByteOffset: name.count &- 8, as: UInt64.self))
    }

    /// Whether each of 8 bytes is 0x21 to 0x7E.
    @inline(__always)
    private static func isPrintable(_ bytes: UInt64) -> Bool {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let tops = ones &* 0x80
        // A byte's top bit tells that it is over 0x7F, or is after 1 was added; and with that bit
        // set first, that 0x21 can be taken off. What spills over into the next byte comes from one
        // that is over already, and one is enough.
        let over = (bytes | (bytes &+ ones)) & tops
        let under = ~((bytes | tops) &- ones &* 0x21) & tops
        return over | under == 0
    }
}
