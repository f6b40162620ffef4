// What a connection holds, as the registry sees it, and what a request leaves to do.

/// What is left to do after an operation.
///
/// Every connection has one, and hardly ever anything in it: so it is a pointer.
enum Deferred {
    /// The reply is in the output.
    case nothing
    /// The head of the reply is in the output, its data leaves straight from the allocation.
    indirect case send(Transfer)
    /// The reply comes when the work is done.
    indirect case work(Work)
    /// A page of a listing is in the output; text mode goes on from here.
    indirect case page(UInt64)
    /// The connection ends after the reply.
    case quit
}

/// What a connection holds: its handles, and what its last request left to do.
struct Holdings: ~Copyable {
    var handles = HandleTable()
    var deferred = Deferred.nothing
    /// Work done since `serve` was called, in bytes moved or their like; what copies of small data
    /// cost is in the replies and the input already.
    var cost = 0
    /// Seconds since the registry's birth and 1, or 0: not asked for since `serve` was called.
    var age: UInt64 = 0
    /// How often the request at hand has waited for memory.
    var reclaims = 0
    /// A name in the input whose hash is known, while its request is served.
    var known = KnownName()
}

/// A name whose hash is known.
struct KnownName {
    /// First byte.
    var start: UnsafeRawPointer?
    var hash: UInt64 = 0
}
