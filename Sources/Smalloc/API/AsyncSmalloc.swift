// The async face's connection object.

public import SmallocWire

/// A connection to a daemon for `async` code: many tasks, many requests in flight, one socket.
///
/// ```swift
/// let smalloc = try await AsyncSmalloc("tcp:10.0.0.1:4747")
/// let a = try await smalloc.alloc(1024, .double)
/// try await withThrowingTaskGroup(of: Void.self) { group in
///     for i in 0..<1024 { group.addTask { try await a.set(Double(i), at: i) } }
///     try await group.waitForAll()
/// }
/// ```
///
/// Requests of all tasks share the connection: they are sent without waiting for the answers to
/// others, gathered into few system calls when there are many, and never more at a time than the
/// daemon allows. Requests of one task that awaits each take effect in its order. Tasks that ask
/// much and compute little are faster on the connection's own thread: see `executor`. Those that
/// ask for many small things at a time do so by `batch`.
///
/// **Cancellation**: cancelling a task ends its call with `.cancelled`: at once if it has waited
/// for long, else within milliseconds (40 while answers to others keep coming) unless its own
/// answer comes before that. The request may or may not have taken effect. Nothing else on the
/// connection is touched.
///
/// **Timeouts**: `requestTimeout` ends a call with `.timedOut`, nothing else; the connection goes
/// on.
///
/// Both are looked after by the connection's thread: a task that blocks it, on `executor`, holds
/// them up as it does the answers.
///
/// **Reconnecting**: see `Smalloc.Options.reconnects`.
///
/// There are no receivers and no indexing here, as neither can `await`; `AsyncAllocation` has the
/// same operations as methods.
public final class AsyncSmalloc: Sendable {
    let connection: AsyncConnection

    /// Connects and exchanges greetings.
    ///
    /// - Parameters:
    ///   - address: `unix:PATH` or `tcp:HOST:PORT`. nil: `$SMALLOC_ADDRESS`, or else the daemon's
    ///     own default, `$XDG_RUNTIME_DIR/smallocd.sock` or `/run/smallocd/smallocd.sock`.
    ///   - options: Timeouts and the like.
    /// - Throws: `.cannotConnect`, `.timedOut`, `.connectionLost`, `.unexpectedReply` (the peer is
    ///   no smallocd), `.cancelled`, or what the daemon refuses with.
    public convenience init(
        _ address: String? = nil, options: Smalloc.Options = Smalloc.Options()
    ) async throws(SmallocError) {
        if let address {
            try await self.init(address: Address(connection: address), options: options)
        } else {
            try await self.init(address: .found(), options: options)
        }
    }

    /// Connects to an address that has been read already.
    ///
    /// See `init(_:options:)`.
    public init(
        address: Address, options: Smalloc.Options = Smalloc.Options()
    ) async throws(SmallocError) {
        connection = AsyncConnection(address, options)
        _ = try await connection.link()
    }

    /// Where it is connected to.
    public var address: Address { connection.address }

    /// How it behaves.
    public var options: Smalloc.Options { connection.options }

    /// Runs tasks on the connection's thread, which makes many requests in flight cost less.
    ///
    /// For tasks that ask much and compute little; see `AsyncSmalloc.Executor`.
    public var executor: AsyncSmalloc.Executor { connection.executor }

    /// Whether the connection stands, as far as is known without asking the daemon.
    public var isConnected: Bool { connection.isConnected }

    /// What the daemon allows, as told in its greeting.
    public var limits: Limits { connection.limits }

    /// Size of the largest allocation, in **bytes**, as told by the daemon.
    ///
    /// Node: `smalloc.kMaxLength`.
    public var kMaxLength: Int { Int(clamping: limits.lengthSizeMax) }

    /// Ends the connection.
    ///
    /// Calls under way and later ones throw `.closed`.
    ///
    /// Releasing the last reference to the connection and its allocations does the same.
    public func close() { connection.close() }

    @discardableResult
    func call(_ request: Request) async throws(SmallocError) -> Reply {
        // Named, so that the link lives until the answer has come.
        let owner = try await connection.link()
        let reply = try await owner.link.call(request)
        withExtendedLifetime(owner) {}
        return reply
    }

