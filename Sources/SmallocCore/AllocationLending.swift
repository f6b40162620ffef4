// Which memory may be sent without a copy, and what becomes of it.

extension Allocation {
    /// How many times its size is copied out of an allocation before pages of it are lent.
    ///
    /// What was lent is not kept warm for others, and to bring fresh pages in takes as long as
    /// lending saves in about so many reads. An allocation that is read once or twice and disposed
    /// of stays cheap, and one that is read all the time loses a few reads.
    static let copiesBeforeLending = 4

    /// Pages are about to be lent: whoever receives them may hold them for as long as he likes, so
    /// nobody is given them after this allocation.
    ///
    /// Under the lock.
    ///
    /// - Parameter size: Bytes that will be sent now.
    /// - Returns: False: they must not be, for others have memory on the same pages, or it is not
    ///   worth it yet.
    func willLend(_ size: Int) -> Bool {
        guard flags.contains(.mapped) else { return false }
        if flags.contains(.lent) { return true }
        // Counted no further than to a few times the capacity, and a frame.
        let sent = sentSize &+ size
        mappingPlace.storeBytes(of: sent, toByteOffset: 40, as: Int.self)
        guard sent / Allocation.copiesBeforeLending > mappingCapacity else { return false }
        flags.insert(.lent)
        return true
    }

    /// Bytes that were copied out in large reads, as long as nothing was lent.
    private var sentSize: Int { mappingPlace.load(fromByteOffset: 40, as: Int.self) }
}
