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
        waits = LoopWaits(registry)
        output = .allocate(capacity: 1)
        output.initialize(to: Output(capacity: LoopContext.outputSize))
        prefetch = .allocate(capacity: 1)
        prefetch.initialize(to: NamePrefetch())
        views = .allocate(capacity: LoopContext.viewsMax)
        shown = .allocate(byteCount: Thresholds.shownSliceSize, alignment: 16)
    }

    deinit {
        output.deinitialize(count: 1)
        output.deallocate()
        prefetch.deinitialize(count: 1)
        prefetch.deallocate()
        views.deallocate()
        shown.deallocate()
    }
}
