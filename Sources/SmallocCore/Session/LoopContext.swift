// What all sessions of one loop share, so that an idle connection owns almost nothing.

public import SmallocWire

/// One loop's registry, limits, counters and output buffer.
///
/// Used by its loop's thread only.
public final class LoopContext {
    /// All allocations.
    public let registry: Registry
    /// What is allowed now.
    public let limits: SharedLimits
    /// What has been done on this loop.
    public let counters: Counters
    /// Its connections, for others to look at.
    public let clients: ClientTable
    /// What its connections wait for.
    public let waits: LoopWaits
    /// Replies of the session that is being served.
    ///
    /// Empty between sessions.
    public let output: UnsafeMutablePointer<Output>
    /// What the requests that follow will need, of the session that is being served.
    let prefetch: UnsafeMutablePointer<NamePrefetch>
    /// Room for what one system call sends of an allocation: see `Session.fillViews`.
    public let views: UnsafeMutablePointer<UnsafeRawBufferPointer>
    /// Room for what text mode shows at a time.
    let shown: UnsafeMutableRawPointer
    /// When the present turn began, in nanoseconds of `Clock.now`; 0: none has.
    ///
    /// The loop sets it before it serves anything.
    public var turnStart: UInt64 {
        @inline(__always) get { turn.pointee }
        @inline(__always) set { turn.pointee = newValue }
    }
    // No field, as each use of one by another module is checked for exclusive access.
    private let turn: UnsafeMutablePointer<UInt64>
    /// Views that `views` has room for.
    public static let viewsMax = Pieces.viewsMax
    /// Bytes of memory that the output keeps between uses.
    public static let outputKept = 512 << 10
    /// Bytes that the output has room for from the start.
    static let outputSize = 128 << 10

    /// - Parameter index: The loop's number, from 0.
    public init(registry: Registry, index: Int) {
        self.registry = registry
        limits = registry.limits
        counters = registry.counters[index]
        clients = registry.clientTables[index]
        waits = LoopWaits(registry)
        output = .allocate(capacity: 1)
        output.initialize(to: Output(capacity: LoopContext.outputSize))
        prefetch = .allocate(capacity: 1)
        prefetch.initialize(to: NamePrefetch())
        views = .allocate(capacity: LoopContext.viewsMax)
        turn = .allocate(capacity: 1)
        turn.initialize(to: 0)
        shown = .allocate(byteCount: Thresholds.shownSliceSize, alignment: 16)
    }

    deinit {
        output.deinitialize(count: 1)
        output.deallocate()
        prefetch.deinitialize(count: 1)
        prefetch.deallocate()
        views.deallocate()
        turn.deallocate()
        shown.deallocate()
    }
}
