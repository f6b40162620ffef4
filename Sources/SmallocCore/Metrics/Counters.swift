// What each loop counts. Its loop alone writes it, and any thread reads it for `stats`.

public import SmallocWire
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

    // Computed, so that each use is a constant.

    /// Numbers of operations are below this.
    @inline(__always) static var operationMax: Int { 32 }
    /// Behind the counters: a bit for each operation that was counted since `settle`.
    @inline(__always) private static var touchedAt: Int { 63 }
    /// Refusals by status.
    @inline(__always) private static var refusalsAt: Int { 64 }
    /// The histograms of durations: see Durations.swift.
    @inline(__always) static var durationsAt: Int { refusalsAt + 64 }
    /// The requests that are in the histograms, by operation.
    @inline(__always) static var settledAt: Int { durationsAt + operationMax * durationCells }
    private static var size: Int { settledAt + operationMax }
    let values: UnsafeMutablePointer<Atomic<UInt64>>

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
    func count(_ operation: Operation) {
        add(at: Int(operation.rawValue), 1)
        touched |= 1 << UInt64(operation.rawValue)
    }

    /// The operations that were counted since `settle` was last called, a bit each.
    @inline(__always)
    var touched: UInt64 {
        get { own[Counters.touchedAt] }
        nonmutating set { own[Counters.touchedAt] = newValue }
    }

    /// The numbers as its loop's thread may touch those that no other thread reads.
    @inline(__always)
    var own: UnsafeMutablePointer<UInt64> {
        UnsafeMutableRawPointer(values).assumingMemoryBound(to: UInt64.self)
    }

    /// Counts a request that was refused, or a connection that was ended, with a status.
    ///
    /// From its loop's thread only.
    public func refuse(_ status: Status) {
        add(.errors)
        add(at: Counters.refusalIndex(status), 1)
    }

    /// How many were refused with a status, from any thread.
    func refusals(_ status: Status) -> UInt64 {
        values[Counters.refusalIndex(status)].load(ordering: .relaxed)
    }

    /// Statuses that close have places of their own; those beyond the table share one.
    private static func refusalIndex(_ status: Status) -> Int {
        let number = min(Int(status.rawValue & 0x3FFF), 31)
        return refusalsAt + number + (status.closes ? 32 : 0)
    }

    /// Takes back what `count` counted.
    ///
    /// From its loop's thread only.
    func uncount(_ operation: Operation) { add(at: Int(operation.rawValue), .max) }

    @inline(__always)
    func add(at index: Int, _ amount: UInt64) {
        let value = values[index].load(ordering: .relaxed)
        values[index].store(value &+ amount, ordering: .relaxed)
    }

    /// A counter's value, from any thread.
    public func value(_ key: Key) -> UInt64 { values[key.rawValue].load(ordering: .relaxed) }

    func value(_ operation: Operation) -> UInt64 {
        values[Int(operation.rawValue)].load(ordering: .relaxed)
    }
}
