// Every maximum, with its unit in its name and its reason beside it.

/// What a daemon allows.
///
/// Told to clients in the greeting and in `stats`.
public struct Limits: Equatable, Sendable {
    /// Bytes that all allocations may take together, overhead included.
    ///
    /// The shell sets it to 80 % of the machine or the cgroup, so that a refusal comes before the
    /// kernel's out-of-memory killer.
    public var memorySizeMax: UInt64 = 1 << 30
    /// Bytes of the largest allocation: Node's `kMaxLength`.
    public var lengthSizeMax: UInt64 = 1 << 30
    /// Allocations in all, named and anonymous.
    ///
    /// 16 Mi small ones take about 2 GiB.
    public var allocationsMax: UInt64 = 1 << 24
    /// Connections at once.
    ///
    /// The shell lowers it to what the descriptor limit allows.
    public var connectionsMax: UInt64 = 65_536
    /// Bytes of payload in one frame.
    ///
    /// Large payloads are never buffered, so a larger limit takes no more memory.
    public var frameSizeMax: UInt64 = 1 << 30
    /// Replies that may wait to leave on one connection before reading from it stops.
    public var requestsInFlightMax: UInt64 = 4096
    /// Handles open on one connection.
    ///
    /// Each takes 8 to 16 bytes, which count against the memory limit.
    public var handlesMax: UInt64 = 1 << 20
    /// Bytes of copied replies that may wait to leave on one connection before reading stops.
    public var outputSizeMax: UInt64 = 1 << 20
    /// Bytes of one text line.
    ///
    /// It is buffered until its end arrives.
    public var lineSizeMax: UInt64 = 1 << 20
    /// Bytes of a name that is given from now on; 255, the most that a frame can say, unless
    /// lowered.
    public var nameSizeMax: UInt64 = 255
    /// Milliseconds of silence between requests before a connection is closed; 0 is for ever.
    public var idleTimeoutMilliseconds: UInt64 = 0
    /// Milliseconds in which an unfinished request must make progress (64 KiB or its end); 0 is
    /// off.
    public var requestTimeoutMilliseconds: UInt64 = 30_000

    /// Bytes up to which one request is atomic towards others on the same allocation.
    @inlinable public static var atomicSizeMax: Int { 65_536 }
    /// Bytes of a name; fits the header's one byte.
    @inlinable public static var nameSizeMax: Int { 255 }
    /// Ranges in one vectored request: 16 KiB of them.
    @inlinable public static var rangesMax: Int { 1024 }
    /// Bytes of a fill pattern.
    @inlinable public static var fillPatternSizeMax: Int { 64 }
    /// Bytes of the software name in a hello.
    @inlinable public static var softwareSizeMax: Int { 64 }
    /// The bits of `features` in the greeting: what the daemon has beyond the base of version 1.
    ///
    /// Over TCP it tells that of `map` never.
    @inlinable public static var features: UInt64 {
        Feature.map.bits | Feature.atomics.bits | Feature.wait.bits | Feature.freeze.bits
            | Feature.lease.bits | Feature.types.bits
    }

    /// Requests of a connection that may wait for events.
    @inlinable public static var waitsMax: Int { 4096 }

    /// The defaults above.
    public init() {}

    /// The greeting's numbers, with all features and no shares, in the order of `helloFields` in
    /// protocol/values.json.
    public var helloFields: [UInt64] {
        [
            UInt64(FrameHeader.currentVersion), UInt64(FrameHeader.currentVersion),
            Limits.features, lengthSizeMax, memorySizeMax, allocationsMax, connectionsMax,
            frameSizeMax, requestsInFlightMax, handlesMax, outputSizeMax, lineSizeMax,
            idleTimeoutMilliseconds, requestTimeoutMilliseconds, UInt64(Limits.atomicSizeMax),
            nameSizeMax, UInt64(Limits.rangesMax), UInt64(Limits.waitsMax),
            0,
        ]
    }

    /// Reads a greeting.
    ///
    /// Fields that an older daemon does not tell keep their defaults; what a newer one tells beyond
    /// them is ignored.
    public init(helloFields fields: [UInt64]) {
        self.init()
        func field(_ index: Int, _ fallback: UInt64) -> UInt64 {
            index < fields.count ? fields[index] : fallback
        }
        lengthSizeMax = field(3, lengthSizeMax)
        memorySizeMax = field(4, memorySizeMax)
        allocationsMax = field(5, allocationsMax)
        connectionsMax = field(6, connectionsMax)
        frameSizeMax = field(7, frameSizeMax)
        requestsInFlightMax = field(8, requestsInFlightMax)
        handlesMax = field(9, handlesMax)
        outputSizeMax = field(10, outputSizeMax)
        lineSizeMax = field(11, lineSizeMax)
        idleTimeoutMilliseconds = field(12, idleTimeoutMilliseconds)
        requestTimeoutMilliseconds = field(13, requestTimeoutMilliseconds)
        nameSizeMax = field(15, nameSizeMax)
    }
}
