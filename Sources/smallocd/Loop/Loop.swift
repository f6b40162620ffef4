// One libuv loop and the thread that turns it: its peers, its clock, its mailbox. Other threads
// reach it through `post` alone.

import CLibuv
import Glibc
import Logging
import SmallocCore
import SmallocSystem
import SmallocWire
import Synchronization

/// A loop.
///
/// All but `post`, `connectionCount` and `lastTick` belongs to its own thread.
final class Loop: @unchecked Sendable {
    /// What other threads may ask of a loop.
    enum Message {
        /// Serve this connected descriptor of that user.
        case adopt(Int32, ListeningSocket.Kind, owner: UInt32)
        /// Answer what has arrived, say goodbye, and end when no connection is left.
        case drain
        /// The limits have changed.
        case retime
        /// The memory is back that a peer of this loop waits for.
        case memoryIsBack(PeerReference)
        /// A freeze of a peer of this loop may run, or is refused.
        case freeze(WorkRequest)
        /// Requests of this loop's peers that waited are over.
        case waitsEnded
        /// A lease is to be looked at earlier than was known.
        case leases
    }

    /// A peer on its way through other threads, which do not touch it.
    struct PeerReference: @unchecked Sendable {
        let peer: Peer
    }

    /// Bytes that one read takes at most.
    ///
    /// Larger than any frame that must be whole before it is served, so that a pipelined batch
    /// arrives in one read.
    static let readSize = 256 * 1024
    /// How long peers may take to finish when the daemon stops.
    private static let drainMilliseconds: UInt64 = 1500

    let index: Int
    let uv: UnsafeMutablePointer<uv_loop_t>
    let context: LoopContext
    let readBuffer: UnsafeMutableRawPointer
    /// Room for what one system call sends: the output, and pieces of an allocation.
    let buffers: UnsafeMutablePointer<uv_buf_t>
    /// Connections, those on their way here included.
    ///
    /// For the acceptor's choice and the limit.
    let connectionCount = Atomic<Int>(0)
    /// When the loop last turned, in its own milliseconds since start; for the watchdog.
    let lastTick = Atomic<UInt64>(0)
    private(set) var isDraining = false
    let log: Logger

    private let async: UnsafeMutablePointer<uv_async_t>
    private let timer: UnsafeMutablePointer<uv_timer_t>
    /// Runs while a peer waits to pass descriptors: libuv can't tell when its socket has room.
    private let passing: UnsafeMutablePointer<uv_timer_t>
    private static let passingMilliseconds: UInt64 = 5
    /// Peers of a loop that may wait to pass descriptors for as long as they like: the descriptors
    /// are the daemon's own meanwhile, and it has few to spare.
    private static let passingMax = 4
    /// How long those beyond may.
    private static let passingPatienceMilliseconds: UInt64 = 1000
    private let idle: UnsafeMutablePointer<uv_idle_t>
    /// Goes off when the next wait is over.
    private let waitTimer: UnsafeMutablePointer<uv_timer_t>
    /// Goes off when the next lease is to be looked at, on the loop that is told of them.
    private let leaseTimer: UnsafeMutablePointer<uv_timer_t>
    /// Called after each poll; and, while it runs, what keeps the next one from sleeping.
    private let polled: UnsafeMutablePointer<uv_check_t>
    private let polling: UnsafeMutablePointer<uv_idle_t>
    private var busyPoll: BusyPoll
    // The loop's thread alone touches it, and nothing of it calls back.
    @exclusivity(unchecked) var turnClock = TurnClock()
    /// Microseconds of a turn from which on the log is told.
    private static let longTurn: UInt64 = 20_000
    /// Something was read since the last poll.
    var isActive = false
    var recentActivity = RecentActivity()
    private struct Mailbox {
        var messages: [Message] = []
        /// The loop turns no more.
        var isClosed = false
    }

    private let mailbox = Locked(Mailbox())
    /// What was in the mailbox, and is being read; room for the next mail after it.
    private var mail: [Message] = []
    /// Messages that may wait: room for them is taken at the start.
    private static let mailMax = 1024
    private var firstPeer: Peer?
    /// Peers that let others have their turn, linked through themselves.
    private var firstTurn: Peer?
    private var lastTurn: Peer?
    /// Peers whose sockets are full and owe descriptors, linked through themselves.
    private var firstPassing: Peer?
    private var lastPassing: Peer?
    private var drainEnds: UInt64 = 0
    private var isClosed = false
    /// Called on this loop's thread when it has drained and turns no more.
    var onEnded: (() -> Void)?

