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
        if view.sliceSize == nil {
            let remote = view.remote
            do throws(SmallocError) {
                try remote.connection.dispose(remote)
            } catch {
                if error.status == .noData { detach() }
                throw error
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
        guard let remote = currentView?.remote else { return false }
        let reply = try? remote.connection.performForPayload(
            .stat(.handle(remote.handle)), on: remote)
        return reply != nil
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
        guard view.sliceSize != nil else {
            let reply = try remote.connection.perform(
                .truncate(.handle(remote.handle), size: size), on: remote)
            remote.shrink(to: Int(clamping: reply.size))
            return
        }
        if size > remote.connection.limits.lengthSizeMax { throw .truncateOverMaxLength }
        if size > UInt64(view.size) { throw .truncateOverLength }
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
        let remote = try checkedView().remote
        let name = try AllocationName(name)
        try remote.connection.perform(
            .rename(.handle(remote.handle), to: name, replacing: replacing), on: remote)
        remote.name = name.text
    }

    /// What the daemon knows of it now.
    ///
    /// If another client has truncated it, `length` is known from then on, here and in slices.
    ///
    /// - Throws: An earlier failure of a subscript; `.noData`; transport errors.
    ///
    /// Wire: `stat`.
    public func stat() throws(SmallocError) -> AllocationStat {
        let remote = try checkedView().remote
        let reply = try remote.connection.performForPayload(
            .stat(.handle(remote.handle)), on: remote)
        let stat = try AllocationStat(reply.header, reply.payload)
        remote.shrink(to: stat.size)
        return stat
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
        let window = view.window
        try view.fill(start, count ?? window.countFrom(start), window.pattern(value))
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
    public func fill<Element: AllocationElement>(
        repeating pattern: [Element], from start: Int = 0, count: Int? = nil
    ) throws(SmallocError) {
        let view = try checkedView()
        try view.type.check(Element.self)
        try view.fill(
            start, count ?? view.window.countFrom(start), pattern.withUnsafeBytes { Array($0) })
    }

    /// Makes a slice: an object of its own that looks onto elements of this one.
    ///
    /// - Parameters:
    ///   - start: First element.
    ///   - end: The element after the last; nil for all from `start` on.
    /// - Throws: `.noData`; `.outOfRange`. See `Smalloc.sliceOnto`.
    public func slice(_ start: Int, _ end: Int? = nil) throws(SmallocError) -> Allocation {
        let view = try checkedView()
        return Allocation(try view.slice(start, end ?? view.length))
    }
}

extension View {
    func fill(_ start: Int, _ count: Int, _ pattern: [UInt8]) throws(SmallocError) {
        let (offset, size) = try resolve(start, count)
        try Window.checkPattern(pattern)
        try remote.connection.perform(
            .fill(remote.handle, offset: offset, size: size, pattern: pattern), on: remote)
    }

    func slice(_ start: Int, _ end: Int) throws(SmallocError) -> View {
        let part = try window.slice(start, end)
        return View(remote: remote, start: part.start, sliceSize: part.size)
    }

    func copy(
        _ sourceStart: Int, _ count: Int, onto dest: View, _ destStart: Int
    ) throws(SmallocError) {
        guard remote.connection === dest.remote.connection, remote.session == dest.remote.session
        else { throw .invalidArgument("source and dest are on different connections") }
        let part = try window.copy(sourceStart, count, onto: dest.window, destStart)
        try remote.connection.perform(
            .copy(
                .handle(remote.handle), offset: part.offset, to: .handle(dest.remote.handle),
                offset: part.destOffset, size: part.size), on: remote)
    }
}
