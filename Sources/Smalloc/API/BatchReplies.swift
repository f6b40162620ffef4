// The answers to a batch.

public import SmallocWire

extension Smalloc.Batch {
    /// What came of a batch, request by request.
    public struct Replies: Sendable {
        /// Changes no more.
        private let record: BatchRecord

        init(_ record: BatchRecord) { self.record = record }

        /// Requests in the batch.
        public var count: Int { record.count }

        /// The first request that failed, if any.
        public var firstFailure: SmallocError? {
            record.failures.min { $0.key < $1.key }?.value
        }

        /// Throws if a request failed.
        ///
        /// - Throws: The failure of the first that did.
        public func check() throws(SmallocError) {
            if let firstFailure { throw firstFailure }
        }

        /// How one request failed; nil if it did not.
        ///
        /// - Precondition: The ticket is one of this batch.
        public func failure(of ticket: Smalloc.Batch.Ticket) -> SmallocError? {
            record.at(ticket).pointee.state == .failed ? record.failures[Int(ticket.place)] : nil
        }

        @inline(__always)
        private func entry(
            _ ticket: Smalloc.Batch.Ticket
        ) throws(SmallocError) -> UnsafeMutablePointer<BatchEntry> {
            let entry = record.at(ticket)
            if entry.pointee.state == .done { return entry }
            throw failure(of: ticket) ?? .cancelled
        }

        /// What a `get` read, or the first element of a `read`.
        ///
        /// - Parameter ticket: The request's; must be of this batch, here and elsewhere.
        /// - Throws: The request's failure; `.invalidArgument` if it read nothing.
        public func number(_ ticket: Smalloc.Batch.Ticket) throws(SmallocError) -> Double {
            let entry = try entry(ticket)
            try entry.pointee.type.checkDouble()
            let bytes = record.bytes(entry)
            // What is read has whole elements; what else was asked has none.
            guard let first = bytes.baseAddress, bytes.count >= entry.pointee.type.size else {
                throw .invalidArgument("the request read nothing")
            }
            defer { withExtendedLifetime(record) {} }
            return entry.pointee.type.load(from: first)
        }

        /// What a request read, as numbers; none for one that reads nothing, as `set`.
        ///
        /// - Throws: The request's failure.
        public func numbers(_ ticket: Smalloc.Batch.Ticket) throws(SmallocError) -> [Double] {
            let entry = try entry(ticket)
            try entry.pointee.type.checkDouble()
            let bytes = record.bytes(entry)
            guard let base = bytes.baseAddress else { return [] }
            defer { withExtendedLifetime(record) {} }
            let type = entry.pointee.type
            return (0..<bytes.count >> type.shift).map { type.load(from: base + $0 << type.shift) }
        }

        /// What a `get` or `read` read; nothing for other requests.
        ///
        /// - Throws: The request's failure; `.invalidArgument` for another element type.
        @inlinable
        public func array<Element: Smalloc.Element>(
            _ ticket: Smalloc.Batch.Ticket, as element: Element.Type = Element.self
        ) throws(SmallocError) -> [Element] {
            let bytes = try bytes(
                ticket, element, Element.elementType, stride: MemoryLayout<Element>.stride)
            defer { withExtendedLifetime(self) {} }
            let count = bytes.count / MemoryLayout<Element>.stride
            return [Element](unsafeUninitializedCapacity: count) { memory, initialized in
                let target = UnsafeMutableRawBufferPointer(memory)
                target.copyMemory(from: bytes)
                settle(target, as: element)
                initialized = count
            }
        }

        /// What a `read` read, into an array that is there.
        ///
        /// - Parameters:
        ///   - ticket: The request's.
        ///   - array: Overwritten in place; has as many elements as were read.
        /// - Throws: The request's failure; `.invalidArgument` for another element type or count.
        @inlinable
        public func read<Element: Smalloc.Element>(
            _ ticket: Smalloc.Batch.Ticket, into array: inout [Element]
        ) throws(SmallocError) {
            let bytes = try bytes(
                ticket, Element.self, Element.elementType, stride: MemoryLayout<Element>.stride)
            defer { withExtendedLifetime(self) {} }
            guard bytes.count == array.count * MemoryLayout<Element>.stride else {
                throw .invalidArgument("the request read \(bytes.count) bytes")
            }
            array.withUnsafeMutableBytes {
                $0.copyMemory(from: bytes)
                settle($0, as: Element.self)
            }
        }

        /// The payload of a request, in memory that is aligned for every element and goes with
        /// this.
        @usableFromInline
        func bytes(
            _ ticket: Smalloc.Batch.Ticket, _ element: any Smalloc.Element.Type,
            _ wanted: ElementType,
            stride: Int
        ) throws(SmallocError) -> UnsafeRawBufferPointer {
            let entry = try entry(ticket)
            guard entry.pointee.type.takes(wanted, stride: stride) else {
                throw .wrongElement("\(element)", entry.pointee.type)
            }
            return record.bytes(entry)
        }
    }
}
