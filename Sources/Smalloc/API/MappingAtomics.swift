// Atomic access to elements that are mapped: the processor's instructions, which meet those of the
// daemon's `atomic` requests, and of other mappings.

public import SmallocWire

extension Smalloc.Mapping where Element: Smalloc.AtomicValue {
    /// Reads an element.
    ///
    /// Sequentially consistent with all other atomic accesses to it, of every client, by a mapping
    /// or by a request, as all below are. A client that finds an element stored so finds all that
    /// was stored before, in any mapping.
    ///
    /// Cost: an instruction of the processor, as of all below.
    ///
    /// - Parameter index: From 0 to `count` - 1.
    /// - Returns: The element.
    @inlinable
    public func atomicLoad(_ index: Int) -> Element { act(.load, at: index, 0) }

    /// Stores an element.
    ///
    /// - Parameters:
    ///   - value: What it becomes.
    ///   - index: From 0 to `count` - 1. Needs `isWritable`, as all below do.
    @inlinable
    public func atomicStore(_ value: Element, at index: Int) {
        _ = act(.store, at: index, value)
    }

    /// Stores an element, and tells what it was.
    ///
    /// - Parameters:
    ///   - value: What it becomes.
    ///   - index: From 0 to `count` - 1.
    /// - Returns: What it was before.
    @inlinable @discardableResult
    public func atomicExchange(_ value: Element, at index: Int) -> Element {
        act(.exchange, at: index, value)
    }

    /// Adds to an element; it wraps around where the sum does not fit.
    ///
    /// - Parameters:
    ///   - value: What to add.
    ///   - index: From 0 to `count` - 1.
    /// - Returns: What it was before.
    @inlinable @discardableResult
    public func atomicAdd(_ value: Element, at index: Int) -> Element {
        act(.add, at: index, value)
    }

    /// Subtracts from an element; it wraps around where the difference does not fit.
    ///
    /// - Parameters:
    ///   - value: What to subtract.
    ///   - index: From 0 to `count` - 1.
    /// - Returns: What it was before.
    @inlinable @discardableResult
    public func atomicSubtract(_ value: Element, at index: Int) -> Element {
        act(.sub, at: index, value)
    }

    /// Clears the bits of an element that are not set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits that stay.
    ///   - index: From 0 to `count` - 1.
    /// - Returns: What it was before.
    @inlinable @discardableResult
    public func atomicAnd(_ value: Element, at index: Int) -> Element {
        act(.and, at: index, value)
    }

    /// Sets the bits of an element that are set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits to set.
    ///   - index: From 0 to `count` - 1.
    /// - Returns: What it was before.
    @inlinable @discardableResult
    public func atomicOr(_ value: Element, at index: Int) -> Element {
        act(.or, at: index, value)
    }

    /// Turns the bits of an element over that are set in a value.
    ///
    /// - Parameters:
    ///   - value: The bits to turn over.
    ///   - index: From 0 to `count` - 1.
    /// - Returns: What it was before.
    @inlinable @discardableResult
    public func atomicXor(_ value: Element, at index: Int) -> Element {
        act(.xor, at: index, value)
    }

    /// Stores an element if it is what is expected.
    ///
    /// - Parameters:
    ///   - index: From 0 to `count` - 1.
    ///   - expected: What it must be.
    ///   - desired: What it becomes then.
    /// - Returns: Whether it was stored, and what the element was before.
    @inlinable @discardableResult
    public func atomicCompareExchange(
        at index: Int, expected: Element, desired: Element
    ) -> (exchanged: Bool, original: Element) {
        let original = act(.compareExchange, at: index, desired, expected)
        return (original == expected, original)
    }

    @inlinable @inline(__always)
    func act(
        _ action: AtomicAction, at index: Int, _ operand: Element, _ expected: Element = 0
    ) -> Element {
        check(index)
        if action != .load { checkWritable() }
        defer { withExtendedLifetime(self) {} }
        let cell = UnsafeMutableRawPointer(start + index)
        switch MemoryLayout<Element>.size {
        case 1: return UInt8.act(on: cell, action, operand, expected)
        case 2: return UInt16.act(on: cell, action, operand, expected)
        case 4: return UInt32.act(on: cell, action, operand, expected)
        default: return UInt64.act(on: cell, action, operand, expected)
        }
    }
}
