// The multiplexed connection as the async face sees it: makes links, one after another, and asks.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// Keeps a link going for as long as somebody may use it.
final class LinkOwner: Sendable {
    let link: Link
    init(_ link: Link) { self.link = link }
    deinit { link.end(.closed) }
}

/// An open handle on one link.
///
/// Goes when the last object that uses it goes.
final class AsyncRemote: Sendable {
    let owner: LinkOwner
    /// The owner's.
    let link: Link
    let connection: AsyncConnection
    let handle: UInt32
    let type: ElementType
    private let nameState: Locked<String?>
    /// Bytes.
    ///
    /// Only ever shrinks.
    private let sizeState: Atomic<Int>
    private let gone = Atomic<Bool>(false)

    init(
        _ owner: LinkOwner, _ connection: AsyncConnection, handle: UInt32, type: ElementType,
        size: Int, name: String?
    ) {
        self.owner = owner
        link = owner.link
        self.connection = connection
        self.handle = handle
        self.type = type
        nameState = Locked(name)
        sizeState = Atomic(size)
    }

    deinit { if !isGone { link.forget(Request.close(handle).header) } }

    var size: Int { sizeState.load(ordering: .relaxed) }

    /// Takes note of a size that the daemon has told.
    ///
    /// Answers may be looked at in another order than they were given in: the least one counts.
    func shrink(to size: Int) { sizeState.min(size, ordering: .relaxed) }
    var name: String? {
        get { nameState.withLock { $0 } }
        set { nameState.withLock { $0 = newValue } }
    }
    /// Disposal has been asked for by this handle.
    ///
    /// Set and, before use, checked under the link's lock.
    var isGone: Bool {
        get { gone.load(ordering: .relaxed) }
        set { gone.store(newValue, ordering: .relaxed) }
    }
}

/// Makes a link at need, and hands it to who asks.
final class AsyncConnection: Sendable {
    let address: Address
    let options: ConnectionOptions
    let executor = ConnectionExecutor()
    private let state = Locked(State())

    private struct State: Sendable {
        var owner: LinkOwner?
        var connecting = false
        var waiters: [UInt64: UnsafeContinuation<Result<LinkOwner, SmallocError>, Never>] = [:]
        var nextWaiter: UInt64 = 1
        var hasConnected = false
        var closed = false
    }

    init(_ address: Address, _ options: ConnectionOptions) {
        self.address = address
        self.options = options
    }

    var limits: Limits { state.withLock { $0.owner?.link.limits ?? Limits() } }

    /// The last link, which may have ended; nil before there was any.
    var present: LinkOwner? { state.withLock { $0.owner } }

    var isConnected: Bool {
        guard let link = state.withLock({ $0.owner?.link }) else { return false }
        return link.lock.withLock { link.ended == nil }
    }

    func close() {
        let owner = state.withLock {
            $0.closed = true
            return $0.owner
        }
        owner?.link.end(.closed)
    }

    /// The present link, or a new one.
    func link() async throws(SmallocError) -> LinkOwner {
        if let owner = state.withLock({ $0.owner }) {
            let ended = owner.link.lock.withLock { owner.link.ended }
            guard let ended else { return owner }
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
                // One thread connects, for all who want it.
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
