// The grammar of names.

/// Names of allocations: 1 to 255 bytes of printable ASCII without spaces (0x21 to 0x7E).
public enum Name {
    /// Whether bytes are a name.
    public static func isValid(_ name: RawSpan) -> Bool {
        name.withUnsafeBytes { isValid($0) }
    }

    /// Whether bytes are a name.
    public static func isValid(_ name: UnsafeRawBufferPointer) -> Bool {
        guard !name.isEmpty, name.count <= Limits.nameSizeMax else { return false }
        return name.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }
}
