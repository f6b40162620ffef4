// One element changed by many clients or tasks at a time, and waiting for it to change: for tasks.

internal import SmallocSystem
public import SmallocWire

extension AsyncAllocation {
    // MARK: Atomics

    /// Reads an element.
    ///
    /// Sequentially consistent with all other atomic calls on it, of every client, as all below
    /// are.
    ///
    /// - Parameters:
    ///   - index: Element, from 0 to length - 1.
    ///   - type: The Swift integer; must have the allocation's element type.
    /// - Returns: The element.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` load.
    public func atomicLoad<Value: Smalloc.AtomicValue>(
        _ index: Int, as type: Value.Type = Value.self
    ) async throws(SmallocError) -> Value {
        try await atomic(.load, index, 0)
    }

    /// Stores an element.
    ///
    /// - Parameters:
    ///   - value: What it becomes.
    ///   - index: Element, from 0 to length - 1.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` store.
    public func atomicStore<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) async throws(SmallocError) {
        _ = try await atomic(.store, index, value) as Value
    }

    /// Stores an element, and tells what it was.
    ///
    /// - Parameters:
    ///   - value: What it becomes.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` exchange.
    @discardableResult
    public func atomicExchange<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) async throws(SmallocError) -> Value {
        try await atomic(.exchange, index, value)
    }

    /// Adds to an element; it wraps around where the sum does not fit.
    ///
    /// - Parameters:
    ///   - value: What to add.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` add.
    @discardableResult
    public func atomicAdd<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) async throws(SmallocError) -> Value {
        try await atomic(.add, index, value)
    }

    /// Subtracts from an element; it wraps around where the difference does not fit.
    ///
    /// - Parameters:
    ///   - value: What to subtract.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` sub.
    @discardableResult
    public func atomicSubtract<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) async throws(SmallocError) -> Value {
        try await atomic(.sub, index, value)
    }

    /// Clears the bits of an element that are not set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits that stay.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` and.
    @discardableResult
    public func atomicAnd<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) async throws(SmallocError) -> Value {
        try await atomic(.and, index, value)
    }

    /// Sets the bits of an element that are set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits to set.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` or.
    @discardableResult
    public func atomicOr<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) async throws(SmallocError) -> Value {
        try await atomic(.or, index, value)
    }

    /// Turns the bits of an element over that are set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits to turn over.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` xor.
    @discardableResult
    public func atomicXor<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) async throws(SmallocError) -> Value {
        try await atomic(.xor, index, value)
    }

    /// Stores an element if it is what is expected.
    ///
    /// - Parameters:
    ///   - index: Element, from 0 to length - 1.
    ///   - expected: What it must be.
    ///   - desired: What it becomes then.
    /// - Returns: Whether it was stored, and what the element was before.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `atomic` compareExchange.
    @discardableResult
    public func atomicCompareExchange<Value: Smalloc.AtomicValue>(
        at index: Int, expected: Value, desired: Value
    ) async throws(SmallocError) -> (exchanged: Bool, original: Value) {
        let original = try await atomic(.compareExchange, index, desired, expected)
        return (original == expected, original)
    }

    private func atomic<Value: Smalloc.AtomicValue>(
        _ action: AtomicAction, _ index: Int, _ operand: Value, _ expected: Value = 0
    ) async throws(SmallocError) -> Value {
        let body = AtomicBody(
            action, UInt64(truncatingIfNeeded: operand), UInt64(truncatingIfNeeded: expected))
        let link = remote.owner.link
        let view = try checkedView()
        do throws(SmallocError) {
            let header = try view.atomicHeader(index, Value.self)
            let answer = try await link.answer { waiter in
                body.withBytes { _ = link.ask(header, $0, size: 8, remote, waiter) }
            }
            return Value(truncatingIfNeeded: UInt64(littleEndian: answer.number))
        } catch {
            throw view.explained(error, start: index)
        }
    }

    // MARK: Waiting

    /// Waits until an element is notified, if it is what is expected.
    ///
    /// To compare and to begin to wait is one step in the daemon, so that no wake-up is lost: who
    /// changes the element does so first, and calls `notify` then. `.notified` does not mean that
    /// the element has changed: look again, and wait again if need be.
    ///
    /// Other tasks' calls on the connection go on meanwhile. Cancelling the task has
    /// the daemon take the wait back; where a notify was faster, it is told.
    ///
    /// - Parameters:
    ///   - index: Element, from 0 to length - 1, of `Int32` or `Uint32`.
    ///   - value: What it must be to wait at all.
    ///   - timeout: The longest time to wait; nil for as long as it takes. Comes on top of the
    ///     connection's `requestTimeout`.
    /// - Returns: `.differs`, `.notified`, `.timeout`, or `.disposed` if the element is gone.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.waitLimit`; `.cancelled`, also if the daemon stops; transport errors.
    ///
    /// Wire: `wait`.
    @discardableResult
    public func wait<Value: Smalloc.AtomicValue>(
        at index: Int, while value: Value, timeout: Duration? = nil
    ) async throws(SmallocError) -> Smalloc.WaitResult {
        let view = try checkedView()
        do throws(SmallocError) {
            let request = try view.waitRequest(index, value, timeout)
            return try WaitResult(await remote.owner.link.callWaiting(request, remote))
        } catch {
            throw view.explained(error, start: index)
        }
    }

    /// Ends waits on an element, the oldest first.
    ///
    /// - Parameters:
    ///   - index: Element, from 0 to length - 1, of `Int32` or `Uint32`.
    ///   - count: How many at least, from 0; nil for all.
    /// - Returns: How many waited in the daemon, and do not any more.
    /// - Throws: `.invalidArgument` if the elements are of another type; `.noData`; `.outOfRange`;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `notify`.
    @discardableResult
    public func notify(at index: Int, count: Int? = nil) async throws(SmallocError) -> Int {
        let view = try checkedView()
        do throws(SmallocError) {
            let request = try view.notifyRequest(index, count)
            let reply = try await remote.owner.link.call(request, remote: remote)
            return Int(clamping: reply.header.size)
        } catch {
            throw view.explained(error, start: index)
        }
    }
}
