// What a `watch` tells of. Source: protocol/spec.md § watch.

/// What has become of a name.
///
/// The raw value is the number on the wire.
@frozen
public enum EventKind: UInt8, CaseIterable, Sendable {
    /// An allocation was made under the name, or one that had no name got it.
    case allocated = 1
    /// The allocation was disposed of.
    case disposed = 2
    /// The allocation has another name now, which was free.
    case renamed = 3
    /// The allocation has another name now, and took the place of the one that had it.
    case replaced = 4
    /// The allocation is shorter than it was.
    case truncated = 5
    /// The allocation's bytes can't be changed any more.
    case frozen = 6

    /// The word in text mode, and the name in protocol/values.json.
    public var name: String { "\(self)" }
}
