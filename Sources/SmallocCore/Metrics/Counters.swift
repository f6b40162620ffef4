// What each loop counts. Its loop alone writes it, and any thread reads it for `stats`.

internal import SmallocWire
internal import Synchronization

/// One loop's counters.
///
/// Cheap enough to be always on: a load and a store each, no locked instruction.
public struct Counters: @unchecked Sendable {
    /// What is counted beside the operations.
    public enum Key: Int, CaseIterable {
        case errors = 32
        case bytesRead
        case bytesWritten
        case connectionsAccepted
        case connectionsClosed
        case connectionsRefused
        case pauses
        case idleTimeouts
        case requestTimeouts
        /// Not a sum but the largest that was seen.
        case longestTurnMicroseconds
    }

    private static let size = 64
    private let values: UnsafeMutablePointer<Atomic<UInt64>>

    /// All zero.
    ///
    /// Never freed: the daemon has one for each of its loops, for life.
    public init() {
        values = .allocate(capacity: Counters.size)
        for index in 0..<Counters.size { (values + index).initialize(to: Atomic(0)) }
    }

    /// Adds to a counter.
    ///
    /// From its loop's thread only.
    public func add(_ key: Key, _ amount: UInt64 = 1) { add(at: key.rawValue, amount) }

    /// Notes the largest value of a counter that is no sum.
    ///
    /// From its loop's thread only.
    public func raise(_ key: Key, to value: UInt64) {
        let counter = values + key.rawValue
        if value > counter.pointee.load(ordering: .relaxed) {
            counter.pointee.store(value, ordering: .relaxed)
        }
    }

    /// Counts an operation.
    ///
    /// From its loop's thread only.
    @inline(__always)
    func count(_ operation: Operation) { add(at: Int(operation.rawValue), 1) }

    /// Takes back what `count` counted.
    ///
    /// From its loop's thread only.
    func uncount(_ operation: Operation) { add(at: Int(operation.rawValue), .max) }

    @inline(__always)
    private func add(at index: Int, _ amount: UInt64) {
        let value = values[index].load(ordering: .relaxed)
        values[index].store(value &+ amount, ordering: .relaxed)
    }

    /// A counter's value, from any thread.
    public func value(_ key: Key) -> UInt64 { values[key.rawValue].load(ordering: .relaxed) }

    func value(_ operation: Operation) -> UInt64 {
        values[Int(operation.rawValue)].load(ordering: .relaxed)
    }
}
