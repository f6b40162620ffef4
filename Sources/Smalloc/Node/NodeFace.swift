// Node's functions on the connection object: alloc, copyOnto, dispose and the rest, with Node's
// checks in Node's order.

public import SmallocWire

extension Smalloc {
    // MARK: alloc

    /// Allocates zero-filled memory in the daemon that belongs to this connection.
    ///
    /// It is disposed of when the returned object is released, is disposed of, or the connection
    /// ends.
    ///
    /// - Parameters:
    ///   - length: **Elements**, from 0; with the type's size at most `kMaxLength` bytes.
    ///   - type: What the elements are; `Uint8` by default.
    ///   - shareable: Whether it is made of memory that can be mapped, so that the first map, here
    ///     or of another program, need not move it there; counts against `limit_shares` of `stats`.
    /// - Returns: The allocation.
    /// - Throws: `.tooLarge` (`n > kMaxLength`, also for negative lengths); `.handleLimit`,
    ///   `.shareLimit`, `.allocationLimit`, `.memoryLimit`, `.outOfMemory`; `.unsupportedFlags` if
    ///   it is to be shareable and the daemon has no `map`; transport errors.
    ///
    /// Wire: `alloc`, flag `shareable`. Node: `smalloc.alloc(length, type)`.
    public func alloc(
        _ length: Int, _ type: ElementType = .uint8, shareable: Bool = false
    ) throws(SmallocError) -> Allocation {
        Allocation(View(remote: try allocate(length, type, nil, shareable)))
    }

    /// The same with the type as its number: Node's, 1 to 9, or one up to 16.
    ///
    /// - Throws: `.unknownType`, then as `alloc(_:_:shareable:)`.
    public func alloc(
        _ length: Int, _ type: Int, shareable: Bool = false
    ) throws(SmallocError) -> Allocation {
        try alloc(length, try elementType(type), shareable: shareable)
    }

    /// Allocates named memory, which stays until a client disposes of it, or its lease is over.
    ///
    /// - Parameters:
    ///   - length: **Elements**, from 0.
    ///   - name: 1 to 255 bytes of printable ASCII without spaces; `/` separates namespaces.
    ///   - type: What the elements are; `Uint8` by default.
    ///   - shareable: See `alloc(_:_:shareable:)`.
    ///   - lease: When it ends by itself; nil: it does not.
    /// - Returns: The allocation, open.
    /// - Throws: `.invalidName`; `.tooLarge`; `.alreadyExists` (`object already has external array
    ///   data`) if the name is taken; the limits' and transport errors.
    ///
    /// Wire: `alloc`.
    public func alloc(
        _ length: Int, named name: String, _ type: ElementType = .uint8, shareable: Bool = false,
        lease: Smalloc.Lease? = nil
    ) throws(SmallocError) -> Allocation {
        let name = try AllocationName(name)
        return Allocation(
            View(remote: try allocate(length, type, name, shareable, lease: lease)))
    }

    /// Allocates memory with a shape, and bytes of the user's own, both of which the daemon keeps
    /// and tells whoever opens it.
    ///
    /// - Parameters:
    ///   - shape: Elements of each of up to eight dimensions, from 0; the last one's lie closest
    ///     together. Their product is the length. Empty: a scalar, of length 1.
    ///   - name: nil for an anonymous allocation.
    ///   - type: What the elements are; `Uint8` by default.
    ///   - metadata: Up to 256 bytes, which mean nothing to the daemon.
    ///   - shareable: See `alloc(_:_:shareable:)`.
    ///   - lease: When it ends by itself; nil: it does not.
    /// - Returns: The allocation, open.
    /// - Throws: `.invalidArgument` for more dimensions or metadata; `.invalidName`; `.tooLarge`,
    ///   also for negative dimensions; `.alreadyExists`; the limits' and transport errors;
    ///   `.unsupportedFlags` from a daemon that knows no shapes.
    ///
    /// Wire: `alloc`, flag `described`.
    public func alloc(
        shape: [Int], named name: String? = nil, _ type: ElementType = .uint8,
        metadata: [UInt8] = [], shareable: Bool = false, lease: Smalloc.Lease? = nil
    ) throws(SmallocError) -> Allocation {
        let description = try AllocationDescription(shape, metadata)
        var checked: AllocationName?
        if let name { checked = try AllocationName(name) }
        return Allocation(
            View(
                remote: try allocate(
                    description.length, type, checked, shareable, description, lease: lease)))
    }

