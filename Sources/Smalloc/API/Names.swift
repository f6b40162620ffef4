// Names that other clients give and take: to wait for one, to ask whether there is one, and to have
// it whoever was first.

public import SmallocWire

extension Smalloc {
    /// Opens a named allocation, and waits for it if there is none yet.
    ///
    /// It is opened as it appears, by `alloc` or by `rename`, whatever becomes of it then: what was
    /// disposed of before this returns has no data.
    ///
    /// **The connection serves this call alone meanwhile**, as it does with each: calls of other
    /// threads on it wait. So what makes the allocation uses another connection, or the async face.
    ///
    /// - Parameters:
    ///   - name: 1 to 255 bytes of printable ASCII without spaces.
    ///   - frozen: Whether to wait until it is frozen, too: see `Allocation.freeze()`.
    ///   - timeout: The longest time to wait, to the millisecond; nil for as long as it takes.
    ///     Comes on top of the connection's `requestTimeout`.
    /// - Throws: `.invalidName`; `.noData` when the time is up; `.waitLimit`; `.handleLimit`;
    ///   `.cancelled` if the daemon stops; transport errors.
    ///
    /// Wire: `open`, flag `await` or `awaitFrozen`.
    public func open(
        _ name: String, frozen: Bool = false, timeout: Duration?
    ) throws(SmallocError) -> Allocation {
        let name = try AllocationName(name)
        let request = Request.open(name, frozen: frozen, timeout: timeout)
        return Allocation(
            View(remote: try connection.performForRemote(request, name: name, waits: true)))
    }

    /// Whether there is an allocation of a name now.
    ///
    /// - Parameter name: 1 to 255 bytes of printable ASCII without spaces.
    /// - Throws: `.invalidName`; transport errors.
    /// - Complexity: One round trip; nothing is opened.
    ///
    /// Wire: `stat`.
    public func exists(_ name: String) throws(SmallocError) -> Bool {
        let request = Request.stat(.name(try AllocationName(name)))
        return try connection.performAll([request])[0] != nil
    }

    /// Opens a named allocation, or makes it if there is none.
    ///
    /// Clients that call this at the same time get the same one, and none has to be first.
    ///
    /// - Parameters:
    ///   - length: **Elements**, from 0.
    ///   - name: 1 to 255 bytes of printable ASCII without spaces.
    ///   - type: What the elements are; `Uint8` by default.
    ///   - shareable: Whether it is made of memory that can be mapped, if it is made here; see
    ///     `alloc(_:_:shareable:)`.
    ///   - lease: When it ends by itself, if it is made here; nil: it does not.
    /// - Throws: `.invalidName`; `.alreadyExists` where there is one of another type or length;
    ///   then as `alloc(_:named:_:shareable:lease:)`.
    ///
    /// Wire: `open`, then `alloc`, and so on until one of them succeeds.
    public func openOrAlloc(
        _ length: Int, named name: String, _ type: ElementType = .uint8, shareable: Bool = false,
        lease: Smalloc.Lease? = nil
    ) throws(SmallocError) -> Allocation {
        try openOrMake(name, Wanted(type, length)) { () throws(SmallocError) in
            try alloc(length, named: name, type, shareable: shareable, lease: lease)
        }
    }

    /// Opens a named allocation of a shape, or makes it if there is none.
    ///
    /// See `openOrAlloc(_:named:_:shareable:lease:)`.
    ///
    /// - Parameters:
    ///   - shape: Elements of each of up to eight dimensions; their product is the length.
    ///   - name: 1 to 255 bytes of printable ASCII without spaces.
    ///   - type: What the elements are; `Uint8` by default.
    ///   - metadata: Up to 256 bytes that it is given if it is made here; what is there keeps its
    ///     own.
    ///   - shareable: See `openOrAlloc(_:named:_:shareable:lease:)`.
    ///   - lease: The same.
    /// - Throws: `.invalidName`; `.alreadyExists` where there is one of another type, length or
    ///   shape; then as `alloc(shape:named:_:metadata:shareable:lease:)`.
    ///
    /// Wire: `open`, `stat`, then `alloc`, flag `described`.
    public func openOrAlloc(
        shape: [Int], named name: String, _ type: ElementType = .uint8, metadata: [UInt8] = [],
        shareable: Bool = false, lease: Smalloc.Lease? = nil
    ) throws(SmallocError) -> Allocation {
        let length = try AllocationDescription(shape, metadata).length
        return try openOrMake(name, Wanted(type, length, shape)) { () throws(SmallocError) in
            try alloc(
                shape: shape, named: name, type, metadata: metadata, shareable: shareable,
                lease: lease)
        }
    }