    /// Asks for a handle.
    ///
    /// - Parameter waits: Whether the request waits in the daemon.
    func remote(
        _ request: Request, _ name: AllocationName?, _ description: AllocationDescription? = nil,
        waits: Bool = false
    ) async throws(SmallocError) -> AsyncAllocation {
        let owner = try await connection.link()
        let header: FrameHeader
        do throws(SmallocError) {
            header =
                waits
                ? try await owner.link.callWaiting(request).header
                : try await owner.link.call(request).header
        } catch { throw request.explained(error) }
        let place = AsyncOwner(owner: owner, link: owner.link, connection: connection)
        return AsyncAllocation(View(remote: try Remote(place, header, name, description)))
    }

    // MARK: Node's functions

    /// Allocates zero-filled memory that belongs to this connection.
    ///
    /// See `Smalloc.alloc(_:_:shareable:)`.
    ///
    /// - Parameters:
    ///   - length: **Elements**, from 0; with the type's size at most `kMaxLength` bytes.
    ///   - type: What the elements are; `Uint8` by default.
    ///   - shareable: Whether it is made of memory that can be mapped, so that the first map, here
    ///     or of another program, need not move it there; counts against `limit_shares` of `stats`.
    /// - Throws: As `Smalloc.alloc(_:_:shareable:)`; `.cancelled`.
    ///
    /// Wire: `alloc`, flag `shareable`. Node: `smalloc.alloc(length, type)`.
    public func alloc(
        _ length: Int, _ type: ElementType = .uint8, shareable: Bool = false
    ) async throws(SmallocError) -> AsyncAllocation {
        let request = Request.alloc(
            size: type.bytes(length), type: type.rawValue, name: nil, shareable: shareable)
        return try await remote(request, nil, .empty)
    }

    /// Allocates named memory, which stays until a client disposes of it.
    ///
    /// A cancelled call may have allocated all the same.
    ///
    /// - Throws: As `Smalloc.alloc(_:named:_:shareable:lease:)`; `.cancelled`.
    ///
    /// Wire: `alloc`.
    public func alloc(
        _ length: Int, named name: String, _ type: ElementType = .uint8, shareable: Bool = false,
        lease: Smalloc.Lease? = nil
    ) async throws(SmallocError) -> AsyncAllocation {
        let name = try AllocationName(name)
        let request = Request.alloc(
            size: type.bytes(length), type: type.rawValue, name: name, shareable: shareable,
            lease: lease)
        return try await remote(request, name, .empty)
    }

    /// Allocates memory with a shape, and bytes of the user's own.
    ///
    /// See `Smalloc.alloc(shape:named:_:metadata:shareable:lease:)`. A cancelled call may have
    /// allocated all the same.
    ///
    /// - Throws: As `Smalloc.alloc(shape:named:_:metadata:shareable:lease:)`; `.cancelled`.
    ///
    /// Wire: `alloc`, flag `described`.
    public func alloc(
        shape: [Int], named name: String? = nil, _ type: ElementType = .uint8,
        metadata: [UInt8] = [], shareable: Bool = false, lease: Smalloc.Lease? = nil
    ) async throws(SmallocError) -> AsyncAllocation {
        let description = try AllocationDescription(shape, metadata)
        var checked: AllocationName?
        if let name { checked = try AllocationName(name) }
        let request = Request.alloc(
            size: type.bytes(description.length), type: type.rawValue, name: checked,
            shareable: shareable, described: description, lease: lease)
        return try await remote(request, checked, description)
    }

    /// Allocates memory without a shape, and with bytes of the user's own.
    ///
    /// See `Smalloc.alloc(_:named:_:metadata:shareable:lease:)`. A cancelled call may have
    /// allocated all the same.
    ///
    /// - Throws: As that one; `.cancelled`.
    ///
    /// Wire: `alloc`, flag `described` unless the metadata is empty.
    public func alloc(
        _ length: Int, named name: String? = nil, _ type: ElementType = .uint8, metadata: [UInt8],
        shareable: Bool = false, lease: Smalloc.Lease? = nil
    ) async throws(SmallocError) -> AsyncAllocation {
        let description = try AllocationDescription(nil, metadata)
        var checked: AllocationName?
        if let name { checked = try AllocationName(name) }
        let request = Request.alloc(
            size: type.bytes(length), type: type.rawValue, name: checked, shareable: shareable,
            described: description, lease: lease)
        return try await remote(request, checked, description)
    }

