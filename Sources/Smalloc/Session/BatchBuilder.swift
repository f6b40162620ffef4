// How batches of both faces turn what is asked of allocations into frames.

public import SmallocWire
internal import Synchronization

extension Smalloc.Batch {
    /// Stands for one request of a batch, to ask that batch's replies for; another batch's trap.
    public struct Ticket: Hashable, Sendable {
        let place: UInt32
        /// The number of its batch.
        let batch: UInt32
    }
}

/// The last batch's number.
private let lastBatch = Atomic<UInt32>(0)

/// Elements of an array, as they are.
@usableFromInline
struct BatchElements {
    let bytes: UnsafeRawBufferPointer
    let count: Int
    /// What they are, the element type that they claim to be, and the bytes that each takes.
    let element: any Smalloc.Element.Type
    let type: ElementType
    let stride: Int

    @inlinable
    init<Element: Smalloc.Element>(_ bytes: UnsafeRawBufferPointer, _ element: Element.Type) {
        self.init(bytes, element, Element.elementType, stride: MemoryLayout<Element>.stride)
    }

    @usableFromInline
    init(
        _ bytes: UnsafeRawBufferPointer, _ element: any Smalloc.Element.Type,
        _ type: ElementType, stride: Int
    ) {
        self.bytes = bytes
        self.element = element
        self.type = type
        self.stride = stride
        count = stride > 0 ? bytes.count / stride : 0
    }
}

/// The requests of a batch while they are gathered, and the handles to be kept open until all is
/// over.
struct BatchBuilder<Owner: HandleOwner>: ~Copyable {
    /// The connection that it will be sent on.
    let home: Owner.Home
    private var frames = ByteBuffer(capacity: 1024)
    private var entries = BatchEntries(capacity: 32)
    private var failures: [Int: SmallocError] = [:]
    private var expected = 0
    private let number = lastBatch.wrappingAdd(1, ordering: .relaxed).newValue
    private(set) var remotes: [Remote<Owner>] = []
    private(set) var extraTime: UInt64 = 0
    private var last: ObjectIdentifier?

    init(_ home: Owner.Home) { self.home = home }

    /// Requests gathered so far.
    var count: Int { entries.count }

    /// Ends the gathering.
    ///
    /// - Returns: What was gathered.
    mutating func finish() -> BatchRecord {
        var frames = ByteBuffer()
        var entries = BatchEntries(capacity: 0)
        swap(&frames, &self.frames)
        swap(&entries, &self.entries)
        return BatchRecord(frames, entries, failures, expected: expected, number: number)
    }

    // MARK: Requests

    @inline(__always)
    mutating func read(
        _ start: Int, _ count: Int, of view: () throws(SmallocError) -> View<Owner>
    ) -> Smalloc.Batch.Ticket {
        add(view) { builder, remote, window throws(SmallocError) in
            try builder.access(
                .read, remote, window, start, count, UnsafeRawBufferPointer(start: nil, count: 0))
        }
    }

    mutating func set(
        _ value: Double, _ index: Int, of view: () throws(SmallocError) -> View<Owner>
    ) -> Smalloc.Batch.Ticket {
        add(view) { builder, remote, window throws(SmallocError) in
            try window.type.checkDouble()
            var element: UInt64 = 0
            window.type.store(value, at: &element)
            return try withUnsafeBytes(of: element) { bytes throws(SmallocError) in
                try builder.access(
                    .write, remote, window, index, 1,
                    UnsafeRawBufferPointer(rebasing: bytes[..<window.type.size]))
            }
        }
    }

    @inline(__always)
    mutating func write(
        _ elements: BatchElements, _ start: Int,
        of view: () throws(SmallocError) -> View<Owner>
    ) -> Smalloc.Batch.Ticket {
        add(view) { builder, remote, window throws(SmallocError) in
            guard window.type.takes(elements.type, stride: elements.stride) else {
                throw .wrongElement("\(elements.element)", window.type)
            }
            guard elements.bytes.count <= Int(UInt32.max) else { throw .frameTooLarge }
            return try builder.access(
                .write, remote, window, start, elements.count, elements.bytes)
        }
    }

    mutating func fill(
        _ value: Double, _ start: Int, _ count: Int?,
        of view: () throws(SmallocError) -> View<Owner>
    ) -> Smalloc.Batch.Ticket {
        do throws(SmallocError) {
            let view = try view()
            try check(view.remote)
            return add(try view.fillRequest(start, count, view.window.pattern(value)), view)
        } catch {
            return fail(error)
        }
    }

