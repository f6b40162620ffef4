// What a `wait` is answered. Source: protocol/spec.md § wait.

/// Why a wait is over.
///
/// The raw value is the number on the wire.
@frozen
public enum WaitResult: UInt64, CaseIterable, Sendable {
    /// The cell held another value when the wait began.
    case differs = 0
    /// It was notified; a change of the allocation, or nothing at all, may look like that, too.
    case notified = 1
    /// The time was up.
    case timeout = 2
    /// The cell is gone: the allocation was disposed of, or truncated before the cell.
    case disposed = 3

    /// The word in text mode, and the name in protocol/values.json.
    public var name: String { "\(self)" }
}
