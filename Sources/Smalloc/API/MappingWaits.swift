// Waiting on an element that is mapped, and waking those that wait: by the kernel's futexes,
// without the daemon, unless requests wait in it as well. protocol/spec.md § 3.10.

internal import SmallocSystem
public import SmallocWire
internal import Synchronization

extension Smalloc.Mapping where Element: Smalloc.AtomicValue {
    /// Waits until an element is notified, if it is what is expected.
    ///
    /// **Blocks the thread that calls**: it asks the element again and again for some microseconds,
    /// and sleeps then. In a task `AsyncAllocation.wait` does not. No other call on the connection
    /// is held up by it.
    ///
    /// To compare and to begin to wait is one step, so that no wake-up is lost: a client changes
    /// the element first, and calls `notify` then, by a mapping or by a request. `.notified` does
    /// not mean that the element has changed: look again, and wait again if need be.
    ///
    /// - Parameters:
    ///   - index: From 0 to `count` - 1, of `Int32` or `UInt32`.
    ///   - value: What it must be to wait at all.
    ///   - timeout: The longest time to wait; nil for as long as it takes.
    /// - Returns: `.differs`, also where it changes before the thread sleeps; `.notified`;
    ///   `.timeout`; or `.disposed` if the element is gone, which is seen within 100 milliseconds
    ///   before Linux 5.16, and at once since then.
    /// - Throws: `.invalidArgument` for other elements; `.connectionLost`, `.closed` and
    ///   `.forked`, within about a second, once nothing tells any more whether the daemon is there.
    @discardableResult
    public func wait(
        at index: Int, while value: Element, timeout: Duration? = nil
    ) throws(SmallocError) -> Smalloc.WaitResult {
        let cell = try waitCell(index)
        defer { withExtendedLifetime(self) {} }
        let start = Clock.now
        let (end, isOver) = start.addingReportingOverflow(timeout?.nanosecondsClamped ?? .max)
        let deadline = isOver ? .max : end
        let expected = UInt32(truncatingIfNeeded: value)
        if !cell.stays(expected, until: min(deadline, start &+ MappedCell.spinTime)) {
            return .differs
        }
        while true {
            guard let watched = memory.watched(cellEnd: cell.end) else { return .disposed }
            guard cell.value == expected else { return .differs }
            let now = Clock.now
            guard now < deadline else { return .timeout }
            let look = try nextLook(now)
            switch SharedFutex.sleep(
                on: cell.address, while: expected, and: watched.word, is: watched.state,
                until: min(deadline, look))
            {
            case .differs, .over: continue
            case .woken:
                return memory.watched(cellEnd: cell.end) == nil ? .disposed : .notified
            }
        }
    }

    /// Ends waits on an element: of threads that wait by a mapping, and of requests.
    ///
    /// What the thread has stored before, in any way, those that it wakes find. Cost: a system
    /// call, some hundred nanoseconds where none sleeps; a request besides while other requests
    /// wait on the allocation, and then calls of other threads on the connection are waited for, a
    /// `wait` too: such threads use a connection of their own.
    ///
    /// - Parameters:
    ///   - index: From 0 to `count` - 1, of `Int32` or `UInt32`.
    ///   - count: How many of each at least, from 0; nil for all.
    /// - Returns: How many were woken; those whose requests wait are not among them if the
    ///   allocation is an `AsyncAllocation`.
    /// - Throws: `.invalidArgument` for other elements; transport errors, where requests wait: the
    ///   threads are awake all the same.
    @discardableResult
    public func notify(at index: Int, count: Int? = nil) throws(SmallocError) -> Int {
        let cell = try waitCell(index)
        defer { withExtendedLifetime(self) {} }
        let count = count ?? .max
        guard count > 0 else { return 0 }
        // What was stored is seen by a request that this does not see: it is told of before the
        // daemon compares.
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        let woken = SharedFutex.wake(cell.address, count: count)
        guard memory.hasWaiters else { return woken }
        do throws(SmallocError) {
            return try woken
                + remote.notify(
                    offset: UInt64(cell.end - MappedCell.size), count: UInt64(count))
        } catch {
            // Another client disposed of it, which ended all waits.
            if error.status == .noData || error.status == .outOfRange { return woken }
            throw error
        }
    }

    /// Looks whether the daemon is there, unless that was done within a second.
    ///
    /// - Parameter now: Nanoseconds of `Clock.now`.
    /// - Returns: When to look next.
    /// - Throws: What `MappedRemote.ended` says.
    private func nextLook(_ now: UInt64) throws(SmallocError) -> UInt64 {
        let interval: UInt64 = 1_000_000_000
        let last = memory.lastLook.load(ordering: .relaxed)
        if now < last &+ interval { return last &+ interval }
        if let ended = remote.ended { throw ended }
        memory.lastLook.store(now, ordering: .relaxed)
        return now &+ interval
    }

    private func waitCell(_ index: Int) throws(SmallocError) -> MappedCell {
        guard Element.self == Int32.self || Element.self == UInt32.self else {
            throw .invalidArgument("waits are for Int32 and Uint32")
        }
        check(index)
        let address = UnsafeMutableRawPointer(start + index)
        return MappedCell(address: address, end: address - memory.base + MappedCell.size)
    }
}