    /// Allocates memory without a shape, and with bytes of the user's own.
    ///
    /// See `alloc(shape:named:_:metadata:shareable:lease:)`.
    ///
    /// - Throws: As that one.
    ///
    /// Wire: `alloc`, flag `described` unless the metadata is empty.
    public func alloc(
        _ length: Int, named name: String? = nil, _ type: ElementType = .uint8, metadata: [UInt8],
        shareable: Bool = false, lease: Smalloc.Lease? = nil
    ) throws(SmallocError) -> Allocation {
        let description = try AllocationDescription(nil, metadata)
        var checked: AllocationName?
        if let name { checked = try AllocationName(name) }
        return Allocation(
            View(
                remote: try allocate(
                    length, type, checked, shareable, description, lease: lease)))
    }

    /// Allocates memory and gives it to a receiver.
    ///
    /// - Parameters:
    ///   - length: **Elements**, from 0.
    ///   - receiver: Any object that holds no live allocation. Classes that conform to
    ///     `Smalloc.Holder` keep it themselves; for any other a table keeps it, which notices
    ///     that the object is gone only at a later `alloc` with a receiver.
    ///   - type: What the elements are; `Uint8` by default.
    ///   - name: nil for an anonymous allocation.
    ///   - shareable: See `alloc(_:_:shareable:)`.
    /// - Returns: The receiver.
    /// - Throws: `.invalidArgument` (`obj must be an Object`, `Arrays are not supported`: values in
    ///   an `AnyObject`'s clothes); `.invalidName`; `.tooLarge`; `.alreadyExists` (`object already
    ///   has external array data`); the limits' and transport errors.
    ///
    /// Wire: `alloc`. Node: `smalloc.alloc(length, receiver, type)`.
    @discardableResult
    public func alloc<Receiver: AnyObject>(
        _ length: Int, _ receiver: Receiver, _ type: ElementType = .uint8,
        named name: String? = nil, shareable: Bool = false
    ) throws(SmallocError) -> Receiver {
        switch Receivers.kind(of: receiver) {
        case .array: throw .isArray
        case .value: throw .notAnObject
        case .object: break
        }
        var checked: AllocationName?
        if let name { checked = try AllocationName(name) }
        guard type.bytes(length) <= limits.lengthSizeMax else { throw .overMaxLength }
        if hasExternalData(receiver) { throw .alreadyExists }
        let remote = try allocate(length, type, checked, shareable)
        Receivers.give(Allocation(View(remote: remote)), to: receiver)
        return receiver
    }

    /// The same with the type as its number: Node's, 1 to 9, or one up to 16.
    ///
    /// - Throws: `obj must be an Object`; `.unknownType`; `Arrays are not supported`; then as
    ///   `alloc(_:_:_:named:shareable:)`.
    @discardableResult
    public func alloc<Receiver: AnyObject>(
        _ length: Int, _ receiver: Receiver, _ type: Int, named name: String? = nil,
        shareable: Bool = false
    ) throws(SmallocError) -> Receiver {
        if Receivers.kind(of: receiver) == .value { throw .notAnObject }
        return try alloc(
            length, receiver, try elementType(type), named: name, shareable: shareable)
    }

    /// Arrays can't hold an allocation.
    @available(*, unavailable, message: "Arrays are not supported")
    @discardableResult
    public func alloc<Element>(
        _ length: Int, _ receiver: [Element], _ type: ElementType = .uint8
    ) throws(SmallocError) -> [Element] { throw .isArray }

    private func elementType(_ number: Int) throws(SmallocError) -> ElementType {
        guard let raw = UInt8(exactly: number), let type = ElementType(rawValue: raw) else {
            throw .unknownType(String(number))
        }
        return type
    }

    private func allocate(
        _ length: Int, _ type: ElementType, _ name: AllocationName?, _ shareable: Bool,
        _ description: AllocationDescription = .empty, lease: Smalloc.Lease? = nil
    ) throws(SmallocError) -> BlockingRemote {
        try connection.performForRemote(
            .alloc(
                size: type.bytes(length), type: type.rawValue, name: name, shareable: shareable,
                described: description, lease: lease),
            name: name, description: description)
    }

    // MARK: copyOnto

