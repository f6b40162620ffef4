// Who moves inline data by more than one step: its block has no room to count them, and has few of
// them. Only ranges that overlap are more than 64 KiB of it.

internal import SmallocSystem

/// The transfers under way of allocations whose data is inline; those have the flag `.transferred`.
///
/// Each is counted under the lock of its allocation.
final class InlineTransfers: @unchecked Sendable {
    /// What goes on in one allocation.
    struct Count {
        /// Transfers in all, and those of them that write.
        var all: UInt32 = 0
        var writers: UInt32 = 0
        /// Bytes from the first one that they may reach: a truncate changes nothing of that.
        var reach = 0
    }

    /// By the address of the block.
    private let counts = Locked<[Int: Count]>([:])

    /// What goes on in the allocation of that block.
    func count(_ block: Int) -> Count {
        counts.withLock { $0[block] ?? Count() }
    }

    func begin(_ block: Int, writes: Bool, reach: Int) {
        counts.withLock {
            var count = $0[block] ?? Count()
            count.all += 1
            if writes { count.writers += 1 }
            count.reach = max(count.reach, reach)
            $0[block] = count
        }
    }

    /// - Returns: Whether none is left.
    func end(_ block: Int, writes: Bool) -> Bool {
        counts.withLock {
            guard var count = $0[block] else { return true }
            count.all -= 1
            if writes { count.writers -= 1 }
            $0[block] = count.all > 0 ? count : nil
            return count.all == 0
        }
    }

    /// Hands the count over: the data gets a record, which counts from now on.
    func take(_ block: Int) -> Count {
        counts.withLock { $0.removeValue(forKey: block) ?? Count() }
    }
}
