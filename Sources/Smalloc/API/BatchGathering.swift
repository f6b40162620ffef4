// How both kinds of batches turn what is asked of allocations into frames.

public import SmallocWire
internal import Synchronization

/// Stands for one request of a batch, to ask that batch's replies for; another batch's trap.
public struct BatchTicket: Hashable, Sendable {
    let place: UInt32
    /// The number of its batch.
    let batch: UInt32
}

/// The last batch's number.
private let lastBatch = Atomic<UInt32>(0)

/// Elements of an array, as they are.
@usableFromInline
struct BatchElements {
    let bytes: UnsafeRawBufferPointer
    let count: Int
    /// What they are, the element type that they claim to be, and the bytes that each takes.
    let element: any AllocationElement.Type
    let type: ElementType
    let stride: Int

    @usableFromInline
    init(
        _ bytes: UnsafeRawBufferPointer, _ count: Int, _ element: any AllocationElement.Type,
        _ type: ElementType, stride: Int
    ) {
        self.bytes = bytes
        self.count = count
        self.element = element
        self.type = type
        self.stride = stride
    }
}

/// An open handle, as batches use it.
protocol BatchRemote: AnyObject {
    var handle: UInt32 { get }
    /// Disposed of by its handle, whose number may stand for another allocation.
    var isGone: Bool { get }
}

extension Remote: BatchRemote {}
extension AsyncRemote: BatchRemote {}

/// The requests of a batch while they are gathered, and the handles to be kept open until all is
/// over.
struct BatchGathering<Handle: BatchRemote>: ~Copyable {
    private var frames = ByteBuffer(capacity: 1024)
    private var entries = BatchEntries(capacity: 32)
    private var failures: [Int: SmallocError] = [:]
    private var expected = 0
    private let number = lastBatch.wrappingAdd(1, ordering: .relaxed).newValue
    private(set) var remotes: [Handle] = []
    private(set) var extraTime: UInt64 = 0
    private var last: ObjectIdentifier?

    /// Whether the last request was about this handle, too.
    @inline(__always)
    func endsWith(_ remote: Handle) -> Bool { last == ObjectIdentifier(remote) }

    @inline(__always)
    private mutating func place(of remote: Handle) -> Int32 {
        if !endsWith(remote) {
            remotes.append(remote)
            last = ObjectIdentifier(remote)
        }
        return Int32(truncatingIfNeeded: remotes.count - 1)
    }

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

    /// Adds a request and its frame.
    @inline(__always)
    private mutating func append(
        _ entry: BatchEntry, _ header: FrameHeader, _ body: UnsafeRawBufferPointer
    ) -> BatchTicket {
        var header = header
        header.cookie = BatchRecord.cookieMark | UInt64(truncatingIfNeeded: entries.count)
        header.payloadSize = UInt32(truncatingIfNeeded: body.count)
        frames.append(header, body)
        entries.append(entry)
        expected = expected &+ entry.size
        return BatchTicket(
            place: UInt32(truncatingIfNeeded: entries.count &- 1), batch: number)
    }

    /// Adds a request that can't be made.
    @inline(never)
    mutating func fail(_ error: SmallocError) -> BatchTicket {
        failures[entries.count] = error
        entries.append(BatchEntry(state: .failed))
        return BatchTicket(
            place: UInt32(truncatingIfNeeded: entries.count - 1), batch: number)
    }

    /// Adds what needs no more than a header and data.
    @inline(__always)
    private mutating func access(
        _ operation: Operation, _ remote: Handle, _ window: Window, _ start: Int, _ count: Int,
        _ data: UnsafeRawBufferPointer
    ) throws(SmallocError) -> BatchTicket {
        let (offset, size) = try window.resolve(start, count)
        guard operation == .read || size == UInt64(data.count) else { throw .frameTooLarge }
        return append(
            BatchEntry(
                operation: operation.rawValue, type: window.type, remote: place(of: remote),
                size: operation == .read ? Int(clamping: size) : 0),
            .access(operation, remote.handle, offset: offset, size: size), data)
    }

    private mutating func add(
        _ request: Request, _ remote: Handle, onto other: Handle? = nil, _ type: ElementType
    ) -> BatchTicket {
        let entry = BatchEntry(
            operation: request.header.operation, type: type, remote: place(of: remote),
            other: other.map { place(of: $0) } ?? -1)
        extraTime = extraTime &+ request.extraTime
        return request.body.withUnsafeBytes { append(entry, request.header, $0) }
    }

    @inline(__always)
    mutating func read(
        _ remote: Handle, _ window: Window, _ start: Int, _ count: Int
    ) throws(SmallocError) -> BatchTicket {
        try access(
            .read, remote, window, start, count, UnsafeRawBufferPointer(start: nil, count: 0))
    }

    mutating func set(
        _ remote: Handle, _ window: Window, _ value: Double, _ index: Int
    ) throws(SmallocError) -> BatchTicket {
        var element: UInt64 = 0
        window.type.store(value, at: &element)
        return try withUnsafeBytes(of: element) { bytes throws(SmallocError) in
            try access(
                .write, remote, window, index, 1,
                UnsafeRawBufferPointer(rebasing: bytes[..<window.type.size]))
        }
    }

    @inline(__always)
    mutating func write(
        _ remote: Handle, _ window: Window, _ elements: BatchElements, _ start: Int
    ) throws(SmallocError) -> BatchTicket {
        guard window.type.takes(elements.type, stride: elements.stride) else {
            throw .wrongElement("\(elements.element)", window.type)
        }
        guard elements.bytes.count <= Int(UInt32.max) else { throw .frameTooLarge }
        return try access(.write, remote, window, start, elements.count, elements.bytes)
    }

    mutating func fill(
        _ remote: Handle, _ window: Window, _ value: Double, _ start: Int, _ count: Int?
    ) throws(SmallocError) -> BatchTicket {
        let (offset, size) = try window.resolve(start, count ?? window.countFrom(start))
        return add(
            .fill(remote.handle, offset: offset, size: size, pattern: window.pattern(value)),
            remote, window.type)
    }

    mutating func copy(
        _ remote: Handle, _ window: Window, _ sourceStart: Int,
        onto other: Handle, _ dest: Window, _ destStart: Int, _ count: Int
    ) throws(SmallocError) -> BatchTicket {
        let part = try window.copy(sourceStart, count, onto: dest, destStart)
        return add(
            .copy(
                .handle(remote.handle), offset: part.offset,
                to: .handle(other.handle), offset: part.destOffset, size: part.size),
            remote, onto: other, window.type)
    }
}

extension BatchRecord {
    /// Takes out what is about allocations that have been disposed of since it was gathered.
    ///
    /// To be called by who sends, under the lock that `isGone` is set under.
    @inline(__always)
    func withdrawGone<Handle: BatchRemote>(_ remotes: [Handle]) {
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