    init(
        index: Int, registry: Registry, busyPollMicroseconds: UInt64, log: Logger
    ) {
        self.index = index
        self.log = log
        context = LoopContext(registry: registry, index: index)
        readBuffer = .allocate(byteCount: Loop.readSize, alignment: 4096)
        buffers = .allocate(capacity: 1 + LoopContext.viewsMax)
        uv = allocateUV(uv_loop_t.self)
        async = allocateUV(uv_async_t.self)
        timer = allocateUV(uv_timer_t.self)
        passing = allocateUV(uv_timer_t.self)
        idle = allocateUV(uv_idle_t.self)
        waitTimer = allocateUV(uv_timer_t.self)
        leaseTimer = allocateUV(uv_timer_t.self)
        polled = allocateUV(uv_check_t.self)
        polling = allocateUV(uv_idle_t.self)
        busyPoll = BusyPoll(microseconds: busyPollMicroseconds)
        mail.reserveCapacity(Loop.mailMax)
        mailbox.withLock { $0.messages.reserveCapacity(Loop.mailMax) }
        check(uv_loop_init(uv), "uv_loop_init")
        let me = Unmanaged.passUnretained(self).toOpaque()
        check(uv_async_init(uv, async, loopMailed), "uv_async_init")
        async.pointee.data = me
        check(uv_timer_init(uv, timer), "uv_timer_init")
        timer.pointee.data = me
        check(uv_timer_init(uv, passing), "uv_timer_init")
        passing.pointee.data = me
        check(uv_idle_init(uv, idle), "uv_idle_init")
        idle.pointee.data = me
        check(uv_timer_init(uv, waitTimer), "uv_timer_init")
        waitTimer.pointee.data = me
        check(uv_timer_init(uv, leaseTimer), "uv_timer_init")
        leaseTimer.pointee.data = me
        check(uv_check_init(uv, polled), "uv_check_init")
        polled.pointee.data = me
        check(uv_idle_init(uv, polling), "uv_idle_init")
        polling.pointee.data = me
        uv_check_start(polled, loopPolled)
        context.waits.wake = { [unowned self] in post(.waitsEnded) }
        context.waits.setTimer = { [unowned self] in setWaitTimer($0) }
        retime()
    }

    deinit {
        readBuffer.deallocate()
        buffers.deallocate()
    }

    /// Milliseconds, monotonic, as of the last turn.
    var now: UInt64 { uv_now(uv) }

    /// Turns until the loop has drained and every handle is closed.
    func run() { uv_run(uv, UV_RUN_DEFAULT) }

    // MARK: Mail

    /// Asks something of the loop, from any thread.
    ///
    /// - Returns: False: it has not read what was asked of it, and takes no more connections.
    @discardableResult
    func post(_ message: Message) -> Bool {
        mailbox.withLock { mailbox -> Bool in
            guard !mailbox.isClosed else { return false }
            if case .adopt = message, mailbox.messages.count >= Loop.mailMax { return false }
            mailbox.messages.append(message)
            // Under the lock: the handle is closed only after no message is taken any more.
            uv_async_send(async)
            return true
        }
    }

    fileprivate func openMail() {
        mailbox.withLock { swap(&$0.messages, &mail) }
        defer { mail.removeAll(keepingCapacity: true) }
        for message in mail {
            switch message {
            case .adopt(let descriptor, let kind, let owner): adopt(descriptor, kind, owner: owner)
            case .drain: drain()
            case .retime: retime()
            case .memoryIsBack(let reference): reference.peer.memoryIsBack()
            case .freeze(let request): request.freeze()
            case .waitsEnded: tellWaits()
            case .leases: setLeaseTimer()
            }
        }
    }

    /// Serves a connected descriptor from now on.
    ///
    /// On the loop's thread.
    func adopt(_ descriptor: Int32, _ kind: ListeningSocket.Kind, owner: UInt32) {
        guard !isDraining, let peer = Peer(self, descriptor, kind, owner: owner) else {
            Glibc.close(descriptor)
            connectionCount.wrappingSubtract(1, ordering: .relaxed)
            return
        }
        context.counters.add(.connectionsAccepted)
        insert(peer)
        log.debug(
            "connection opened",
            metadata: ["fd": "\(descriptor)", "socket": kind == .unix ? "unix" : "tcp"])
        peer.start()
    }

    // MARK: Peers

    private func insert(_ peer: Peer) {
        peer.next = firstPeer
        firstPeer?.previous = peer
        firstPeer = peer
    }

    /// The peer is gone for good.
    func remove(_ peer: Peer) {
        let next = peer.next
        if let previous = peer.previous { previous.next = next } else { firstPeer = next }
        next?.previous = peer.previous
        peer.next = nil
        peer.previous = nil
        context.counters.add(.connectionsClosed)
        connectionCount.wrappingSubtract(1, ordering: .relaxed)
        if isDraining, firstPeer == nil { finish() }
    }

