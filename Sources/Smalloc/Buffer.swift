// A Buffer-like class.
extension Smalloc { public final class Buffer: AllocationHolder { public var allocation: Allocation? } }
