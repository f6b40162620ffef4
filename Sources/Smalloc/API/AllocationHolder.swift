// Receivers: what `alloc` can put memory into.

public import SmallocWire

extension Smalloc {
    /// A class whose instances can hold an allocation: a receiver, in Node's words.
    ///
    /// All it takes is a place to keep it. This is the document's `SimpleData`:
    ///
    /// ```swift
    /// final class SimpleData: Smalloc.Holder {
    ///     var allocation: Allocation?
    ///     let length: Int
    ///     init(_ n: Int) throws {
    ///         length = n
    ///         try smalloc.alloc(length, self)
    ///     }
    /// }
    /// ```
    ///
    /// Instances can then be indexed, copied onto and disposed of. When the last reference to the
    /// allocation goes, an anonymous one is disposed of.
    public protocol Holder: AnyObject {
        /// The allocation held, nil for none. Set by `alloc` and `sliceOnto`.
        var allocation: Allocation? { get set }
    }
}

extension Smalloc.Holder {
    /// An element as a number.
    ///
    /// See `Allocation.subscript(_:)` for what happens when it fails.
    ///
    /// Without an allocation, reading gives NaN, and both tell `Smalloc.unreportedFailureHandler`.
    public subscript(index: Int) -> Double {
        get {
            guard let allocation else {
                Smalloc.report(.noData)
                return .nan
            }
            return allocation[index]
        }
        set {
            guard let allocation else { return Smalloc.report(.noData) }
            allocation[index] = newValue
        }
    }

    /// Throws the failure that a subscript left behind, once.
    ///
    /// See `Allocation.throwIfFailed()`.
    ///
    /// - Throws: What the subscript met.
    public func throwIfFailed() throws(SmallocError) { try allocation?.throwIfFailed() }
}
