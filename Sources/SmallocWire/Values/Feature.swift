// What a daemon may have beyond the base of version 1. Source: protocol/values.json.

/// A group of operations, told by a bit of `features` in the greeting.
///
/// The raw value is the bit's number.
@frozen
public enum Feature: UInt8, CaseIterable, Sendable {
    /// `map` and `unmap`, and the flag `shareable`; never told over TCP.
    case map = 0
    /// `atomic`.
    case atomics = 1
    /// `wait` and `notify`.
    case wait = 2
    /// `freeze`.
    case freeze = 4
    /// The flag `leased` of `alloc`.
    case lease = 5
    /// Element types 10 to 16, and descriptions.
    case types = 6

    /// The bit, as a number.
    @inlinable public var bits: UInt64 { 1 << UInt64(rawValue) }

    /// The name in protocol/values.json.
    public var name: String { "\(self)" }
}