    /// Lets others have their turn before the peer goes on.
    func turnAgain(_ peer: Peer) {
        if let lastTurn { lastTurn.nextTurn = peer } else { firstTurn = peer }
        lastTurn = peer
        uv_idle_start(idle, loopIdle)
    }

    fileprivate func takeTurns() {
        uv_idle_stop(idle)
        // What is polled for next must not be put off for these, or nothing new was ever read.
        defer { turnClock.beginPart() }
        var next = firstTurn
        let last = lastTurn
        firstTurn = nil
        lastTurn = nil
        var isFirst = true
        while let peer = next {
            // The first one always goes on.
            if turnClock.begin(), !isFirst {
                // The rest comes before those that have been put off meanwhile.
                last?.nextTurn = firstTurn
                firstTurn = peer
                lastTurn = lastTurn ?? last
                uv_idle_start(idle, loopIdle)
                return
            }
            isFirst = false
            next = peer.nextTurn
            peer.nextTurn = nil
            // Its requests have waited since they were read.
            endTurn()
            context.turnStart = peer.heldSince
            peer.takeTurn()
        }
    }

    /// A callback begins, and with the first one a turn.
    ///
    /// - Returns: Whether the turn has gone on for long enough already.
    @inline(__always)
    func beginCallback() -> Bool {
        if context.turnStart == 0 { context.turnStart = Clock.now }
        return turnClock.begin()
    }

    /// A callback is over that libuv makes before it polls, and so maybe before it sleeps.
    func endTurn() {
        if context.turnStart != 0 { context.endTurn(now: Clock.now) }
    }

    fileprivate func afterPoll() {
        let now = Clock.now
        context.endTurn(now: now)
        let taken = turnClock.end(now: now)
        if taken > 0 { note(turn: taken) }
        let was = busyPoll.isPolling
        let isPolling = busyPoll.polled(isActive: isActive, now: now)
        isActive = false
        guard isPolling != was else { return }
        if isPolling { uv_idle_start(polling, loopPolls) } else { uv_idle_stop(polling) }
    }

    private func note(turn taken: UInt64) {
        context.counters.raise(.longestTurnMicroseconds, to: taken)
        guard taken >= Loop.longTurn else { return }
        log.warning(
            "a turn of a loop took long",
            metadata: ["cause": "turn", "loop": "\(index)", "microseconds": "\(taken)"])
    }

    /// Between two polls without sleep.
    fileprivate func yieldProcessor() {
        let before = uv_hrtime()
        sched_yield()
        busyPoll.yielded(from: before, to: uv_hrtime())
    }

    // MARK: Descriptors

    /// Has a peer try again soon to pass descriptors.
    func passAgain(_ peer: Peer) {
        if let lastPassing { lastPassing.nextPassing = peer } else { firstPassing = peer }
        lastPassing = peer
        // Not put off, however many come.
        guard uv_is_active(UnsafeMutableRawPointer(passing).handle) == 0 else { return }
        uv_timer_start(passing, loopPasses, Loop.passingMilliseconds, 0)
    }

    fileprivate func passDescriptors() {
        takePassing { $0.passAgain() }
        closeLongestPassing()
    }

    /// Empties the list, and calls back for what was in it, in the order in which they began.
    private func takePassing(_ body: (Peer) -> Void) {
        var next = firstPassing
        firstPassing = nil
        lastPassing = nil
        while let peer = next {
            next = peer.nextPassing
            peer.nextPassing = nil
            body(peer)
        }
    }

    /// Closes those that have waited longest to pass descriptors, where too many do.
    private func closeLongestPassing() {
        var count = 0
        forEachPassing { _, _ in count += 1 }
        // In the order in which they began.
        forEachPassing { held, peer in
            guard count > Loop.passingMax, now >= held.since + Loop.passingPatienceMilliseconds
            else { return }
            peer.close("it does not receive descriptors, and too many others neither")
            count -= 1
        }
    }

    /// Calls back for those that wait to pass descriptors.
    ///
    /// One that is closed stays in the list until the next try.
    private func forEachPassing(_ body: (Passing, Peer) -> Void) {
        var next = firstPassing
        while let peer = next {
            next = peer.nextPassing
            if let held = peer.heldPassing { body(held, peer) }
        }
    }

    // MARK: Waits

    /// Has peers answer what waited and is over, with the others' turn in between if it is much.
    private func tellWaits() {
        var isFirst = true
        while let next = context.waits.nextTold() {
            Unmanaged<Peer>.fromOpaque(next).takeUnretainedValue().waitsEnded()
            // The first one always goes on.
            if turnClock.begin(), !isFirst, context.waits.hasTold {
                post(.waitsEnded)
                return
            }
            isFirst = false
        }
        if context.waits.hasTold { post(.waitsEnded) }
    }