    /// Copies elements of one allocation onto another inside the daemon, as `memmove` does.
    ///
    /// - Parameters:
    ///   - source: Read from.
    ///   - sourceStart: First element read. Elements of the source's type, from 0.
    ///   - dest: Written to. Must be on the same connection.
    ///   - destStart: First element written. Elements of the dest's type, from 0.
    ///   - copyLength: Elements of the source's type. May be 0.
    /// - Throws: As `Smalloc.copyOnto`; `.cancelled`.
    ///
    /// Wire: `copy`. Node: `smalloc.copyOnto(source, sourceStart, dest, destStart, copyLength)`.
    public func copyOnto(
        _ source: AsyncAllocation, _ sourceStart: Int, _ dest: AsyncAllocation, _ destStart: Int,
        _ copyLength: Int
    ) async throws(SmallocError) {
        guard let from = source.liveView else { throw .noSourceData }
        guard let onto = dest.liveView else { throw .noDestData }
        let request = try from.copyRequest(sourceStart, copyLength, onto: onto, destStart)
        do throws(SmallocError) {
            _ = try await from.remote.owner.link.call(request, remote: from.remote)
        } catch {
            throw from.explained(
                error, copying: copyLength, from: sourceStart, onto: onto, destStart)
        }
        withExtendedLifetime((source, dest)) {}
    }

    /// Frees an allocation's memory, at once and for everybody.
    ///
    /// See `AsyncAllocation.dispose()`.
    ///
    /// Node: `smalloc.dispose(obj)`.
    public func dispose(_ obj: AsyncAllocation) async throws(SmallocError) {
        try await obj.dispose()
    }

    /// Whether an allocation is still there.
    ///
    /// Asks the daemon.
    ///
    /// Node: `smalloc.hasExternalData(obj)`.
    public func hasExternalData(_ obj: AsyncAllocation) async -> Bool { await obj.isLive }

    /// Shortens an allocation.
    ///
    /// See `AsyncAllocation.truncate(_:)`.
    ///
    /// Node: `smalloc.truncate(obj, length)`.
    public func truncate(_ obj: AsyncAllocation, _ length: Int) async throws(SmallocError) {
        try await obj.truncate(length)
    }

    // MARK: By name

    /// Opens a named allocation.
    ///
    /// See `Smalloc.open(_:)`.
    ///
    /// - Throws: `.invalidName`; `.noData`; `.handleLimit`; `.cancelled`; transport errors.
    ///
    /// Wire: `open`.
    public func open(_ name: String) async throws(SmallocError) -> AsyncAllocation {
        let name = try AllocationName(name)
        return try await remote(.open(name), name)
    }

    /// Allocates under a name without opening it.
    ///
    /// See `Smalloc.create(_:_:_:shape:metadata:shareable:lease:)`. A cancelled call may have
    /// allocated all the same.
    ///
    /// - Throws: As that one; `.cancelled`.
    ///
    /// Wire: `alloc`, flag `noHandle`.
    public func create(
        _ name: String, _ length: Int, _ type: ElementType = .uint8, shape: [Int]? = nil,
        metadata: [UInt8] = [], shareable: Bool = false, lease: Smalloc.Lease? = nil
    ) async throws(SmallocError) {
        let name = try AllocationName(name)
        let description = try AllocationDescription(shape, metadata)
        try await call(
            .alloc(
                size: type.bytes(length), type: type.rawValue, name: name, opening: false,
                shareable: shareable, described: description, lease: lease))
    }

    /// Disposes of an allocation by its name.
    ///
    /// - Throws: `.invalidName`; `.noData`; `.cancelled`; transport errors.
    ///
    /// Wire: `dispose`.
    public func dispose(named name: String) async throws(SmallocError) {
        try await call(.dispose(.name(AllocationName(name)), size: 0))
    }