    /// - Parameters:
    ///   - source: nil if it holds no data.
    ///   - dest: nil if it holds no data.
    mutating func copy(
        _ source: View<Owner>?, _ sourceStart: Int, _ dest: View<Owner>?, _ destStart: Int,
        _ count: Int
    ) -> Smalloc.Batch.Ticket {
        do throws(SmallocError) {
            guard let source else { throw .noSourceData }
            guard let dest else { throw .noDestData }
            try check(dest.remote)
            try check(source.remote)
            return add(
                try source.copyRequest(sourceStart, count, onto: dest, destStart), source,
                onto: dest.remote)
        } catch {
            return fail(error)
        }
    }

    /// Adds a request that can't be made.
    @inline(never)
    mutating func fail(_ error: SmallocError) -> Smalloc.Batch.Ticket {
        failures[entries.count] = error
        entries.append(BatchEntry(state: .failed))
        return Smalloc.Batch.Ticket(
            place: UInt32(truncatingIfNeeded: entries.count - 1), batch: number)
    }

    // MARK: Frames

    /// Adds what `body` makes of an allocation, or the reason why it can't be made.
    @inline(__always)
    private mutating func add(
        _ view: () throws(SmallocError) -> View<Owner>,
        _ body: (inout BatchBuilder, Remote<Owner>, Window) throws(SmallocError) ->
            Smalloc.Batch.Ticket
    ) -> Smalloc.Batch.Ticket {
        do throws(SmallocError) {
            let view = try view()
            try check(view.remote)
            return try body(&self, view.remote, view.window)
        } catch {
            return fail(error)
        }
    }

    /// Whether requests about an allocation can be here.
    @inline(__always)
    private func check(_ remote: Remote<Owner>) throws(SmallocError) {
        if last != ObjectIdentifier(remote) { try remote.owner.check(home) }
    }

    @inline(__always)
    private mutating func place(of remote: Remote<Owner>) -> Int32 {
        if last != ObjectIdentifier(remote) {
            remotes.append(remote)
            last = ObjectIdentifier(remote)
        }
        return Int32(truncatingIfNeeded: remotes.count - 1)
    }

    /// Adds a request and its frame.
    @inline(__always)
    private mutating func append(
        _ entry: BatchEntry, _ header: FrameHeader, _ body: UnsafeRawBufferPointer
    ) -> Smalloc.Batch.Ticket {
        var header = header
        header.cookie = BatchRecord.cookieMark | UInt64(truncatingIfNeeded: entries.count)
        header.payloadSize = UInt32(truncatingIfNeeded: body.count)
        frames.append(header, body)
        entries.append(entry)
        expected = expected &+ entry.size
        return Smalloc.Batch.Ticket(
            place: UInt32(truncatingIfNeeded: entries.count &- 1), batch: number)
    }

    /// Adds what needs no more than a header and data.
    @inline(__always)
    private mutating func access(
        _ operation: Operation, _ remote: Remote<Owner>, _ window: Window, _ start: Int,
        _ count: Int, _ data: UnsafeRawBufferPointer
    ) throws(SmallocError) -> Smalloc.Batch.Ticket {
        let (offset, size) = try window.resolve(start, count)
        guard operation == .read || size == UInt64(data.count) else { throw .frameTooLarge }
        return append(
            BatchEntry(
                operation: operation.rawValue, type: window.type, remote: place(of: remote),
                size: operation == .read ? Int(clamping: size) : 0),
            .access(operation, remote.handle, offset: offset, size: size), data)
    }

    private mutating func add(
        _ request: Request, _ view: View<Owner>, onto other: Remote<Owner>? = nil
    ) -> Smalloc.Batch.Ticket {
        let entry = BatchEntry(
            operation: request.header.operation, type: view.type, remote: place(of: view.remote),
            other: other.map { place(of: $0) } ?? -1)
        extraTime = extraTime &+ request.extraTime
        return request.body.withUnsafeBytes { append(entry, request.header, $0) }
    }
}

extension BatchRecord {
    /// Takes out what is about allocations that have been disposed of since it was gathered.
    ///
    /// To be called under the lock that `isGone` is set under, right before it is entered.
    @inline(__always)
    func withdrawGone<Owner>(_ remotes: [Remote<Owner>]) {
        for remote in remotes where remote.isGone { return withdrawGone(remotes.map(\.isGone)) }
    }

    @inline(never)
    private func withdrawGone(_ gone: [Bool]) {
        withdraw { entry in
            let copies = entry.other >= 0
            if entry.remote >= 0, gone[Int(entry.remote)] {
                return copies ? .noSourceData : .noData
            }
            if copies, gone[Int(entry.other)] { return .noDestData }
            return nil
        }
    }
}

extension ElementType {
    /// Whether its elements are a Swift type's that claims an element type.
    ///
    /// - Parameter stride: What it takes in an array; a foreign type may claim what it is not.
    @inline(__always)
    func takes(_ wanted: ElementType, stride: Int) -> Bool {
        (wanted == self || (wanted == .uint8 && self == .uint8Clamped)) && stride == size
    }
}
