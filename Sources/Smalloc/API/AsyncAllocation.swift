// A remote allocation for async code.

public import SmallocWire
internal import Synchronization

/// Memory that the daemon holds, for `async` code.
///
/// Positions, lengths and counts are **elements**; sizes are bytes. May be used from any number of
/// tasks at a time. Belongs to the connection it was made or opened on: with that lost every call
/// throws. When it is released, its handle is closed; an anonymous allocation is thereby disposed
/// of, a named one stays. `close()` does that at once.
public final class AsyncAllocation: Sendable {
    private let held: View<AsyncOwner>
    /// Bytes of a slice, which `truncate` makes fewer.
    private let sliceSize: Atomic<Int>
    /// It was closed, or is a slice that was disposed of.
    private let hasLeft = Atomic<Bool>(false)

    init(_ view: View<AsyncOwner>) {
        held = view
        sliceSize = Atomic(view.sliceSize ?? 0)
        view.remote.enter()
    }

    // The handle goes with the last reference to it, which a batch may have still.
    deinit { if !hasLeft.load(ordering: .relaxed) { _ = remote.leave() } }

    /// What it looks at, or has looked at.
    @inline(__always)
    var view: View<AsyncOwner> {
        var view = held
        if view.isSlice { view.sliceSize = sliceSize.load(ordering: .relaxed) }
        return view
    }
    var remote: AsyncRemote { held.remote }
    /// As the view's, without a copy of it, which would count a reference up and down.
    @inline(__always)
    var window: Window {
        Window(
            held.type, held.remote.size, held.start,
            held.isSlice ? sliceSize.load(ordering: .relaxed) : nil)
    }
    /// What it looks at; nil once disposal by its handle has been asked for, or it was closed.
    var liveView: View<AsyncOwner>? { isGone ? nil : view }
    private var isGone: Bool { remote.isGone || hasLeft.load(ordering: .relaxed) }

    /// Refuses an allocation that looks at nothing any more.
    @inline(__always)
    func check(or error: SmallocError = .noData) throws(SmallocError) {
        if isGone { throw view.explained(error) }
    }

    func checkedView(or error: SmallocError = .noData) throws(SmallocError) -> View<AsyncOwner> {
        try check(or: error)
        return view
    }

    /// What the elements are.
    ///
    /// After disposal, what they were.
    public var type: ElementType { remote.type }
    /// Elements, as far as is known here: another client may have truncated it, which `stat` finds
    /// out.
    ///
    /// 0 without data.
    public var length: Int { liveView?.length ?? 0 }
    /// Bytes: `length` times the size of an element.
    public var size: Int { liveView?.size ?? 0 }
    /// Its name; nil if it is anonymous or a slice, or holds no data.
    public var name: String? { liveView?.name }
    /// Whether it looks onto a part of another one.
    public var isSlice: Bool { liveView?.isSlice == true }

    /// Asks about it.
    ///
    /// - Parameters:
    ///   - start: The element that it begins with, if it is about a range.
    ///   - count: Elements that it is about.
    @discardableResult
    func call(
        _ request: Request, _ start: Int? = nil, _ count: Int? = nil
    ) async throws(SmallocError) -> Reply {
        try check()
        do throws(SmallocError) {
            // `self`, which the caller holds, keeps the handle open and the link going.
            return try await remote.owner.link.call(request, remote: remote)
        } catch {
            throw view.explained(error, start: start, count: count)
        }
    }

    // MARK: Elements one by one

    /// Reads one element as a number.
    ///
    /// Exact, for every type whose elements a `Double` can hold; not for `Int64`, `Uint64` and the
    /// complex types, of which nothing is read or stored by way of a `Double`.
    ///
    /// - Parameter index: Element, from 0 to length - 1.
    /// - Throws: `.noData`; `.outOfRange`; `.cancelled`; transport errors.
    ///
    /// Wire: `read`. Node: `obj[index]`.
    public func get(_ index: Int) async throws(SmallocError) -> Double {
        try check()
        try type.checkDouble()
        do throws(SmallocError) {
            let (offset, size) = try window.resolve(index, 1)
            let link = remote.owner.link
            var element = try await link.answer { waiter in
                link.ask(
                    .access(.read, remote.handle, offset: offset, size: size),
                    UnsafeRawBufferPointer(start: nil, count: 0), size: Int(size), remote, waiter)
            }.number
            return type.load(from: &element)
        } catch {
            throw view.explained(error, start: index)
        }
    }

