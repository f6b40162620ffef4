// One connection of the blocking face: which thread may use the channel when, and what happens when
// it breaks. Knows requests and replies, not allocations.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// A handle's place on the blocking face: a connection, and which of its sessions.
struct BlockingOwner: HandleOwner {
    let connection: Connection
    /// Which of the object's connections, one after another, the handle is open on.
    let session: UInt64

    typealias Home = BlockingOwner

    func check(_ home: BlockingOwner) throws(SmallocError) {
        if connection !== home.connection { throw .foreignAllocation }
        if session != home.session { throw .lostWithConnection }
    }
    func isSame(_ other: BlockingOwner) -> Bool {
        connection === other.connection && session == other.session
    }
    func release(_ handle: UInt32) { connection.release(handle, session: session) }
    func notify(
        _ remote: BlockingRemote, offset: UInt64, count: UInt64
    ) throws(SmallocError) -> Int {
        let request = Request.notify(remote.handle, offset: offset, count: count)
        return Int(clamping: try connection.perform(request, on: remote).header.size)
    }
    func ended(_ remote: BlockingRemote) -> SmallocError? { connection.ended(for: remote) }
    var transferMappings: TransferMappings<BlockingOwner> { connection.transferMappings }
}

typealias BlockingRemote = Remote<BlockingOwner>

/// A blocking connection that any number of threads may use, one call at a time.
final class Connection: @unchecked Sendable {
    let address: Address
    let options: Smalloc.Options
    private let lock = Lock()
    private let fork = ForkGuard()
    // Touched under the lock alone, which makes checks of exclusive access needless.
    @exclusivity(unchecked) private var state: State

    /// Handles whose owner was released, to be closed at the next opportunity.
    ///
    /// Has a lock of its own because an owner may be released by a thread that is in the middle of
    /// a call.
    private let released = Locked<[ReleasedHandle]>([])
    private let releasedCount = Atomic<Int>(0)
    let transferMappings = TransferMappings<BlockingOwner>()

    private struct ReleasedHandle {
        let session: UInt64
        let handle: UInt32
    }

    private struct State: ~Copyable {
        var channel: Channel?
        /// Which of this object's connections, one after another, is the present one.
        var session: UInt64 = 0
        var limits = Limits()
        var failure: SmallocError?
        /// Whether nothing of the call that the connection broke at had been sent.
        var brokeUnsent = false
        var closed = false
        /// The daemon has not taken closes of handles for a while: they go with the next call.
        var congested = false
    }

    /// Connects and exchanges greetings.
    init(_ address: Address, _ options: Smalloc.Options) throws(SmallocError) {
        self.address = address
        self.options = options
        var state = State()
        try Connection.connect(&state, address, options)
        self.state = state
    }

    private static func connect(
        _ state: inout State, _ address: Address, _ options: Smalloc.Options
    ) throws(SmallocError) {
        let limit = options.connectTimeout.nanosecondsClamped
        let socket = try Socket(connectingTo: address, timeout: limit)
        let timeout = options.requestTimeout?.nanosecondsClamped ?? .max
        socket.setUserTimeout(nanoseconds: timeout)
        var channel = Channel(socket, timeout: limit)
        try channel.greet(options.software)
        channel.setTimeout(timeout)
        channel.busyPoll = options.busyPoll.nanosecondsClamped
        state.limits = channel.session.limits
        state.session += 1
        channel.number = state.session
        state.channel = consume channel
        state.failure = nil
        state.congested = false
    }

    /// What the daemon told in its greeting.
    var limits: Limits { lock.withLock { state.limits } }
    /// The present session, to be given to calls that depend on it.
    var owner: BlockingOwner {
        BlockingOwner(connection: self, session: lock.withLock { state.session })
    }
    /// Whether the present session is usable as far as is known here.
    var isConnected: Bool { !fork.isForked && lock.withLock { state.channel != nil } }
    /// Whether `close()` was called, or the process is a fork of the one that connected.
    var isClosed: Bool { fork.isForked || lock.withLock { state.closed } }

    // MARK: Calls

