// What can be asked of one allocation as a whole.

public import SmallocWire

extension Allocation {
    /// Frees the memory, at once and for everybody; a name becomes free.
    ///
    /// Of a slice, lets go only.
    ///
    /// - Throws: `.noData` (`obj has no external array data`), also if another client was quicker;
    ///   transport errors; then, with the work done, an earlier failure of a subscript.
    ///
    /// Wire: `dispose`. Node: `smalloc.dispose(obj)`.
    public func dispose() throws(SmallocError) {
        let view = try view(or: .noDataToDispose)
        if !view.isSlice {
            do throws(SmallocError) {
                try view.connection.dispose(view.remote)
            } catch {
                if error.status == .noData { detach() }
                throw view.explained(error)
            }
        }
        detach()
        try throwIfFailed()
    }

    /// Closes the handle: a named allocation stays in the daemon, an anonymous one goes.
    ///
    /// Releasing the object does the same without telling how it went. Slices of it keep the handle
    /// open.
    ///
    /// - Throws: An earlier failure of a subscript, with the work done.
    ///
    /// Wire: `close`.
    public func close() throws(SmallocError) {
        detach()
        try throwIfFailed()
    }

    /// Whether the memory is still there.
    ///
    /// Asks the daemon, as others may dispose of it.
    ///
    /// False also if the connection is lost. Never throws.
    public var isLive: Bool {
        guard let view = currentView else { return false }
        return (try? view.perform(view.statRequest)) != nil
    }

    /// Shortens it.
    ///
    /// The elements beyond are gone. Of a slice, shortens the slice only.
    ///
    /// - Parameter length: Elements, from 0 to the present length.
    /// - Throws: See `Smalloc.truncate`.
    ///
    /// Wire: `truncate`. Node: `smalloc.truncate(obj, length)`.
    public func truncate(_ length: Int) throws(SmallocError) {
        let view = try checkedView(or: .noDataToTruncate)
        let size = view.type.bytes(length)
        let remote = view.remote
        guard view.isSlice else {
            let reply = try view.perform(.truncate(.handle(remote.handle), size: size))
            return remote.shrink(to: Int(clamping: reply.header.size))
        }
        try view.checkTruncation(size, view.connection.limits)
        shrinkSlice(to: Int(size))
    }

    /// Gives it a name, or another one.
    ///
    /// An anonymous allocation thereby stops belonging to its connection.
    ///
    /// - Parameters:
    ///   - name: 1 to 255 bytes of printable ASCII without spaces.
    ///   - replacing: Whether an allocation that has the name is disposed of. At no moment does
    ///     nothing have the name then, and what fails has changed nothing.
    /// - Throws: An earlier failure of a subscript; `.invalidName`; `.noData`; `.alreadyExists`,
    ///   but not if replacing; transport errors. To its own name: succeeds.
    ///
    /// Wire: `rename`.
    public func rename(to name: String, replacing: Bool = false) throws(SmallocError) {
        let view = try checkedView()
        let name = try AllocationName(name)
        try view.perform(view.renameRequest(name, replacing))
        view.remote.name = name.text
    }

    /// What the daemon knows of it now.
    ///
    /// If another client has truncated it, `length` is known from then on, here and in slices.
    ///
    /// - Throws: An earlier failure of a subscript; `.noData`; transport errors.
    ///
    /// Wire: `stat`.
    public func stat() throws(SmallocError) -> Smalloc.Stat {
        let view = try checkedView()
        return try view.stat(view.perform(view.statRequest))
    }

    /// How its elements lie in dimensions: elements of each, the last of which lies closest
    /// together; empty: it is a scalar.
    ///
    /// Nil if it was made without a shape, if it has been truncated since as far as is known here,
    /// and of a slice.
    ///
    /// - Throws: As `stat()`, which is asked once if it was not made here.
    ///
    /// Wire: `stat`.
    public var shape: [Int]? {
        get throws(SmallocError) {
            let view = try checkedView()
            return view.shape(try description(view))
        }
    }