    /// - Parameter deadline: Nanoseconds of `Clock.now`.
    private func setWaitTimer(_ deadline: UInt64) {
        let now = Clock.now
        // Rounded up: a wait is never too short.
        let left = deadline > now ? (deadline - now) / 1_000_000 + 1 : 0
        uv_timer_start(waitTimer, loopWaitsExpire, left, 0)
    }

    fileprivate func expireWaits() {
        // Those that are left although they are over have the timer set to now.
        context.waits.expire(now: Clock.now)
        tellWaits()
    }

    private func setLeaseTimer() {
        guard let deadline = context.registry.nextLease else { return }
        let left = min((deadline - min(Clock.now, deadline)) / 1_000_000, 3_600_000) + 1
        uv_timer_start(leaseTimer, loopLeasesExpire, left, 0)
    }

    // MARK: Time

    /// Sets the timer by the limits in force: coarse, since deadlines are seconds.
    private func retime() {
        let deadlines = [
            context.limits.idleTimeoutMilliseconds, context.limits.requestTimeoutMilliseconds,
        ].filter { $0 > 0 }
        let period = isDraining ? 25 : min(max((deadlines.min() ?? 10_000) / 20, 20), 1000)
        uv_timer_start(timer, loopTicked, period, period)
    }

    fileprivate func tick() {
        lastTick.store(now, ordering: .relaxed)
        let limits = context.limits.snapshot
        var peer = firstPeer
        while let current = peer {
            peer = current.next
            current.lookForReceived()
            if isDraining { current.drain(force: now >= drainEnds) } else { current.expire(limits) }
        }
    }

    // MARK: The end

    private func drain() {
        guard !isDraining else { return }
        isDraining = true
        drainEnds = now + Loop.drainMilliseconds
        if firstPeer == nil { finish() } else { retime() }
    }

    private func finish() {
        guard !isClosed else { return }
        isClosed = true
        takePassing { _ in }
        mailbox.withLock { $0.isClosed = true }
        uv_close(UnsafeMutableRawPointer(async).handle, nil)
        uv_close(UnsafeMutableRawPointer(timer).handle, nil)
        uv_close(UnsafeMutableRawPointer(passing).handle, nil)
        uv_close(UnsafeMutableRawPointer(idle).handle, nil)
        uv_close(UnsafeMutableRawPointer(waitTimer).handle, nil)
        uv_close(UnsafeMutableRawPointer(leaseTimer).handle, nil)
        uv_close(UnsafeMutableRawPointer(polled).handle, nil)
        uv_close(UnsafeMutableRawPointer(polling).handle, nil)
    }
}

// Named functions: a closure literal would belong to whatever actor it is written in.

private func loop(of data: UnsafeMutableRawPointer?) -> Loop? {
    data.map { Unmanaged<Loop>.fromOpaque($0).takeUnretainedValue() }
}

private func loopMailed(_ handle: UnsafeMutablePointer<uv_async_t>?) {
    guard let loop = loop(of: handle?.pointee.data) else { return }
    _ = loop.beginCallback()
    loop.openMail()
}

private func loopTicked(_ handle: UnsafeMutablePointer<uv_timer_t>?) {
    guard let loop = loop(of: handle?.pointee.data) else { return }
    _ = loop.beginCallback()
    loop.tick()
    loop.endTurn()
}

private func loopPasses(_ handle: UnsafeMutablePointer<uv_timer_t>?) {
    guard let loop = loop(of: handle?.pointee.data) else { return }
    _ = loop.beginCallback()
    loop.passDescriptors()
    loop.endTurn()
}

private func loopWaitsExpire(_ handle: UnsafeMutablePointer<uv_timer_t>?) {
    guard let loop = loop(of: handle?.pointee.data) else { return }
    _ = loop.beginCallback()
    loop.expireWaits()
    loop.endTurn()
}

private func loopLeasesExpire(_ handle: UnsafeMutablePointer<uv_timer_t>?) {
    // Another thread does it.
    loop(of: handle?.pointee.data)?.context.registry.expireLeases()
}

private func loopIdle(_ handle: UnsafeMutablePointer<uv_idle_t>?) {
    guard let loop = loop(of: handle?.pointee.data) else { return }
    _ = loop.beginCallback()
    loop.takeTurns()
    loop.endTurn()
}

private func loopPolled(_ handle: UnsafeMutablePointer<uv_check_t>?) {
    loop(of: handle?.pointee.data)?.afterPoll()
}

private func loopPolls(_ handle: UnsafeMutablePointer<uv_idle_t>?) {
    loop(of: handle?.pointee.data)?.yieldProcessor()
}
