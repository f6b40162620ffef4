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
    /// Replies of the session that is being served.
    ///
    /// Empty between sessions.
    public let output: UnsafeMutablePointer<Output>
    /// What is known of the requests that follow, of the session that is being served.
    let ahead: UnsafeMutablePointer<NamesAhead>
    /// - Parameter index: The loop's number, from 0.
    public init(registry: Registry, index: Int) {
        self.registry = registry
        limits = registry.limits
        counters = registry.counters[index]
        output = .allocate(capacity: 1)
        output.initialize(to: Output(capacity: 128 * 1024))
        ahead = .allocate(capacity: 1)
        ahead.initialize(to: NamesAhead())
    }

    deinit {
        output.deinitialize(count: 1)
        output.deallocate()
        ahead.deinitialize(count: 1)
        ahead.deallocate()
    }
}