    /// Stores a number into one element, converted as by `Allocation.set(_:at:)`.
    ///
    /// - Parameters:
    ///   - value: Any number.
    ///   - index: Element, from 0 to length - 1.
    /// - Throws: `.noData`; `.outOfRange`; `.cancelled`; transport errors.
    ///
    /// Wire: `write`. Node: `obj[index] = value`.
    public func set(_ value: Double, at index: Int) async throws(SmallocError) {
        try check()
        try type.checkDouble()
        var element: UInt64 = 0
        type.store(value, at: &element)
        let link = remote.owner.link
        do throws(SmallocError) {
            let (offset, size) = try window.resolve(index, 1)
            _ = try await link.answer { waiter in
                withUnsafeBytes(of: element) { bytes in
                    _ = link.ask(
                        .access(.write, remote.handle, offset: offset, size: size),
                        UnsafeRawBufferPointer(rebasing: bytes[..<Int(size)]), size: 0, remote,
                        waiter)
                }
            }
        } catch {
            throw view.explained(error, start: index)
        }
    }

    /// Reads one element as it lies in memory.
    ///
    /// See `Allocation.get(_:as:)`.
    ///
    /// - Throws: As `read(_:from:count:)`.
    ///
    /// Wire: `read`.
    @inlinable
    public func get<Element: Smalloc.Element>(
        _ index: Int, as element: Element.Type
    ) async throws(SmallocError) -> Element {
        try await read(element, from: index, count: 1)[0]
    }

    /// Writes one element as it lies in memory, converting nothing.
    ///
    /// See `Allocation.set(_:at:)`, the generic one.
    ///
    /// - Throws: As `write(_:at:)`.
    ///
    /// Wire: `write`.
    @inlinable
    public func set<Element: Smalloc.Element>(
        _ value: Element, at index: Int
    ) async throws(SmallocError) {
        try await write([value], at: index)
    }

    // MARK: As a whole

    /// Frees the memory, at once and for everybody.
    ///
    /// Calls on it that come later throw `.noData`.
    ///
    /// Of a slice, lets go only.
    ///
    /// - Throws: `.noData` (`obj has no external array data`); `.cancelled`; transport errors.
    ///
    /// Wire: `dispose`. Node: `smalloc.dispose(obj)`.
    public func dispose() async throws(SmallocError) {
        let view = try checkedView(or: .noDataToDispose)
        if view.isSlice { return close() }
        try await call(view.disposeRequest)
    }

    /// Closes the handle: a named allocation stays in the daemon, an anonymous one goes.
    ///
    /// Waits for nothing. Calls that come later throw `.noData`; those that are under way go on.
    /// Releasing the object does the same. Slices and mappings of it keep the handle open, until
    /// they and this object are released.
    ///
    /// Wire: `close`.
    public func close() {
        if hasLeft.exchange(true, ordering: .relaxed) { return }
        if remote.leave() { remote.owner.link.close(remote) }
    }

    /// Whether the memory is still there.
    ///
    /// Asks the daemon; false also if it can't be asked.
    public var isLive: Bool {
        get async {
            do throws(SmallocError) {
                try await call(view.statRequest)
                return true
            } catch { return false }
        }
    }

    /// Shortens it.
    ///
    /// The elements beyond are gone. Of a slice, shortens the slice only.
    ///
    /// - Parameter length: Elements, from 0 to the present length.
    /// - Throws: As `Smalloc.truncate`; `.cancelled`.
    ///
    /// Wire: `truncate`. Node: `smalloc.truncate(obj, length)`.
    public func truncate(_ length: Int) async throws(SmallocError) {
        let view = try checkedView(or: .noDataToTruncate)
        let size = type.bytes(length)
        guard view.isSlice else {
            let reply = try await call(.truncate(.handle(remote.handle), size: size))
            return remote.shrink(to: Int(clamping: reply.header.size))
        }
        try view.checkTruncation(size, remote.owner.link.limits)
        sliceSize.min(Int(size), ordering: .relaxed)
    }

