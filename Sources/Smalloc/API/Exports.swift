// What of the protocol's vocabulary a user of the client sees: two words at the top, the others as
// members of `Smalloc`, since general names would be in the way of a program's own.

public import SmallocWire
@_exported public import enum SmallocWire.ElementType
@_exported public import struct SmallocWire.SmallocError

extension Smalloc {
    /// Where a daemon listens.
    public typealias Address = SmallocWire.Address
    /// Node's class of an error.
    public typealias ErrorClass = SmallocWire.ErrorClass
    /// What a daemon allows.
    public typealias Limits = SmallocWire.Limits
    /// Why a wait is over.
    public typealias WaitResult = SmallocWire.WaitResult
    /// What to switch on in an error.
    public typealias Status = SmallocWire.Status
}
