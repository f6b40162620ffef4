// The waits of one connection.

internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// What waits on one connection, and what has ended and is to be answered.
///
/// Made with the connection's first wait. Used by its loop's thread only.
final class WaitList {
    /// Its loop's.
    let loop: LoopWaits
    /// The shell's connection, for `LoopWaits.nextTold`; nil once that has ended.
    fileprivate(set) var peer: UnsafeMutableRawPointer?
    /// Waits, those included that have ended and are not answered yet.
    private(set) var count = 0
    /// The youngest of those that have not ended, as far as is known here.
    fileprivate(set) var firstWaiting: Wait?
    private var firstEnded: Wait?
    private var lastEnded: Wait?
    /// Among those whose connection is to be told.
    fileprivate var isTold = false
    fileprivate var nextTold: WaitList?

    init(_ loop: LoopWaits, peer: UnsafeMutableRawPointer?) {
        self.loop = loop
        self.peer = peer
    }

    /// Whether something is to be answered.
    var hasEnded: Bool { firstEnded != nil }

    /// Takes a new wait in.
    func insert(_ wait: Wait) {
        wait.fields.pointee.next = firstWaiting
        firstWaiting?.fields.pointee.previous = wait
        firstWaiting = wait
        count += 1
    }

    /// One of those that wait has ended.
    func moveToEnded(_ wait: Wait) {
        unlink(wait)
        if let lastEnded { lastEnded.fields.pointee.next = wait } else { firstEnded = wait }
        lastEnded = wait
    }

    /// The one that ended first; the caller has to answer it, and to free it.
    func takeEnded() -> Wait? {
        guard let wait = firstEnded else { return nil }
        firstEnded = wait.fields.pointee.next
        if firstEnded == nil { lastEnded = nil }
        count -= 1
        return wait
    }

    /// Takes out one that waits, which the caller has to free.
    func remove(_ wait: Wait) {
        unlink(wait)
        count -= 1
    }

    private func unlink(_ wait: Wait) {
        let (next, previous) = (wait.fields.pointee.next, wait.fields.pointee.previous)
        if let previous { previous.fields.pointee.next = next } else { firstWaiting = next }
        next?.fields.pointee.previous = previous
        wait.fields.pointee.next = nil
        wait.fields.pointee.previous = nil
    }

    /// The connection ends: it is not told of anything any more.
    func detach() { peer = nil }
}

/// The waits of one loop: those that have ended elsewhere, on their way to their connections, and
/// when the others are over.
///
/// All but `post` is its loop's thread's.
public final class LoopWaits: @unchecked Sendable {
    private struct Mailbox: @unchecked Sendable {
        var first: Wait?
        var last: Wait?
    }

    private let mailbox = Locked(Mailbox())
    /// Called by any thread when there is something for `nextTold`, once until that has looked.
    public var wake: @Sendable () -> Void = {}
    private var firstTold: WaitList?
    private var lastTold: WaitList?
    private(set) var deadlines: DeadlineHeap<Wait>
    /// Those that watch names.
    private(set) var watches = LoopWatches()
    private let registry: Registry
    /// It is to be woken by the next event, and stands in the ring's list; under the ring's lock.
    let isAsleep = Atomic<Bool>(false)
    unowned(unsafe) var nextAsleep: LoopWaits?

    init(_ registry: Registry) {
        self.registry = registry
        deadlines = DeadlineHeap(registry.budget)
    }

    deinit { registry.events.forget(self) }

    // MARK: From any thread

    /// One of this loop's waits has ended.
    ///
    /// Under its allocation's lock: so what is not queued any more is in the mailbox, or has been.
    func post(_ wait: Wait) {
        let isFirst = mailbox.withLock { mailbox in
            defer { mailbox.last = wait }
            guard let last = mailbox.last else {
                mailbox.first = wait
                return true
            }
            last.fields.pointee.nextMail = wait
            return false
        }
        if isFirst { wake() }
    }

    // MARK: On the loop's thread