    /// Runs a call on the channel, alone.
    ///
    /// - Parameters:
    ///   - remote: The handle that the call depends on, in its session; nil if any session will do,
    ///     which then connects again if need be and allowed.
    ///   - evenIfGone: Whether the call sees by itself to a handle that has been disposed of.
    ///   - body: The call. It may run twice if nothing of it was sent the first time. What it
    ///     throws with a closing status ends the connection.
    @inline(__always)
    func call<Result: Sendable>(
        on remote: BlockingRemote?, evenIfGone: Bool = false,
        _ body: (inout Channel) throws(SmallocError) -> Result
    ) throws(SmallocError) -> Result {
        // A lock that another thread held at the fork is held for ever.
        try fork.check()
        defer { if releasedCount.load(ordering: .acquiring) > 0 { closeReleased() } }
        return try lock.withLock { () throws(SmallocError) in
            try ready(remote, evenIfGone)
            do throws(SmallocError) {
                return try attempt(body)
            } catch {
                // What the daemon said as it closed may have been heard, too.
                guard remote == nil, options.reconnects, state.brokeUnsent,
                    [.connectionLost, .shuttingDown, .idleTimeout].contains(error.status)
                else { throw error }
            }
            // The connection had died while it was idle, and nothing of this request was seen.
            try Connection.connect(&state, address, options)
            return try attempt(body)
        }
    }

    private func ready(_ remote: BlockingRemote?, _ evenIfGone: Bool) throws(SmallocError) {
        if state.closed { throw .closed }
        if let remote {
            if remote.owner.session != state.session { throw .lostWithConnection }
            // Its number may stand for another allocation by now.
            if remote.isGone, !evenIfGone { throw .noData }
        }
        if state.channel != nil { return }
        if remote != nil || !options.reconnects {
            throw state.failure?.afterwards ?? .lostWithConnection
        }
        try Connection.connect(&state, address, options)
    }

    @inline(__always)
    private func attempt<Result: Sendable>(
        _ body: (inout Channel) throws(SmallocError) -> Result
    ) throws(SmallocError) -> Result {
        do throws(SmallocError) {
            state.channel!.beginCall()
            return try body(&state.channel!)
        } catch {
            if error.status.closes {
                state.brokeUnsent = state.channel!.endedUnsent()
                state.channel = nil
                state.failure = error
            }
            throw error
        }
    }

    /// Asks, and gives all of the reply.
    @discardableResult
    func perform(
        _ request: borrowing Request, on remote: BlockingRemote?
    ) throws(SmallocError) -> Reply {
        do throws(SmallocError) {
            return try call(on: remote) { channel throws(SmallocError) in
                try channel.exchange(request)
            }
        } catch { throw request.explained(error) }
    }

    /// Freezes an allocation, which the connection's mappings for large transfers would keep from
    /// being frozen.
    func freeze(_ target: Request.Target, on remote: BlockingRemote?) throws(SmallocError) {
        // A lock that another thread held at the fork is held for ever.
        try fork.check()
        transferMappings.release()
        _ = try perform(.freeze(target), on: remote)
    }

    /// Whether large transfers go by mappings.
    var mapsLargeTransfers: Bool {
        // A lock that another thread held at the fork is held for ever.
        options.mapsLargeTransfers && !fork.isForked
            && lock.withLock { state.channel?.maps ?? false }
    }

    /// Whether the daemon is there, as far as the socket knows, and the handle is of use.
    ///
    /// Cost: one system call.
    func isHeard(on remote: BlockingRemote) -> Bool {
        (try? call(on: remote) { channel throws(SmallocError) in channel.isOpen }) == true
    }

    /// Why a handle's session is of no use any more; nil: it is, as far as the socket knows, or
    /// another thread is in a call, which finds out.
    ///
    /// Cost: one system call.
    func ended(for remote: BlockingRemote) -> SmallocError? {
        // Before the lock, which may be held for ever in a fork.
        if fork.isForked { return .forked }
        guard lock.tryLock() else { return nil }
        defer { lock.unlock() }
        if state.closed { return .closed }
        if remote.owner.session != state.session { return .lostWithConnection }
        guard let isOpen = state.channel?.isOpen else {
            return state.failure?.afterwards ?? .lostWithConnection
        }
        return isOpen ? nil : .connectionLost("the daemon closed the connection")
    }