    /// Gives it a name, or another one.
    ///
    /// See `Allocation.rename(to:replacing:)`.
    ///
    /// - Throws: `.invalidName`; `.noData`; `.alreadyExists`, but not if replacing; `.cancelled`;
    ///   transport errors.
    ///
    /// Wire: `rename`.
    public func rename(
        to name: String, replacing: Bool = false
    ) async throws(SmallocError) {
        let name = try AllocationName(name)
        try await call(view.renameRequest(name, replacing))
        remote.name = name.text
    }

    /// What the daemon knows of it now.
    ///
    /// If another client has truncated it, `length` is known from then on, here and in slices.
    ///
    /// - Throws: `.noData`; `.cancelled`; transport errors.
    ///
    /// Wire: `stat`.
    public func stat() async throws(SmallocError) -> Smalloc.Stat {
        try view.stat(await call(view.statRequest))
    }

    /// How its elements lie in dimensions.
    ///
    /// See `Allocation.shape`.
    ///
    /// - Throws: As `stat()`, which is asked once if it was not made here.
    ///
    /// Wire: `stat`.
    public var shape: [Int]? {
        get async throws(SmallocError) { view.shape(try await description()) }
    }

    /// The bytes that were given with its `alloc`; empty if none were.
    ///
    /// See `Allocation.metadata`.
    ///
    /// - Throws: As `shape`.
    ///
    /// Wire: `stat`.
    public var metadata: [UInt8] {
        get async throws(SmallocError) { try await description().metadata }
    }

    private func description() async throws(SmallocError) -> AllocationDescription {
        try check()
        if let known = remote.description { return known }
        return AllocationDescription(try await stat())
    }

    /// Stores one number into many elements, inside the daemon.
    ///
    /// See `Allocation.fill(_:from:count:)`.
    ///
    /// - Throws: `.noData`; `.outOfRange`; `.cancelled`; transport errors.
    ///
    /// Wire: `fill`.
    public func fill(
        _ value: Double, from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) {
        let view = try checkedView()
        try await call(view.fillRequest(start, count, try window.pattern(value)), start, count)
    }

    /// Repeats a pattern of elements over a range, inside the daemon.
    ///
    /// See `Allocation.fill(repeating:from:count:)`.
    ///
    /// - Throws: `.noData`; `.invalidArgument`; `.outOfRange`; `.cancelled`; transport errors.
    ///
    /// Wire: `fill`.
    public func fill<Element: Smalloc.Element>(
        repeating pattern: [Element], from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) {
        let view = try checkedView()
        try type.check(Element.self)
        try await call(
            view.fillRequest(start, count, pattern.withUnsafeBytes { Array($0) }), start, count)
    }

    /// Repeats bytes over a range, as elements of whatever type, inside the daemon.
    ///
    /// See `Allocation.fill(repeating:from:count:)`, the one for raw memory.
    ///
    /// - Throws: As for arrays; `.invalidArgument` for a part of an element.
    ///
    /// Wire: `fill`.
    public func fill(
        repeatingBytes bytes: [UInt8], from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) {
        let view = try checkedView()
        _ = try type.count(bytes: bytes.count)
        try await call(view.fillRequest(start, count, bytes), start, count)
    }

    /// Repeats raw memory over a range, as elements of whatever type, inside the daemon.
    ///
    /// See `Allocation.fill(repeating:from:count:)`, the one for raw memory.
    ///
    /// - Throws: As for arrays; `.invalidArgument` for a part of an element.
    ///
    /// Wire: `fill`.
    public func fill(
        repeating bytes: UnsafeRawBufferPointer, from start: Int = 0, count: Int? = nil
    ) async throws(SmallocError) {
        try await fill(repeatingBytes: Array(bytes), from: start, count: count)
    }

    /// Makes a slice: an object of its own that looks onto elements of this one, and keeps it open.
    ///
    /// - Parameters:
    ///   - start: First element.
    ///   - end: The element after the last; nil for all from `start` on.
    /// - Throws: `.noData`; `.outOfRange`: `start > length`, `end > length`, `start > end`.
    public func slice(_ start: Int, _ end: Int? = nil) throws(SmallocError) -> AsyncAllocation {
        AsyncAllocation(try checkedView().slice(start, end))
    }
}
