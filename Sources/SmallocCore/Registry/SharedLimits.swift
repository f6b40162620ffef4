// The limits in force, for all threads; a reload changes them under running requests.

public import SmallocWire
internal import Synchronization

/// `Limits` that every loop reads without a lock.
///
/// A relaxed load is a plain one.
public final class SharedLimits: Sendable {
    private let memory: Atomic<UInt64>
    private let length: Atomic<UInt64>
    private let allocations: Atomic<UInt64>
    private let connections: Atomic<UInt64>
    private let frame: Atomic<UInt64>
    private let inFlight: Atomic<UInt64>
    private let handles: Atomic<UInt64>
    private let output: Atomic<UInt64>
    private let line: Atomic<UInt64>
    private let name: Atomic<UInt64>
    private let idle: Atomic<UInt64>
    private let request: Atomic<UInt64>

    /// Bytes that a process can address at all.
    ///
    /// Limits on sizes mean at most this, so that no sum of a size that passed them and a bit of
    /// overhead overflows.
    private static let addressableMax: UInt64 = 1 << 47

    /// The same limits, as far as a machine can have them.
    private static func possible(_ limits: Limits) -> Limits {
        var limits = limits
        limits.lengthSizeMax = min(limits.lengthSizeMax, addressableMax)
        limits.frameSizeMax = min(limits.frameSizeMax, UInt64(UInt32.max))
        limits.outputSizeMax = min(limits.outputSizeMax, addressableMax)
        limits.lineSizeMax = min(limits.lineSizeMax, addressableMax)
        return limits
    }

    /// Starts with `limits` in force.
    public init(_ limits: Limits) {
        let limits = SharedLimits.possible(limits)
        memory = Atomic(limits.memorySizeMax)
        length = Atomic(limits.lengthSizeMax)
        allocations = Atomic(limits.allocationsMax)
        connections = Atomic(limits.connectionsMax)
        frame = Atomic(limits.frameSizeMax)
        inFlight = Atomic(limits.requestsInFlightMax)
        handles = Atomic(limits.handlesMax)
        output = Atomic(limits.outputSizeMax)
        line = Atomic(limits.lineSizeMax)
        name = Atomic(limits.nameSizeMax)
        idle = Atomic(limits.idleTimeoutMilliseconds)
        request = Atomic(limits.requestTimeoutMilliseconds)
    }

    /// Puts other limits in force.
    ///
    /// What is over them already stays.
    public func update(_ limits: Limits) {
        let limits = SharedLimits.possible(limits)
        memory.store(limits.memorySizeMax, ordering: .relaxed)
        length.store(limits.lengthSizeMax, ordering: .relaxed)
        allocations.store(limits.allocationsMax, ordering: .relaxed)
        connections.store(limits.connectionsMax, ordering: .relaxed)
        frame.store(limits.frameSizeMax, ordering: .relaxed)
        inFlight.store(limits.requestsInFlightMax, ordering: .relaxed)
        handles.store(limits.handlesMax, ordering: .relaxed)
        output.store(limits.outputSizeMax, ordering: .relaxed)
        line.store(limits.lineSizeMax, ordering: .relaxed)
        name.store(limits.nameSizeMax, ordering: .relaxed)
        idle.store(limits.idleTimeoutMilliseconds, ordering: .relaxed)
        request.store(limits.requestTimeoutMilliseconds, ordering: .relaxed)
    }

    /// See `Limits.memorySizeMax`.
    public var memorySizeMax: UInt64 { memory.load(ordering: .relaxed) }
    /// See `Limits.lengthSizeMax`.
    public var lengthSizeMax: UInt64 { length.load(ordering: .relaxed) }
    /// See `Limits.allocationsMax`.
    public var allocationsMax: UInt64 { allocations.load(ordering: .relaxed) }
    /// See `Limits.connectionsMax`.
    public var connectionsMax: UInt64 { connections.load(ordering: .relaxed) }
    /// See `Limits.frameSizeMax`.
    public var frameSizeMax: UInt64 { frame.load(ordering: .relaxed) }
    /// See `Limits.requestsInFlightMax`.
    public var requestsInFlightMax: UInt64 { inFlight.load(ordering: .relaxed) }
    /// See `Limits.handlesMax`.
    public var handlesMax: UInt64 { handles.load(ordering: .relaxed) }
    /// See `Limits.outputSizeMax`.
    public var outputSizeMax: UInt64 { output.load(ordering: .relaxed) }
    /// See `Limits.lineSizeMax`.
    public var lineSizeMax: UInt64 { line.load(ordering: .relaxed) }
    /// See `Limits.nameSizeMax`.
    public var nameSizeMax: UInt64 { name.load(ordering: .relaxed) }
    /// See `Limits.idleTimeoutMilliseconds`.
    public var idleTimeoutMilliseconds: UInt64 { idle.load(ordering: .relaxed) }
    /// See `Limits.requestTimeoutMilliseconds`.
    public var requestTimeoutMilliseconds: UInt64 { request.load(ordering: .relaxed) }

    /// All of them at this moment.
    public var snapshot: Limits {
        var limits = Limits()
        limits.memorySizeMax = memorySizeMax
        limits.lengthSizeMax = lengthSizeMax
        limits.allocationsMax = allocationsMax
        limits.connectionsMax = connectionsMax
        limits.frameSizeMax = frameSizeMax
        limits.requestsInFlightMax = requestsInFlightMax
        limits.handlesMax = handlesMax
        limits.outputSizeMax = outputSizeMax
        limits.lineSizeMax = lineSizeMax
        limits.nameSizeMax = nameSizeMax
        limits.idleTimeoutMilliseconds = idleTimeoutMilliseconds
        limits.requestTimeoutMilliseconds = requestTimeoutMilliseconds
        return limits
    }
}