    /// Maps an allocation.
    func map(
        _ remote: BlockingRemote, writable: Bool, populate: Bool, isInherited: Bool = true
    ) throws(SmallocError) -> MappedMemory {
        try call(on: remote) { channel throws(SmallocError) in
            try channel.map(
                remote.handle, writable: writable, populate: populate, isInherited: isInherited,
                size: remote.size)
        }
    }

    /// Asks for a few small things together.
    ///
    /// - Returns: The replies; nil for `.noData`.
    /// - Throws: The first other error, after all have been answered.
    func performAll(_ requests: [Request]) throws(SmallocError) -> [Reply?] {
        try call(on: nil) { channel throws(SmallocError) in
            let cookies = requests.map { channel.start($0) }
            var replies: [Reply?] = []
            var failure: SmallocError?
            for cookie in cookies {
                do throws(SmallocError) {
                    replies.append(try channel.answer(to: cookie).reply())
                } catch {
                    if error.status.closes { throw error }
                    if error.status != .noData { failure = failure ?? error }
                    replies.append(nil)
                }
            }
            if let failure { throw failure }
            return replies
        }
    }

    /// Disposes of an allocation by its handle, which is closed with it.
    func dispose(_ remote: BlockingRemote) throws(SmallocError) {
        let request = Request.dispose(.handle(remote.handle), size: UInt64(remote.size))
        try call(on: remote) { channel throws(SmallocError) in
            _ = try channel.exchange(request)
            // Before the number can stand for another allocation.
            remote.isGone = true
        }
    }

    /// Asks for a handle: alloc and open.
    ///
    /// - Parameter waits: Whether the request waits in the daemon.
    func performForRemote(
        _ request: borrowing Request, name: AllocationName?,
        description: AllocationDescription? = nil, waits: Bool = false
    ) throws(SmallocError) -> BlockingRemote {
        let (reply, session) = try call(on: nil) { channel throws(SmallocError) in
            do throws(SmallocError) {
                let reply =
                    waits ? try channel.exchangeWait(request) : try channel.exchange(request)
                return (reply, channel.number)
            } catch { throw request.explained(error) }
        }
        return try Remote(
            BlockingOwner(connection: self, session: session), reply.header, name, description)
    }

    /// Ends the connection for good.
    ///
    /// Anonymous allocations go with it.
    func close() {
        if fork.isForked { return }
        lock.withLock {
            state.channel = nil
            state.closed = true
        }
    }

    // MARK: Handles of released owners

    /// Closes a handle without waiting for the answer, now or with the next call.
    ///
    /// For deinitializers.
    func release(_ handle: UInt32, session: UInt64) {
        if fork.isForked { return }
        released.withLock { $0.append(ReleasedHandle(session: session, handle: handle)) }
        releasedCount.add(1, ordering: .releasing)
        closeReleased()
    }

    /// Sends close for all of them unless another thread is in a call: that one does it afterwards.
    @inline(never)
    private func closeReleased() {
        while releasedCount.load(ordering: .acquiring) > 0 {
            guard lock.tryLock() else { return }
            let list = released.withLock { list in
                defer { list = [] }
                return list
            }
            releasedCount.subtract(list.count, ordering: .relaxed)
            sendCloses(list)
            lock.unlock()
        }
    }

    private func sendCloses(_ list: [ReleasedHandle]) {
        guard state.channel != nil else { return }  // Their session took them along.
        for entry in list where entry.session == state.session {
            state.channel!.forget(entry.handle)
        }
        do throws(SmallocError) {
            // A flood of releases waits for the daemon, but for one that hangs only once.
            state.congested = try !state.channel!.pushOut(waits: !state.congested)
        } catch {
            state.channel = nil
            state.failure = error
        }
    }
}