    /// Hands what has ended to its connections, which are to be told.
    func collect() {
        var next = mailbox.withLock { mailbox in
            defer { mailbox = Mailbox() }
            return mailbox.first
        }
        while let wait = next {
            next = wait.fields.pointee.nextMail
            wait.fields.pointee.list._withUnsafeGuaranteedRef {
                $0.moveToEnded(wait)
                tell($0)
            }
        }
    }

    private func tell(_ list: WaitList) {
        guard !list.isTold else { return }
        list.isTold = true
        if let lastTold { lastTold.nextTold = list } else { firstTold = list }
        lastTold = list
    }

    /// The next connection, as the shell calls it, that has requests to answer: see
    /// `Session.deliver`.
    ///
    /// Nil: there is none.
    public func nextTold() -> UnsafeMutableRawPointer? {
        collect()
        if firstTold == nil { lookForEvents() }
        while let list = firstTold {
            firstTold = list.nextTold
            if firstTold == nil { lastTold = nil }
            list.nextTold = nil
            list.isTold = false
            if let peer = list.peer, list.hasEnded { return peer }
        }
        return nil
    }

    /// Whether `nextTold` is to be called again, after the others' turn.
    public var hasTold: Bool { firstTold != nil || isBehind }

    // MARK: Watches

    /// There may be events that were not looked at.
    private var isBehind: Bool {
        watches.first != nil && !isAsleep.load(ordering: .relaxed)
    }

    /// A request begins to watch, and has looked at all events so far.
    func insertWatch(_ wait: Wait) {
        // Those before it may have events to look at yet: the loop does, and must not sleep.
        let mustLook = isBehind
        watches.append(wait)
        guard !mustLook else { return }
        // Between its look and this one may have come.
        if !registry.events.sleep(self, until: wait.fields.pointee.number) { wake() }
    }

    func removeWatch(_ wait: Wait) { watches.remove(wait) }

    /// Ends the watches for which something has come, as far as it takes some hundred microseconds;
    /// then the loop sleeps until something comes, or is behind.
    private func lookForEvents() {
        var left = Thresholds.eventsLookedMax
        while left > 0, isBehind, let wait = watches.first {
            let before = wait.fields.pointee.number
            switch registry.events.find(
                wait.name, from: &wait.fields.pointee.number, atMost: &left)
            {
            case .enough: return
            case .found, .missed:
                _ = registry.end(wait, .events)
                wait.fields.pointee.list._withUnsafeGuaranteedRef {
                    $0.moveToEnded(wait)
                    tell($0)
                }
            case .atEnd:
                let next = wait.fields.pointee.number
                // The one that is furthest behind has nothing to look at, and so no other one has.
                if next == before, registry.events.sleep(self, until: next) { return }
                watches.remove(wait)
                watches.append(wait)
            }
            left -= Thresholds.watchLookedCost
        }
    }

    // MARK: Time

    /// Called when a wait is over before all others, with the moment in nanoseconds of `Clock.now`:
    /// `expire` is due then.
    public var setTimer: (UInt64) -> Void = { _ in }

    /// Ends the waits that are over.
    ///
    /// The timer is set for those that are left.
    ///
    /// - Parameter now: Nanoseconds of `Clock.now`.
    /// - Returns: False: some that are left are over already.
    @discardableResult
    public func expire(now: UInt64) -> Bool {
        defer { if let first = deadlines.first { setTimer(first.deadline) } }
        for _ in 0..<Thresholds.endedAtOnceMax {
            guard let wait = deadlines.first, wait.deadline <= now else { return true }
            deadlines.remove(wait)
            // Another thread was faster: it is in the mailbox.
            guard registry.end(wait, .timeout) else { continue }
            wait.fields.pointee.list._withUnsafeGuaranteedRef {
                $0.moveToEnded(wait)
                tell($0)
            }
        }
        return false
    }

    /// Room for one deadline more.
    ///
    /// - Returns: What is wrong if there is none.
    func reserveDeadline() -> SmallocError? { deadlines.reserve() }

    func insertDeadline(_ wait: Wait) {
        deadlines.insert(wait)
        // One that is taken out leaves the timer as it is, which goes off for nothing then.
        if deadlines.first == wait { setTimer(wait.deadline) }
    }

    func removeDeadline(_ wait: Wait) { deadlines.remove(wait) }
}
