// One element changed by many clients, or tasks, at a time, and waiting for it to change: blocking.

internal import SmallocSystem
public import SmallocWire

extension Smalloc {
    /// The Swift integers that `atomicAdd` and its like take: `Int8` to `UInt32`, `Int64` and
    /// `UInt64`.
    ///
    /// The type must be that of the allocation's elements. `Uint8Clamped` has no atomics, and the
    /// daemon refuses it.
    public typealias AtomicValue = Smalloc.Element & FixedWidthInteger
}

extension Allocation {
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
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` load.
    public func atomicLoad<Value: Smalloc.AtomicValue>(
        _ index: Int, as type: Value.Type = Value.self
    ) throws(SmallocError) -> Value {
        try atomic(.load, index, 0)
    }

    /// Stores an element.
    ///
    /// - Parameters:
    ///   - value: What it becomes.
    ///   - index: Element, from 0 to length - 1.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` store.
    public func atomicStore<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) throws(SmallocError) {
        _ = try atomic(.store, index, value) as Value
    }

    /// Stores an element, and tells what it was.
    ///
    /// - Parameters:
    ///   - value: What it becomes.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` exchange.
    @discardableResult
    public func atomicExchange<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) throws(SmallocError) -> Value {
        try atomic(.exchange, index, value)
    }

    /// Adds to an element; it wraps around where the sum does not fit.
    ///
    /// - Parameters:
    ///   - value: What to add.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` add.
    @discardableResult
    public func atomicAdd<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) throws(SmallocError) -> Value {
        try atomic(.add, index, value)
    }

    /// Subtracts from an element; it wraps around where the difference does not fit.
    ///
    /// - Parameters:
    ///   - value: What to subtract.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` sub.
    @discardableResult
    public func atomicSubtract<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) throws(SmallocError) -> Value {
        try atomic(.sub, index, value)
    }

    /// Clears the bits of an element that are not set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits that stay.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` and.
    @discardableResult
    public func atomicAnd<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) throws(SmallocError) -> Value {
        try atomic(.and, index, value)
    }

    /// Sets the bits of an element that are set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits to set.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` or.
    @discardableResult
    public func atomicOr<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) throws(SmallocError) -> Value {
        try atomic(.or, index, value)
    }

    /// Turns the bits of an element over that are set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits to turn over.
    ///   - index: Element, from 0 to length - 1.
    /// - Returns: What it was before.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` xor.
    @discardableResult
    public func atomicXor<Value: Smalloc.AtomicValue>(
        _ value: Value, at index: Int
    ) throws(SmallocError) -> Value {
        try atomic(.xor, index, value)
    }

    /// Stores an element if it is what is expected.
    ///
    /// - Parameters:
    ///   - index: Element, from 0 to length - 1.
    ///   - expected: What it must be.
    ///   - desired: What it becomes then.
    /// - Returns: Whether it was stored, and what the element was before.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `atomic` compareExchange.
    @discardableResult
    public func atomicCompareExchange<Value: Smalloc.AtomicValue>(
        at index: Int, expected: Value, desired: Value
    ) throws(SmallocError) -> (exchanged: Bool, original: Value) {
        let original = try atomic(.compareExchange, index, desired, expected)
        return (original == expected, original)
    }

    private func atomic<Value: Smalloc.AtomicValue>(
        _ action: AtomicAction, _ index: Int, _ operand: Value, _ expected: Value = 0
    ) throws(SmallocError) -> Value {
        let view = try checkedView()
        let body = AtomicBody(
            action, UInt64(truncatingIfNeeded: operand), UInt64(truncatingIfNeeded: expected))
        return try view.explaining(index) { () throws(SmallocError) in
            let header = try view.atomicHeader(index, Value.self)
            let answer = try view.connection.call(on: view.remote) {
                channel throws(SmallocError) in
                let cookie = body.withBytes { channel.session.start(header, $0, size: 8) }
                return try channel.answer(to: cookie)
            }
            return Value(truncatingIfNeeded: UInt64(littleEndian: answer.number))
        }
    }

    // MARK: Waiting

    /// Waits until an element is notified, if it is what is expected.
    ///
    /// To compare and to begin to wait is one step in the daemon, so that no wake-up is lost: who
    /// changes the element does so first, and calls `notify` then. `.notified` does not mean that
    /// the element has changed: look again, and wait again if need be.
    ///
    /// **The connection serves this call alone meanwhile**, as it does with each: calls of other
    /// threads on it wait. So what notifies uses another connection, or the async face.
    ///
    /// - Parameters:
    ///   - index: Element, from 0 to length - 1, of `Int32` or `Uint32`.
    ///   - value: What it must be to wait at all.
    ///   - timeout: The longest time to wait; nil for as long as it takes. Comes on top of the
    ///     connection's `requestTimeout`.
    /// - Returns: `.differs`, `.notified`, `.timeout`, or `.disposed` if the element is gone.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; `.waitLimit`; `.cancelled` if the daemon
    ///   stops; transport errors.
    ///
    /// Wire: `wait`.
    @discardableResult
    public func wait<Value: Smalloc.AtomicValue>(
        at index: Int, while value: Value, timeout: Duration? = nil
    ) throws(SmallocError) -> Smalloc.WaitResult {
        let view = try checkedView()
        return try view.explaining(index) { () throws(SmallocError) in
            let request = try view.waitRequest(index, value, timeout)
            let reply = try view.connection.call(on: view.remote) { channel throws(SmallocError) in
                try channel.exchangeWait(request)
            }
            return try WaitResult(reply)
        }
    }

    /// Ends waits on an element, the oldest first.
    ///
    /// - Parameters:
    ///   - index: Element, from 0 to length - 1, of `Int32` or `Uint32`.
    ///   - count: How many at least, from 0; nil for all.
    /// - Returns: How many waited in the daemon, and do not any more.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` if the elements are of
    ///   another type; `.noData`; `.outOfRange`; transport errors.
    ///
    /// Wire: `notify`.
    @discardableResult
    public func notify(at index: Int, count: Int? = nil) throws(SmallocError) -> Int {
        let view = try checkedView()
        return try view.explaining(index) { () throws(SmallocError) in
            let request = try view.notifyRequest(index, count)
            return Int(clamping: try view.perform(request, index).header.size)
        }
    }
}
