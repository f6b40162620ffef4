// A shape and metadata on their way to the daemon, and as they are known of a handle.

internal import SmallocWire

/// What a user says of an allocation.
struct AllocationDescription: Sendable {
    /// Elements of each dimension; nil: it has none.
    let shape: [Int]?
    let metadata: [UInt8]

    /// What an alloc says that has not the flag.
    static let empty = AllocationDescription()

    private init() {
        shape = nil
        metadata = []
    }

    /// - Throws: `.invalidArgument` for metadata that is too long to be asked for.
    init(_ shape: [Int]?, _ metadata: [UInt8]) throws(SmallocError) {
        guard metadata.count <= Description.metadataSizeMax else {
            throw .invalidArgument("metadata has at most \(Description.metadataSizeMax) bytes")
        }
        self.shape = shape
        self.metadata = metadata
    }

    /// As a stat tells it.
    init(_ stat: Smalloc.Stat) {
        shape = stat.shape
        metadata = stat.metadata
    }

    /// Whether there is nothing to say.
    var isEmpty: Bool { shape == nil && metadata.isEmpty }

    /// Elements of all dimensions together; more than any allocation has where that can't be said,
    /// or a dimension is negative: so the daemon answers as to an over-large length.
    var length: Int {
        guard let shape else { return 0 }
        if shape.contains(0) { return 0 }
        var product = 1
        for dimension in shape {
            let (next, overflow) = product.multipliedReportingOverflow(by: dimension)
            if overflow || dimension < 0 { return .max }
            product = next
        }
        return product
    }
}
