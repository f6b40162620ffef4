// When an allocation ends by itself.

internal import SmallocWire

extension Smalloc {
    /// When an allocation ends by itself, as by `dispose`.
    ///
    /// It belongs to the memory: it stays over `rename`, and never changes; only use begins its
    /// time anew. A daemon that has no leases refuses the `alloc` with `.unsupportedFlags`.
    public enum Lease: Hashable, Sendable {
        /// With the connection that makes it, however that ends, also where others have it open.
        case connection
        /// When no handle and no mapping of it was open for so long, by the daemon's clock.
        ///
        /// A request by name counts as opening and closing, to be told about by `stat` and `list`
        /// does not. Rounded up to milliseconds, 1 at least; it may be a second late.
        case idle(Duration)
    }
}

extension Smalloc.Lease {
    /// As the wire has it.
    var milliseconds: UInt64 {
        switch self {
        case .connection: 0
        // The largest number would mean that there is none.
        case .idle(let time): min(max(1, Request.milliseconds(time)), .max - 1)
        }
    }

    /// As a stat tells it; nil: there is none.
    init?(milliseconds: UInt64) {
        switch milliseconds {
        case .max: return nil
        case 0: self = .connection
        default: self = .idle(.milliseconds(Int64(clamping: milliseconds)))
        }
    }
}
