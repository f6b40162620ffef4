// The answers to a batch.

public import SmallocWire

/// What came of a batch, request by request.
public struct BatchReplies: Sendable {
    struct Entry: Sendable {
        var failure: SmallocError?
        /// Keeps the handle open until the batch is over.
        var remote: Remote?
        var type = ElementType.uint8
        var operation: UInt8 = 0
        var isSent = false
        /// Place of the payload.
        var offset = 0
        var size = 0
    }

    var entries: [Entry]
    var payload: [UInt8] = []

    /// Requests in the batch.
    public var count: Int { entries.count }

    /// The first request that failed, if any.
    public var firstFailure: SmallocError? { entries.lazy.compactMap(\.failure).first }

    /// Throws if a request failed.
    ///
    /// - Throws: The failure of the first that did.
    public func check() throws(SmallocError) {
        if let firstFailure { throw firstFailure }
    }

    /// How one request failed; nil if it did not.
    public func failure(of ticket: Batch.Ticket) -> SmallocError? { entries[ticket.index].failure }

    private func entry(_ ticket: Batch.Ticket) throws(SmallocError) -> Entry {
        let entry = entries[ticket.index]
        if let failure = entry.failure { throw failure }
        return entry
    }

    /// What a `get` read.
    ///
    /// - Throws: The request's failure; `.invalidArgument` if it read nothing.
    public func number(_ ticket: Batch.Ticket) throws(SmallocError) -> Double {
        guard let first = try numbers(ticket).first else {
            throw .invalidArgument("the request read nothing")
        }
        return first
    }

    /// What a request read, as numbers.
    ///
    /// - Throws: The request's failure.
    public func numbers(_ ticket: Batch.Ticket) throws(SmallocError) -> [Double] {
        let entry = try entry(ticket)
        return payload.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress, entry.size > 0 else { return [] }
            return (0..<entry.size >> entry.type.shift).map {
                entry.type.load(from: base + entry.offset + $0 << entry.type.shift)
            }
        }
    }

    /// What a `read` read.
    ///
    /// - Throws: The request's failure; `.invalidArgument` for another element type.
    public func array<Element: AllocationElement>(
        _ ticket: Batch.Ticket, as element: Element.Type = Element.self
    ) throws(SmallocError) -> [Element] {
        let entry = try entry(ticket)
        try entry.type.check(element)
        return [Element](unsafeUninitializedCapacity: entry.size >> entry.type.shift) {
            target, count in
            payload.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(target).copyMemory(
                    from: UnsafeRawBufferPointer(
                        rebasing: $0[entry.offset..<entry.offset + entry.size]))
            }
            count = entry.size >> entry.type.shift
        }
    }
}