    private func openOrMake(
        _ name: String, _ wanted: Wanted, _ make: () throws(SmallocError) -> Allocation
    ) throws(SmallocError) -> Allocation {
        while true {
            do throws(SmallocError) {
                let found = try open(name)
                try wanted.check(
                    name, found.type, found.length, wanted.shape == nil ? nil : found.shape)
                return found
            } catch {
                if error.status != .noData { throw error }
            }
            do throws(SmallocError) { return try make() } catch {
                // Another client was faster, and may be again.
                if error.status != .alreadyExists { throw error }
            }
        }
    }
}

extension AsyncSmalloc {
    /// Opens a named allocation, and waits for it if there is none yet.
    ///
    /// See `Smalloc.open(_:frozen:timeout:)`. Other calls on the connection go on meanwhile.
    /// Cancelling the task takes the request back.
    ///
    /// - Throws: As that one; `.cancelled`.
    ///
    /// Wire: `open`, flag `await` or `awaitFrozen`.
    public func open(
        _ name: String, frozen: Bool = false, timeout: Duration?
    ) async throws(SmallocError) -> AsyncAllocation {
        let name = try AllocationName(name)
        return try await remote(
            .open(name, frozen: frozen, timeout: timeout), name, waits: true)
    }

    /// Whether there is an allocation of a name now.
    ///
    /// See `Smalloc.exists(_:)`.
    ///
    /// - Throws: `.invalidName`; `.cancelled`; transport errors.
    ///
    /// Wire: `stat`.
    public func exists(_ name: String) async throws(SmallocError) -> Bool {
        let name = try AllocationName(name)
        do throws(SmallocError) {
            try await call(.stat(.name(name)))
            return true
        } catch {
            if error.status != .noData { throw error }
            return false
        }
    }

    /// Opens a named allocation, or makes it if there is none.
    ///
    /// See `Smalloc.openOrAlloc(_:named:_:shareable:lease:)`.
    ///
    /// - Throws: As that one; `.cancelled`.
    ///
    /// Wire: `open`, then `alloc`, and so on until one of them succeeds.
    public func openOrAlloc(
        _ length: Int, named name: String, _ type: ElementType = .uint8, shareable: Bool = false,
        lease: Smalloc.Lease? = nil
    ) async throws(SmallocError) -> AsyncAllocation {
        while true {
            if let found = try await openOnly(name, Wanted(type, length)) { return found }
            do throws(SmallocError) {
                return try await alloc(
                    length, named: name, type, shareable: shareable, lease: lease)
            } catch {
                // Another client was faster, and may be again.
                if error.status != .alreadyExists { throw error }
            }
        }
    }

    /// Opens a named allocation of a shape, or makes it if there is none.
    ///
    /// See `Smalloc.openOrAlloc(shape:named:_:metadata:shareable:lease:)`.
    ///
    /// - Throws: As that one; `.cancelled`.
    ///
    /// Wire: `open`, `stat`, then `alloc`, flag `described`.
    public func openOrAlloc(
        shape: [Int], named name: String, _ type: ElementType = .uint8, metadata: [UInt8] = [],
        shareable: Bool = false, lease: Smalloc.Lease? = nil
    ) async throws(SmallocError) -> AsyncAllocation {
        let wanted = Wanted(type, try AllocationDescription(shape, metadata).length, shape)
        while true {
            if let found = try await openOnly(name, wanted) { return found }
            do throws(SmallocError) {
                return try await alloc(
                    shape: shape, named: name, type, metadata: metadata, shareable: shareable,
                    lease: lease)
            } catch {
                if error.status != .alreadyExists { throw error }
            }
        }
    }

    /// Nil: there is none.
    private func openOnly(
        _ name: String, _ wanted: Wanted
    ) async throws(SmallocError) -> AsyncAllocation? {
        do throws(SmallocError) {
            let found = try await open(name)
            let shape = wanted.shape == nil ? nil : try await found.shape
            try wanted.check(name, found.type, found.length, shape)
            return found
        } catch {
            if error.status != .noData { throw error }
            return nil
        }
    }
}

/// What an allocation has to be to be taken for the one that would have been made.
private struct Wanted: Sendable {
    let type: ElementType
    let length: Int
    let shape: [Int]?

    init(_ type: ElementType, _ length: Int, _ shape: [Int]? = nil) {
        self.type = type
        self.length = length
        self.shape = shape
    }

    /// - Parameter found: Its shape, looked at only if one is wanted.
    /// - Throws: `.alreadyExists`.
    func check(
        _ name: String, _ foundType: ElementType, _ foundLength: Int, _ found: [Int]?
    ) throws(SmallocError) {
        if foundType == type, foundLength == length, shape == nil || found == shape { return }
        var text = "\(name): it has \(foundLength) elements of \(foundType.name)"
        if shape != nil {
            text += found.map { " in the shape \($0)" } ?? " and no shape"
        }
        throw SmallocError.alreadyExists.detailed(text)
    }
}
