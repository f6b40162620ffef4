// The multiplexed connection as the async face sees it: makes links, one after another, and asks.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// Keeps a link going for as long as it is in use.
final class LinkOwner: Sendable {
    let link: Link
    init(_ link: Link) { self.link = link }
    deinit { link.end(.closed) }
}

/// A handle's place on the async face: a link, and the connection that made it.
struct AsyncOwner: HandleOwner {
    let owner: LinkOwner
    /// The owner's.
    let link: Link
    let connection: AsyncConnection

    /// The connection, and the link that it had when the batch was begun.
    struct Home {
        let connection: AsyncConnection
        let owner: LinkOwner?
    }

    @inline(__always)
    func check(_ home: Home) throws(SmallocError) {
        if connection !== home.connection { throw .foreignAllocation }
        if owner !== home.owner { throw .lostWithConnection }
    }
    func isSame(_ other: AsyncOwner) -> Bool { owner === other.owner }
    func release(_ handle: UInt32) { link.forget(handle) }
    func notify(
        _ remote: AsyncRemote, offset: UInt64, count: UInt64
    ) throws(SmallocError) -> Int {
        try link.send(.notify(remote.handle, offset: offset, count: count), remote)
        return 0
    }
    func ended(_ remote: AsyncRemote) -> SmallocError? { link.ended?.afterwards }
    var transferMappings: TransferMappings<AsyncOwner> { connection.transferMappings }
}

typealias AsyncRemote = Remote<AsyncOwner>

/// Makes a link at need, and hands it to the tasks that ask for it.
final class AsyncConnection: Sendable {
    let address: Address
    let options: Smalloc.Options
    let executor = AsyncSmalloc.Executor()
    let transferMappings = TransferMappings<AsyncOwner>()
    private let state = Locked(State())
    private let fork = ForkGuard()

    private struct State: Sendable {
        var owner: LinkOwner?
        var connecting = false
        var waiters: [UInt64: UnsafeContinuation<Result<LinkOwner, SmallocError>, Never>] = [:]
        var nextWaiter: UInt64 = 1
        var hasConnected = false
        var closed = false
    }

    init(_ address: Address, _ options: Smalloc.Options) {
        self.address = address
        self.options = options
    }

    var limits: Limits { state.withLock { $0.owner?.link.limits ?? Limits() } }

    /// The last link, which may have ended; nil before there was any.
    var present: LinkOwner? { state.withLock { $0.owner } }

    var isConnected: Bool {
        // A lock that another thread held at the fork is held for ever.
        if fork.isForked { return false }
        guard let link = state.withLock({ $0.owner?.link }) else { return false }
        return link.ended == nil
    }

    func close() {
        if fork.isForked { return }
        let owner = state.withLock {
            $0.closed = true
            return $0.owner
        }
        owner?.link.end(.closed)
    }

    /// Refuses a fork of the process that connected.
    func checkFork() throws(SmallocError) { try fork.check() }

    /// The present link, or a new one.
    ///
    /// - Throws: `.forked`, as a fork has no thread that could serve one.
    func link() async throws(SmallocError) -> LinkOwner {
        try fork.check()
        if let owner = state.withLock({ $0.owner }) {
            guard let ended = owner.link.ended else { return owner }
            guard options.reconnects else { throw ended.afterwards }
        }
        return try await connect()
    }

    private func connect() async throws(SmallocError) -> LinkOwner {
        let id: UInt64 = state.withLock { state in
            defer { state.nextWaiter += 1 }
            return state.nextWaiter
        }
        let result = await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                // One thread connects, for all tasks that want it.
                let starts: Bool = state.withLock { state in
                    state.waiters[id] = continuation
                    guard !state.connecting else { return false }
                    state.connecting = true
                    return true
                }
                if Task.isCancelled { cancel(id) }
                if starts, !startThread({ self.makeLink() }) {
                    finish(.failure(.cannotConnect("no thread could be started")))
                }
            }
        } onCancel: {
            cancel(id)
        }
        // The order that the runtime keeps by itself, in a way that the ThreadSanitizer sees.
        state.withLock { _ in }
        return try result.get()
    }

    private func cancel(_ id: UInt64) {
        state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(
            returning: .failure(.cancelled))
    }

    private func finish(_ result: Result<LinkOwner, SmallocError>) {
        let (waiters, closed) = state.withLock { state in
            let waiters = state.waiters
            state.waiters = [:]
            state.connecting = false
            if case .success(let owner) = result, !state.closed { state.owner = owner }
            return (Array(waiters.values), state.closed)
        }
        for waiter in waiters { waiter.resume(returning: closed ? .failure(.closed) : result) }
    }

    /// Connects, and has the link served.
    ///
    /// - Returns: What this thread has to go on with; it holds neither this object nor the link, so
    ///   that both can end by being released.
    private func makeLink() -> (@Sendable () -> Void)? {
        do throws(SmallocError) {
            let link = try Link.connect(address, options, executor)
            let isFirst = executor.take(link)
            finish(.success(LinkOwner(link)))
            guard isFirst else { return nil }
            return { [executor] in executor.work() }
        } catch {
            finish(.failure(error))
            return nil
        }
    }
}
