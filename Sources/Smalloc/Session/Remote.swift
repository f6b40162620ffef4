// What stands behind an allocation's object: the open handle, and the part of the memory that it
// looks at.

internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// The connection that a handle is open on, of either face.
protocol HandleOwner: Sendable {
    /// What a batch is made for: a connection as it is when the batch is begun.
    associatedtype Home
    /// Refuses a handle that a batch can't use.
    ///
    /// - Throws: `.invalidArgument` if it is another connection's; `.connectionLost` if it belongs
    ///   to an earlier one of the same object.
    func check(_ home: Home) throws(SmallocError)
    /// Whether two handles are open on one and the same connection.
    func isSame(_ other: Self) -> Bool
    /// Closes a handle without waiting for the answer; for deinitializers.
    func release(_ handle: UInt32)
    /// Has the daemon end waits on a cell; see `MappedRemote.notify`.
    func notify(_ remote: Remote<Self>, offset: UInt64, count: UInt64) throws(SmallocError) -> Int
    /// See `MappedRemote.ended`.
    func ended(_ remote: Remote<Self>) -> SmallocError?
    /// What its connection has mapped for large transfers.
    var transferMappings: TransferMappings<Self> { get }
}

/// The handles of a connection that have their allocation mapped for writing, for large transfers.
///
/// Such a mapping stands in the way of a freeze, by whichever handle or name that is asked for.
final class TransferMappings<Owner: HandleOwner>: Sendable {
    private struct Entry: Sendable {
        weak var remote: Remote<Owner>?
    }
    private let entries = Locked<[ObjectIdentifier: Entry]>([:])

    /// To be called when the mapping is there, or `release` could miss it for good.
    func add(_ remote: Remote<Owner>) {
        entries.withLock { $0[ObjectIdentifier(remote)] = Entry(remote: remote) }
    }

    func remove(_ remote: Remote<Owner>) {
        _ = entries.withLock { $0.removeValue(forKey: ObjectIdentifier(remote)) }
    }

    /// Lets go of all these mappings; the next large transfers make them anew.
    func release() {
        let present = entries.withLock { entries in
            defer { entries = [:] }
            return entries
        }
        for entry in present.values { entry.remote?.unmap() }
    }
}

/// What a mapping needs of its allocation's handle, of either face.
protocol MappedRemote: AnyObject, Sendable {
    /// Has the daemon end waits on a cell.
    ///
    /// - Returns: How many, as far as that is waited for.
    /// - Throws: `.noData`; transport errors.
    func notify(offset: UInt64, count: UInt64) throws(SmallocError) -> Int
    /// Why the handle is of no use any more; nil: as far as is known here the daemon is there.
    ///
    /// Waits for no other call. Cost: one system call at most.
    var ended: SmallocError? { get }
}

/// A mapping's use of a handle.
final class MappedUse<Owner: HandleOwner>: MappedRemote {
    private let remote: Remote<Owner>

    init(_ remote: Remote<Owner>) {
        self.remote = remote
        remote.enter()
    }

    // The handle goes with the last reference to it.
    deinit { _ = remote.leave() }

    func notify(offset: UInt64, count: UInt64) throws(SmallocError) -> Int {
        try remote.owner.notify(remote, offset: offset, count: count)
    }
    var ended: SmallocError? { remote.owner.ended(remote) }
}

/// An open handle.
///
/// Goes when the last object that uses it goes; an anonymous allocation is disposed of with it, by
/// the daemon.
final class Remote<Owner: HandleOwner>: Sendable {
    let owner: Owner
    let handle: UInt32
    let type: ElementType
    private let notes: Locked<Notes>
    /// What is known of it beside its size.
    private struct Notes {
        var name: String?
        /// Reads and writes of much data so far.
        var largeTransfers = 0
        var memory: MappedMemory?
        /// One of them has it mapped now.
        var isBeingMapped = false
        /// The daemon has refused to map it, or to map it for writing.
        var isRefused = false
        var refusesWriting = false
    }
    /// What it was made with, once that is known.
    private let described: Locked<AllocationDescription?>
    /// Bytes.
    ///
    /// Only ever shrinks.
    private let sizeState: Atomic<Int>
    /// Disposed of by its handle, which is closed with it and may soon stand for something else.
    ///
    /// Set and, before use, checked under the connection's lock.
    private let gone = Atomic<Bool>(false)
    /// Objects of the async face that keep the handle open: `close()` there comes while tasks use
    /// it, and can't wait for the last reference.
    private let users = Atomic<Int>(0)

    /// Takes over the handle that a reply to alloc or open tells.
    ///
    /// - Throws: `.unexpectedReply` if it tells none.
    init(
        _ owner: Owner, _ reply: FrameHeader, _ name: AllocationName?,
        _ description: AllocationDescription? = nil
    ) throws(SmallocError) {
        guard let type = ElementType(rawValue: reply.type), reply.handle != 0,
            let size = Int(exactly: reply.size)
        else { throw .unexpectedReply("the answer to \(name?.text ?? "alloc") is no allocation") }
        self.owner = owner
        handle = reply.handle
        self.type = type
        notes = Locked(Notes(name: name?.text))
        described = Locked(description)
        sizeState = Atomic(size)
    }

