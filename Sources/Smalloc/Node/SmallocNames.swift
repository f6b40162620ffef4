// What can be asked by name or of the daemon as a whole. Needs no allocation of this connection,
// and so connects again if the connection was lost.

public import SmallocWire

extension Smalloc {
    /// Opens a named allocation.
    ///
    /// Disposing and allocating anew under the same name makes another allocation: this one then
    /// has no data, for ever.
    ///
    /// - Parameter name: 1 to 255 bytes of printable ASCII without spaces.
    /// - Throws: `.invalidName`; `.noData`; `.handleLimit`; transport errors.
    ///
    /// Wire: `open`.
    public func open(_ name: String) throws(SmallocError) -> Allocation {
        let name = try AllocationName(name)
        return Allocation(
            View(remote: try connection.performForRemote(.open(name), name: name)))
    }

    /// Opens a named allocation for a receiver that holds none.
    ///
    /// - Returns: The receiver.
    /// - Throws: `obj must be an Object`; `object already has external array data`; then as
    ///   `open(_:)`.
    @discardableResult
    public func open<Receiver: AnyObject>(
        _ name: String, _ receiver: Receiver
    ) throws(SmallocError) -> Receiver {
        if Receivers.kind(of: receiver) != .object { throw .notAnObject }
        if hasExternalData(receiver) { throw .alreadyExists }
        Receivers.give(try open(name), to: receiver)
        return receiver
    }

    /// Allocates under a name without opening it.
    ///
    /// See `alloc(_:named:_:shareable:lease:)`, and for what describes it
    /// `alloc(shape:named:_:metadata:shareable:lease:)`.
    ///
    /// - Parameters:
    ///   - name: 1 to 255 bytes of printable ASCII without spaces.
    ///   - length: **Elements**, from 0.
    ///   - type: What the elements are; `Uint8` by default.
    ///   - shape: Dimensions whose product is the length; nil for none.
    ///   - metadata: Up to 256 bytes.
    ///   - shareable: See `alloc(_:_:shareable:)`.
    ///   - lease: When it ends by itself; nil: it does not.
    /// - Throws: As `alloc(_:named:_:shareable:lease:)`, but for the handle limit;
    ///   `.invalidArgument` for a shape of another length.
    ///
    /// Wire: `alloc`, flag `noHandle`.
    public func create(
        _ name: String, _ length: Int, _ type: ElementType = .uint8, shape: [Int]? = nil,
        metadata: [UInt8] = [], shareable: Bool = false, lease: Smalloc.Lease? = nil
    ) throws(SmallocError) {
        let name = try AllocationName(name)
        let description = try AllocationDescription(shape, metadata)
        try connection.perform(
            .alloc(
                size: type.bytes(length), type: type.rawValue, name: name, opening: false,
                shareable: shareable, described: description, lease: lease),
            on: nil)
    }

    /// Disposes of an allocation by its name.
    ///
    /// See `dispose(_:)` for objects.
    ///
    /// - Throws: `.invalidName`; `.noData` (`obj has no external array data`); transport errors.
    ///
    /// Wire: `dispose`.
    public func dispose(named name: String) throws(SmallocError) {
        try connection.perform(.dispose(.name(try AllocationName(name)), size: 0), on: nil)
    }

    /// Makes what a named allocation holds unchangeable, for good and for everybody.
    ///
    /// See `Allocation.freeze()`.
    ///
    /// - Throws: `.invalidName`; `.noData`; `.busy`; transport errors.
    ///
    /// Wire: `freeze`.
    public func freeze(_ name: String) throws(SmallocError) {
        try connection.freeze(.name(try AllocationName(name)), on: nil)
    }