    /// Makes what a named allocation holds unchangeable, for good and for everybody.
    ///
    /// See `AsyncAllocation.freeze()`.
    ///
    /// - Throws: `.invalidName`; `.noData`; `.busy`; `.cancelled`; transport errors.
    ///
    /// Wire: `freeze`.
    public func freeze(_ name: String) async throws(SmallocError) {
        let name = try AllocationName(name)
        // The library's own mappings for large transfers would be in the way.
        connection.transferMappings.release()
        try await call(.freeze(.name(name)))
    }

    /// Renames an allocation.
    ///
    /// See `Allocation.rename(to:replacing:)`.
    ///
    /// - Throws: `.invalidName`; `.noData`; `.alreadyExists`, but not if replacing; `.cancelled`;
    ///   transport errors.
    ///
    /// Wire: `rename`.
    public func rename(
        _ name: String, to newName: String, replacing: Bool = false
    ) async throws(SmallocError) {
        try await call(
            .rename(
                .name(AllocationName(name)), to: AllocationName(newName), replacing: replacing))
    }

    /// What the daemon knows of a named allocation.
    ///
    /// - Throws: `.invalidName`; `.noData`; `.cancelled`; transport errors.
    ///
    /// Wire: `stat`.
    public func stat(_ name: String) async throws(SmallocError) -> Smalloc.Stat {
        let reply = try await call(.stat(.name(AllocationName(name))))
        return try Smalloc.Stat(reply.header, reply.payload)
    }

    /// What the daemon knows of many named allocations, asked for together.
    ///
    /// See `Smalloc.stat(_:)`, the one for many names.
    ///
    /// - Returns: As many as there are names; nil where there is none of that name.
    /// - Throws: `.invalidName`; `.cancelled`; transport errors.
    ///
    /// Wire: `stat`.
    public func stat(_ names: [String]) async throws(SmallocError) -> [Smalloc.Stat?] {
        var requests: [Request] = []
        for name in names { requests.append(.stat(.name(try AllocationName(name)))) }
        let owner = try await connection.link()
        defer { withExtendedLifetime(owner) {} }
        var stats: [Smalloc.Stat?] = []
        stats.reserveCapacity(names.count)
        var asked: [UInt64] = []
        defer { for cookie in asked.dropFirst(stats.count) { owner.link.abandon(cookie) } }
        while stats.count < requests.count {
            // As many are under way together.
            while asked.count < min(requests.count, stats.count + 100) {
                asked.append(try owner.link.start(requests[asked.count], nil))
            }
            let answer = await owner.link.wait(asked[stats.count])
            do throws(SmallocError) {
                let reply = try answer.reply()
                stats.append(try Smalloc.Stat(reply.header, reply.payload))
            } catch {
                guard error.status == .noData else {
                    throw requests[stats.count].explained(error)
                }
                stats.append(nil)
            }
        }
        return stats
    }

    /// Lists the named allocations, a page at a time behind the scenes.
    ///
    /// ```swift
    /// for try await entry in smalloc.list("images/") { print(entry.name, entry.length) }
    /// ```
    ///
    /// No order is promised. A name that exists during the whole listing is told exactly once.
    ///
    /// - Parameters:
    ///   - prefix: What their names start with; `""` for all.
    ///   - limit: Entries wanted in a page, about; 0 leaves it to the daemon.
    ///
    /// Wire: `list`.
    public func list(_ prefix: String = "", limit: Int = 0) -> AsyncSmalloc.Listing {
        AsyncSmalloc.Listing(smalloc: self, prefix: prefix, limit: UInt64(clamping: limit))
    }

    /// The daemon's counters and limits.
    ///
    /// - Throws: `.cancelled`; transport errors.
    ///
    /// Wire: `stats`.
    public func stats() async throws(SmallocError) -> Smalloc.Stats {
        Smalloc.Stats(try await call(.stats).payload)
    }

    /// Makes the daemon answer.
    ///
    /// - Throws: `.cancelled`; transport errors.
    ///
    /// Wire: `ping`.
    public func ping() async throws(SmallocError) { try await call(.ping) }

    /// Takes leave: the daemon answers what was asked before and closes.
    ///
    /// Later calls throw `.closed`.
    ///
    /// - Throws: `.cancelled`; transport errors.
    ///
    /// Wire: `quit`.
    public func quit() async throws(SmallocError) {
        defer { close() }
        try await call(.quit)
    }
}