    deinit {
        if notes.withLock({ $0.memory?.isWritable == true }) { owner.transferMappings.remove(self) }
        if !isGone { owner.release(handle) }
    }

    var size: Int { sizeState.load(ordering: .relaxed) }

    /// Takes note of a size that the daemon has told.
    ///
    /// Answers may be looked at in another order than they were given in: the least one counts.
    func shrink(to size: Int) { sizeState.min(size, ordering: .relaxed) }

    var name: String? {
        get { notes.withLock { $0.name } }
        set { notes.withLock { $0.name = newValue } }
    }

    /// How a transfer goes.
    enum Way {
        case bySocket
        /// It is to be mapped, and `mapped` or `endMapping` to be told.
        case byNewMapping
        case byMapping(MappedMemory)
    }

    /// Bytes from which on a transfer may go by a mapping: below, a round trip costs less than the
    /// faults of pages.
    private static var mappedSizeMin: Int { 256 << 10 }

    /// Decides how a transfer goes; the second large one is worth a mapping.
    ///
    /// One for writing is made only where it is needed: it stands in the way of others' freeze.
    func way(ofTransfer size: Int, writes: Bool) -> Way {
        guard size >= Remote.mappedSizeMin else { return .bySocket }
        return notes.withLock { notes in
            if notes.isRefused { return .bySocket }
            if let memory = notes.memory {
                if !writes || memory.isWritable { return .byMapping(memory) }
                if notes.refusesWriting { return .bySocket }
            } else {
                notes.largeTransfers += 1
                if notes.largeTransfers < 2 { return .bySocket }
            }
            if notes.isBeingMapped { return .bySocket }
            notes.isBeingMapped = true
            return .byNewMapping
        }
    }

    /// Mapping was given up, and may be tried again.
    func endMapping() { notes.withLock { $0.isBeingMapped = false } }

    /// Keeps a mapping for large transfers; nil: there is none to be had.
    ///
    /// - Parameter writes: Whether one for writing was asked for.
    func mapped(_ memory: MappedMemory?, writes: Bool) {
        notes.withLock { notes in
            notes.isBeingMapped = false
            if memory == nil, writes, notes.memory != nil {
                notes.refusesWriting = true
                return
            }
            notes.memory = memory
            notes.isRefused = memory == nil
        }
        if memory?.isWritable == true { owner.transferMappings.add(self) }
    }

    /// Lets go of the mapping for large transfers, as it stands in the way of others.
    func unmap() { notes.withLock { $0.memory = nil } }

    /// Its shape, at first, and metadata; nil: not known here, which a stat changes.
    var description: AllocationDescription? {
        get { described.withLock { $0 } }
        set { described.withLock { $0 = newValue } }
    }

    /// Takes note of one more object that keeps the handle open.
    func enter() { users.add(1, ordering: .relaxed) }

    /// One of them does without it.
    ///
    /// - Returns: Whether it was the last one.
    func leave() -> Bool {
        users.subtract(1, ordering: .acquiringAndReleasing).newValue == 0
    }

    var isGone: Bool {
        get { gone.load(ordering: .relaxed) }
        set { gone.store(newValue, ordering: .relaxed) }
    }
}

/// All of a remote allocation, or a slice of it.
struct View<Owner: HandleOwner>: Sendable {
    let remote: Remote<Owner>
    /// First byte, in the remote allocation.
    var start = 0
    /// Bytes of a slice; nil for all there is.
    var sliceSize: Int?

    var type: ElementType { remote.type }
    var isSlice: Bool { sliceSize != nil }
    var size: Int { window.size }
    var length: Int { window.length }
    /// Its name; nil if it is anonymous or a slice.
    var name: String? { isSlice ? nil : remote.name }
    var window: Window { Window(remote.type, remote.size, start, sliceSize) }

    /// A part of it.
    func slice(_ start: Int, _ end: Int?) throws(SmallocError) -> View {
        let window = window
        let count = end.map { $0.subtractingReportingOverflow(start).partialValue }
        let part = try explaining(start, count) { () throws(SmallocError) in
            try window.slice(start, end ?? window.length)
        }
        return View(remote: remote, start: part.start, sliceSize: part.size)
    }

    /// A range in bytes, and whether it lies within what is known of the allocation.
    ///
    /// Memory is provided for what is read before the daemon is asked, so a range that can't be
    /// right is put to the daemon first, which says what is wrong with it.
    @inline(__always)
    func resolve(
        _ start: Int, _ count: Int
    ) throws(SmallocError) -> (offset: UInt64, size: UInt64, isKnown: Bool) {
        try window.resolve(start, count, of: remote.size)
    }

