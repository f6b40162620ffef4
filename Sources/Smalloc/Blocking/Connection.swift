// One connection of the synchronous face: who may use the channel when, and what happens when it
// breaks. Knows requests and replies, not allocations.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// A blocking connection that any number of threads may use, one call at a time.
///
/// `state` is touched under `lock` alone.
final class Connection: @unchecked Sendable {
    let address: Address
    let options: ConnectionOptions
    private let lock = Lock()
    private var state: State

    /// Handles whose owner was released, to be closed at the next opportunity.
    ///
    /// Has a lock of its own because an owner may be released by a thread that is in the middle of
    /// a call.
    private let orphans = Locked<[Orphan]>([])
    private let orphanCount = Atomic<Int>(0)

    private struct Orphan {
        let session: UInt64
        let handle: UInt32
    }

    private struct State: ~Copyable {
        var channel: Channel?
        /// Which of this object's connections, one after another, is the present one.
        var session: UInt64 = 0
        var limits = Limits()
        var failure: SmallocError?
        /// Whether nothing of the request that the connection broke at had been sent.
        var brokeUnsent = false
        var closed = false
        /// The daemon has not taken closes of handles for a while: they go with the next call.
        var congested = false
    }

    /// Connects and exchanges greetings.
    init(_ address: Address, _ options: ConnectionOptions) throws(SmallocError) {
        self.address = address
        self.options = options
        var state = State()
        try Connection.connect(&state, address, options)
        self.state = state
    }

    private static func connect(
        _ state: inout State, _ address: Address, _ options: ConnectionOptions
    ) throws(SmallocError) {
        let limit = options.connectTimeout.nanosecondsClamped
        let socket = try Socket(connectingTo: address, timeout: limit)
        let timeout = options.requestTimeout?.nanosecondsClamped ?? .max
        socket.setUserTimeout(nanoseconds: timeout)
        var channel = Channel(socket, timeout: limit)
        let greeted = try channel.greet(options.software)
        channel.setTimeout(timeout)
        channel.busyPoll = options.busyPoll.nanosecondsClamped
        state.channel = consume channel
        state.session += 1
        state.limits = greeted
        state.failure = nil
        state.congested = false
    }

    /// What the daemon told in its greeting.
    var limits: Limits { lock.withLock { state.limits } }
    /// The present session, to be given to calls that depend on it.
    var session: UInt64 { lock.withLock { state.session } }
    /// Whether the present session is usable as far as is known here.
    var isConnected: Bool { lock.withLock { state.channel != nil } }

    /// Whether `close()` was called.
    var isClosed: Bool { lock.withLock { state.closed } }

    /// Runs a call on the channel, alone.
    ///
    /// - Parameters:
    ///   - remote: The handle that the call depends on, in its session; nil if any session will do,
    ///     which then connects again if need be and allowed.
    ///   - evenIfGone: Whether the call sees by itself to a handle that has been disposed of.
    ///   - body: The call. It may run twice if nothing of it was sent the first time. What it
    ///     throws with a closing status ends the connection.
    func call<Result: Sendable>(
        on remote: Remote?, evenIfGone: Bool = false,
        _ body: (inout Channel, borrowing CallContext) throws(SmallocError) -> Result
    ) throws(SmallocError) -> Result {
        defer { if orphanCount.load(ordering: .acquiring) > 0 { closeOrphans() } }
        return try lock.withLock { () throws(SmallocError) in
            try ready(remote, evenIfGone)
            do throws(SmallocError) {
                return try attempt(body)
            } catch {
                guard remote == nil, options.reconnects, error.status == .connectionLost,
                    state.brokeUnsent
                else { throw error }
            }
            // The connection had died while it was idle, and nothing of this request was seen.
            try Connection.connect(&state, address, options)
            return try attempt(body)
        }
    }

    private func ready(_ remote: Remote?, _ evenIfGone: Bool) throws(SmallocError) {
        if state.closed { throw .closed }
        if let remote {
            if remote.session != state.session { throw Connection.lost }
            // Its number may stand for another allocation by now.
            if remote.isGone, !evenIfGone { throw .noData }
        }
        if state.channel != nil { return }
        if remote != nil || !options.reconnects { throw Connection.over(state.failure) }
        try Connection.connect(&state, address, options)
    }

    private static var lost: SmallocError {
        .connectionLost("the connection that this allocation belonged to is lost")
    }

    /// What a call gets that asks nothing any more, for what ended the connection.
    private static func over(_ failure: SmallocError?) -> SmallocError {
        failure?.afterwards ?? lost
    }

    private func attempt<Result: Sendable>(
        _ body: (inout Channel, borrowing CallContext) throws(SmallocError) -> Result
    ) throws(SmallocError) -> Result {
        let context = CallContext(session: state.session, limits: state.limits)
        do throws(SmallocError) {
            return try body(&state.channel!, context)
        } catch {
            if error.status.closes {
                state.brokeUnsent = state.channel!.takeSentNothing()
                state.channel = nil
                state.failure = error
            }
            throw error
        }
    }

    /// Ends the connection for good.
    ///
    /// Anonymous allocations go with it.
    func close() {
        lock.withLock {
            state.channel = nil
            state.closed = true
        }
    }

    // MARK: Handles of released owners

    /// Closes a handle without waiting for the answer, now or with the next call.
    ///
    /// For deinitializers.
    func abandon(_ handle: UInt32, session: UInt64) {
        orphans.withLock { $0.append(Orphan(session: session, handle: handle)) }
        orphanCount.add(1, ordering: .releasing)
        closeOrphans()
    }

    /// Sends close for all orphans unless another thread is in a call: that one does it afterwards.
    private func closeOrphans() {
        var more = true
        while more {
            guard lock.tryLock() else { return }
            more = sendCloses()
            lock.unlock()
            more = more && orphanCount.load(ordering: .acquiring) > 0
        }
    }

    /// - Returns: Whether it is worth looking for more.
    private func sendCloses() -> Bool {
        var list = orphans.withLock { list in
            defer { list = [] }
            return list
        }
        orphanCount.subtract(list.count, ordering: .relaxed)
        let session = state.session
        while let orphan = list.last {
            guard state.channel != nil, orphan.session == session else {
                list.removeLast()  // Its session took it along.
                continue
            }
            do throws(SmallocError) {
                // Answers that are never read would in time stop the daemon from reading.
                try state.channel!.drainUnread(ifOver: 64)
                if try state.channel!.sendUnwaited(Request.close(orphan.handle).header) {
                    state.congested = false
                } else {
                    // A flood of releases waits for the daemon, but for one that hangs only once.
                    guard !state.congested else { break }
                    state.congested = try !state.channel!.waitForRoom(milliseconds: 1000)
                    continue
                }
                list.removeLast()
            } catch {
                state.channel = nil
                state.failure = error
            }
        }
        guard !list.isEmpty else { return true }
        let rest = list
        orphans.withLock { $0 += rest }
        orphanCount.add(rest.count, ordering: .releasing)
        return false
    }
}

/// What a call needs to know of the session it runs in.
struct CallContext {
    let session: UInt64
    let limits: Limits
}
