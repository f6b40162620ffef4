// Which memory may be sent without a copy, and what becomes of it.

extension Allocation {
    /// How many times its size is copied out of an allocation before pages of it are lent.
    ///
    /// What was lent is not kept warm for others, and to bring fresh pages in takes as long as
    /// lending saves in about so many reads. An allocation that is read once or twice and disposed
    /// of stays cheap, and one that is read all the time loses a few reads.
    static let copiesBeforeLending = 4

    /// A large read of so many bytes begins.
    ///
    /// Under the lock.
    func noteLargeRead(_ size: Int) {
        // Counted no further than to a few times the capacity, and a frame.
        guard flags.contains(.mapped), !isReadOften else { return }
        mappingPlace.storeBytes(of: sentSize &+ size, toByteOffset: 40, as: Int.self)
    }

    /// Pages are about to be lent: whoever receives them may hold them for as long as he likes, so
    /// nobody is given them after this allocation.
    ///
    /// Under the lock.
    ///
    /// - Returns: False: they must not be, for others have memory on the same pages, or it is not
    ///   worth it yet.
    func willLend() -> Bool {
        guard flags.contains(.mapped), isReadOften else { return false }
        flags.insert(.lent)
        return true
    }

    private var isReadOften: Bool {
        sentSize / Allocation.copiesBeforeLending > mappingCapacity
    }

    /// Bytes of large reads, as far as they were counted.
    private var sentSize: Int { mappingPlace.load(fromByteOffset: 40, as: Int.self) }
}
