// A Buffer-like class.
public import SmallocWire
extension Smalloc { public final class Buffer: AllocationHolder { public var allocation: Allocation? } }