    // MARK: Errors

    /// Has an error of a call say which allocation and which numbers it was about.
    ///
    /// - Parameters:
    ///   - start: The element that the call began with; nil if it did not ask for a range.
    ///   - count: Elements that it asked for; nil if it left that open.
    @inline(never)
    func explained(
        _ error: SmallocError, start: Int? = nil, count: Int? = nil
    ) -> SmallocError {
        if error.isTransport || error.detail != nil { return error }
        var numbers: [String] = []
        if error.status == .outOfRange || error.status == .tooLarge {
            if let start { numbers.append("start \(start)") }
            if let count { numbers.append("count \(count)") }
            // Another client may have shortened it, and its length is not known then.
            let (end, isOver) = (start ?? 0).addingReportingOverflow(count ?? 1)
            let isKnown = start ?? 0 < 0 || count ?? 0 < 0 || isOver || end > length
            if isKnown || start == nil { numbers.append("length \(length)") }
        }
        let text = numbers.joined(separator: ", ")
        guard let label else { return numbers.isEmpty ? error : error.detailed(text) }
        return error.detailed(numbers.isEmpty ? label : "\(label): \(text)")
    }

    /// The same of a copy, whose error may be about either.
    func explained(
        _ error: SmallocError, copying count: Int, from start: Int, onto dest: View,
        _ destStart: Int
    ) -> SmallocError {
        if error.isTransport || error.detail != nil { return error }
        if error.status == .outOfRange {
            let from = "start \(start), count \(count), length \(length)"
            let onto = "start \(destStart), length \(dest.length)"
            return error.detailed(
                "from \(label.map { $0 + ": " } ?? "")\(from); onto "
                    + "\(dest.label.map { $0 + ": " } ?? "")\(onto)")
        }
        let side = error.message.hasPrefix("dest") || error.status == .frozen ? dest : self
        return side.label.map { error.detailed($0) } ?? error
    }

    /// What to call it in an error; nil if it has no name.
    var label: String? {
        let name = remote.name
        return isSlice ? name.map { "a slice of \($0)" } ?? "a slice" : name
    }

    /// Runs a part of a call whose errors say what they were about: see `explained`.
    @inline(__always)
    func explaining<Result>(
        _ start: Int? = nil, _ count: Int? = nil, _ body: () throws(SmallocError) -> Result
    ) throws(SmallocError) -> Result {
        do throws(SmallocError) { return try body() } catch {
            throw explained(error, start: start, count: count)
        }
    }

    // MARK: Requests

    func fillRequest(
        _ start: Int, _ count: Int?, _ pattern: [UInt8]
    ) throws(SmallocError) -> Request {
        let window = window
        let (offset, size) = try explaining(start, count) { () throws(SmallocError) in
            try window.resolve(start, count ?? window.countFrom(start))
        }
        try Window.checkPattern(pattern)
        return .fill(remote.handle, offset: offset, size: size, pattern: pattern)
    }

    func copyRequest(
        _ sourceStart: Int, _ count: Int, onto dest: View, _ destStart: Int
    ) throws(SmallocError) -> Request {
        guard remote.owner.isSame(dest.remote.owner) else {
            throw .invalidArgument("source and dest are on different connections")
        }
        do throws(SmallocError) {
            let part = try window.copy(sourceStart, count, onto: dest.window, destStart)
            return .copy(
                .handle(remote.handle), offset: part.offset, to: .handle(dest.remote.handle),
                offset: part.destOffset, size: part.size)
        } catch {
            throw explained(error, copying: count, from: sourceStart, onto: dest, destStart)
        }
    }

    /// Refuses what a slice, which is shortened here alone, can't be shortened to.
    ///
    /// - Parameter size: Bytes.
    func checkTruncation(_ size: UInt64, _ limits: Limits) throws(SmallocError) {
        if size > limits.lengthSizeMax { throw explained(.truncateOverMaxLength) }
        if size > UInt64(self.size) { throw explained(.truncateOverLength) }
    }

    func renameRequest(_ name: AllocationName, _ replacing: Bool) -> Request {
        .rename(.handle(remote.handle), to: name, replacing: replacing)
    }
    var statRequest: Request { .stat(.handle(remote.handle)) }
    var disposeRequest: Request { .dispose(.handle(remote.handle), size: UInt64(remote.size)) }

    /// What a stat tells, with a size that is known from then on.
    func stat(_ reply: Reply) throws(SmallocError) -> Smalloc.Stat {
        let stat = try Smalloc.Stat(reply.header, reply.payload)
        remote.shrink(to: stat.size)
        remote.description = AllocationDescription(stat)
        return stat
    }

    /// The shape, of what is described so: none of a slice, and none once it was truncated.
    func shape(_ description: AllocationDescription) -> [Int]? {
        isSlice || description.length != length ? nil : description.shape
    }
}