    /// The bytes that were given with its `alloc`; empty if none were.
    ///
    /// Of a slice, those of the allocation that it looks onto.
    ///
    /// - Throws: As `shape`.
    ///
    /// Wire: `stat`.
    public var metadata: [UInt8] {
        get throws(SmallocError) { try description(checkedView()).metadata }
    }

    private func description(
        _ view: BlockingView
    ) throws(SmallocError) -> AllocationDescription {
        if let known = view.remote.description { return known }
        return AllocationDescription(try view.stat(view.perform(view.statRequest)))
    }

    /// Stores one number into many elements, inside the daemon.
    ///
    /// - Parameters:
    ///   - value: Any number; converted once, as by `set(_:at:)`.
    ///   - start: First element, from 0 to length.
    ///   - count: Elements; nil for all from `start` on.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `fill`.
    public func fill(
        _ value: Double, from start: Int = 0, count: Int? = nil
    ) throws(SmallocError) {
        let view = try checkedView()
        try view.perform(
            view.fillRequest(start, count, try view.window.pattern(value)), start, count)
    }

    /// Repeats a pattern of elements over a range, inside the daemon.
    ///
    /// - Parameters:
    ///   - pattern: 1 to 64 bytes of elements of the allocation's element type.
    ///   - start: First element, from 0 to length.
    ///   - count: Elements, a multiple of the pattern's; nil for all from `start` on.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.invalidArgument`; `.outOfRange`;
    ///   transport errors.
    ///
    /// Wire: `fill`.
    public func fill<Element: Smalloc.Element>(
        repeating pattern: [Element], from start: Int = 0, count: Int? = nil
    ) throws(SmallocError) {
        let view = try checkedView()
        try view.type.check(Element.self)
        let request = try view.fillRequest(start, count, pattern.withUnsafeBytes { Array($0) })
        try view.perform(request, start, count)
    }

    /// Repeats raw memory over a range, as elements of whatever type, inside the daemon.
    ///
    /// - Parameters:
    ///   - bytes: 1 to 64 bytes, a whole number of elements, with no alignment.
    ///   - start: First element, from 0 to length.
    ///   - count: Elements, a multiple of the pattern's; nil for all from `start` on.
    /// - Throws: As for arrays; `.invalidArgument` for a part of an element.
    ///
    /// Wire: `fill`.
    public func fill(
        repeating bytes: UnsafeRawBufferPointer, from start: Int = 0, count: Int? = nil
    ) throws(SmallocError) {
        let view = try checkedView()
        _ = try view.type.count(bytes: bytes.count)
        try view.perform(view.fillRequest(start, count, Array(bytes)), start, count)
    }

    /// Repeats bytes over a range, as elements of whatever type, inside the daemon.
    ///
    /// - Parameters:
    ///   - bytes: 1 to 64, a whole number of elements.
    ///   - start: First element, from 0 to length.
    ///   - count: Elements, a multiple of the pattern's; nil for all from `start` on.
    /// - Throws: As for arrays; `.invalidArgument` for a part of an element.
    ///
    /// Wire: `fill`.
    public func fill(
        repeatingBytes bytes: [UInt8], from start: Int = 0, count: Int? = nil
    ) throws(SmallocError) {
        let view = try checkedView()
        _ = try view.type.count(bytes: bytes.count)
        try view.perform(view.fillRequest(start, count, bytes), start, count)
    }

    /// Makes a slice: an object of its own that looks onto elements of this one.
    ///
    /// - Parameters:
    ///   - start: First element.
    ///   - end: The element after the last; nil for all from `start` on.
    /// - Throws: `.noData`; `.outOfRange`. See `Smalloc.sliceOnto`.
    public func slice(_ start: Int, _ end: Int? = nil) throws(SmallocError) -> Allocation {
        Allocation(try checkedView().slice(start, end))
    }
}