    /// Copies elements of one allocation onto another inside the daemon, as `memmove` does.
    ///
    /// Source and dest may be the same and the ranges may overlap. Bits are copied, values are not
    /// converted: two `Uint32` elements fill one `Double`. **All positions are elements**, each of
    /// its own allocation's type (Node counts the starts in bytes; for one-byte types the two
    /// agree).
    ///
    /// - Parameters:
    ///   - source: Object read from.
    ///   - sourceStart: First element read. Elements of the source's type, from 0.
    ///   - dest: Object written to. Must be on the same connection.
    ///   - destStart: First element written. Elements of the dest's type, from 0.
    ///   - copyLength: Elements of the source's type. May be 0.
    /// - Throws: In this order: earlier failures of a subscript of source or dest; `source must be
    ///   an object`; `dest must be an object`; `.noData`: `source has no external array data`,
    ///   `dest has no external array data`; `.outOfRange`, compared in bytes: `copy_length >
    ///   source_length`, `copy_length > dest_length`, `source_start > source_length`, `dest_start >
    ///   dest_length`, `source_start + copy_length > source_length`, `dest_start + copy_length >
    ///   dest_length`. Negative numbers count as over-large. Then transport errors.
    /// - Complexity: O(size copied), in the daemon.
    ///
    /// Wire: `copy`. Node: `smalloc.copyOnto(source, sourceStart, dest, destStart, copyLength)`.
    public func copyOnto(
        _ source: AnyObject, _ sourceStart: Int, _ dest: AnyObject, _ destStart: Int,
        _ copyLength: Int
    ) throws(SmallocError) {
        let from = try Receivers.allocation(of: source, orThrow: .sourceNotAnObject)
        let onto = try Receivers.allocation(of: dest, orThrow: .destNotAnObject)
        try from?.throwIfFailed()
        try onto?.throwIfFailed()
        guard let from = from?.currentView else { throw .noSourceData }
        guard let onto = onto?.currentView else { throw .noDestData }
        try from.copy(sourceStart, copyLength, onto: onto, destStart)
    }

    // MARK: dispose

    /// Frees the memory that an object holds, at once and for everybody; a name becomes free.
    ///
    /// Disposing of a slice lets go of the slice only. An earlier failure of a subscript is thrown
    /// after the work is done.
    ///
    /// - Parameter obj: Object with an allocation; no `Buffer`.
    /// - Throws: `obj must be an Object`; `obj cannot be a Buffer`; `.noData` (`obj has no external
    ///   array data`), also if another client was quicker; transport errors.
    ///
    /// Wire: `dispose`. Node: `smalloc.dispose(obj)`.
    public func dispose(_ obj: AnyObject) throws(SmallocError) {
        let allocation = try Receivers.allocation(of: obj, orThrow: .notAnObject)
        if obj is Buffer { throw .isBuffer }
        guard let allocation else { throw .noDataToDispose }
        defer { Receivers.take(from: obj) }
        try allocation.dispose()
    }

    // MARK: The rest

    /// Whether an object holds a live allocation.
    ///
    /// Asks the daemon, as others may dispose, too.
    ///
    /// - Parameter obj: Anything. Values, objects without one, and those on a lost connection:
    ///   false.
    /// - Complexity: One round trip if it holds one as far as is known here.
    ///
    /// Node: `smalloc.hasExternalData(obj)`.
    public func hasExternalData(_ obj: AnyObject) -> Bool {
        Receivers.allocation(of: obj)?.isLive ?? false
    }

    /// Shortens an allocation.
    ///
    /// The elements beyond are gone.
    ///
    /// - Parameters:
    ///   - obj: Object with an allocation. A slice is shortened by itself, its memory is not.
    ///   - length: Elements, from 0 to the present length.
    /// - Throws: An earlier failure of a subscript; `.noData`, a TypeError (`object has no external
    ///   array data`); `.tooLarge` (`truncate length is bigger than kMaxLength`, also for negative
    ///   ones); `.outOfRange` (`truncate length is bigger than current one`); transport errors.
    ///
    /// Wire: `truncate`. Node: `smalloc.truncate(obj, length)`.
    public func truncate(_ obj: AnyObject, _ length: Int) throws(SmallocError) {
        guard let allocation = Receivers.allocation(of: obj) else { throw .noDataToTruncate }
        try allocation.truncate(length)
    }

    /// Makes an object a view of a part of another's memory, of the same type.
    ///
    /// Copies nothing.
    ///
    /// The slice keeps the source's memory alive as if it were the source. Stores through one are
    /// seen through the other. Disposing of the source leaves the slice without data.
    ///
    /// - Parameters:
    ///   - source: Object with an allocation.
    ///   - dest: Object that holds no live allocation.
    ///   - start: First element of the source.
    ///   - end: The element after the last, from `start` to the source's length.
    /// - Returns: The source.
    /// - Throws: `source must be an object`; `dest must be an object`; `.noData` (`source has no
    ///   external array data`); `.alreadyExists` (`object already has external array data`);
    ///   `.outOfRange`: `start > length`, `end > length`, `start > end`. Negative numbers count as
    ///   over-large.
    ///
    /// Node: `smalloc.sliceOnto(source, dest, start, end)`.
    @discardableResult
    public func sliceOnto<Source: AnyObject>(
        _ source: Source, _ dest: AnyObject, _ start: Int, _ end: Int
    ) throws(SmallocError) -> Source {
        let from = try Receivers.allocation(of: source, orThrow: .sourceNotAnObject)
        if Receivers.kind(of: dest) != .object { throw .destNotAnObject }
        guard let view = from?.currentView else { throw .noSourceData }
        if hasExternalData(dest) { throw .alreadyExists }
        Receivers.give(Allocation(try view.slice(start, end)), to: dest)
        return source
    }
}