    /// Renames an allocation.
    ///
    /// See `Allocation.rename(to:replacing:)`.
    ///
    /// - Throws: `.invalidName`; `.noData`; `.alreadyExists`, but not if replacing; transport
    ///   errors. To its own name: succeeds.
    ///
    /// Wire: `rename`.
    public func rename(
        _ name: String, to newName: String, replacing: Bool = false
    ) throws(SmallocError) {
        try connection.perform(
            .rename(
                .name(try AllocationName(name)), to: try AllocationName(newName),
                replacing: replacing), on: nil)
    }

    /// What the daemon knows of a named allocation.
    ///
    /// - Throws: `.invalidName`; `.noData`; transport errors.
    ///
    /// Wire: `stat`.
    public func stat(_ name: String) throws(SmallocError) -> Smalloc.Stat {
        let reply = try connection.perform(
            .stat(.name(try AllocationName(name))), on: nil)
        return try Smalloc.Stat(reply.header, reply.payload)
    }

    /// What the daemon knows of many named allocations, asked for together: a wait for each
    /// hundred or so, and not for each.
    ///
    /// - Returns: As many as there are names; nil where there is none of that name.
    /// - Throws: `.invalidName`; transport errors.
    ///
    /// Wire: `stat`.
    public func stat(_ names: [String]) throws(SmallocError) -> [Smalloc.Stat?] {
        var stats: [Smalloc.Stat?] = []
        stats.reserveCapacity(names.count)
        for first in stride(from: 0, to: names.count, by: 100) {
            var requests: [Request] = []
            for name in names[first..<min(first + 100, names.count)] {
                requests.append(.stat(.name(try AllocationName(name))))
            }
            for reply in try connection.performAll(requests) {
                stats.append(
                    try reply.map { (reply) throws(SmallocError) in
                        try Smalloc.Stat(reply.header, reply.payload)
                    })
            }
        }
        return stats
    }

    /// Lists the named allocations, all at once.
    ///
    /// For very many see `pages`.
    ///
    /// - Parameter prefix: What their names start with; `""` for all.
    /// - Returns: In no order that is promised.
    /// - Throws: `.invalidName` for a prefix that no name can have; transport errors.
    ///
    /// Wire: `list`.
    public func list(_ prefix: String = "") throws(SmallocError) -> [Smalloc.Entry] {
        var entries: [Smalloc.Entry] = []
        var pages = try pages(prefix)
        while let page = pages.next() { entries += try page.get() }
        return entries
    }

    /// Lists the named allocations page by page.
    ///
    /// ```swift
    /// for page in try smalloc.pages("images/") {
    ///     for entry in try page.get() { print(entry.name, entry.length) }
    /// }
    /// ```
    ///
    /// - Parameters:
    ///   - prefix: What their names start with; `""` for all.
    ///   - limit: Entries wanted in a page, about; 0 leaves it to the daemon.
    /// - Throws: `.invalidName` for a prefix that no name can have. What the daemon says comes as
    ///   the result of a page.
    ///
    /// Wire: `list`.
    public func pages(
        _ prefix: String = "", limit: Int = 0
    ) throws(SmallocError) -> Smalloc.Pages {
        try Smalloc.Pages(connection, prefix, limit)
    }

    /// The daemon's counters and limits.
    ///
    /// - Throws: Transport errors.
    ///
    /// Wire: `stats`.
    public func stats() throws(SmallocError) -> Smalloc.Stats {
        Smalloc.Stats(try connection.perform(.stats, on: nil).payload)
    }

    /// Makes the daemon answer.
    ///
    /// The shortest round trip there is.
    ///
    /// - Throws: Transport errors.
    ///
    /// Wire: `ping`.
    public func ping() throws(SmallocError) { try connection.perform(.ping, on: nil) }

    /// Takes leave: the daemon answers what was asked before and closes.
    ///
    /// Later calls throw `.closed`.
    ///
    /// - Throws: Transport errors.
    ///
    /// Wire: `quit`.
    public func quit() throws(SmallocError) {
        defer { close() }
        try connection.perform(.quit, on: nil)
    }
}
