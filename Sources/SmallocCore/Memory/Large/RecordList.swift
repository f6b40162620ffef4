// A list of records of large memory, linked through the records themselves: whatever number of them
// clients bring about, it takes no memory of its own.

/// Records in order, each in one list at most.
///
/// Guarded by the pool's lock.
struct RecordList: @unchecked Sendable {
    private(set) var first: StorageRecord?
    private(set) var last: StorageRecord?
    private(set) var count = 0

    mutating func append(_ record: StorageRecord) {
        record.next = nil
        record.previous = last
        if let last { last.next = record } else { first = record }
        last = record
        count += 1
    }

    mutating func remove(_ record: StorageRecord) {
        if let next = record.next {
            next.previous = record.previous
        } else {
            last = record.previous
        }
        if let previous = record.previous {
            previous.next = record.next
        } else {
            first = record.next
        }
        count -= 1
    }

    mutating func popFirst() -> StorageRecord? {
        guard let first else { return nil }
        remove(first)
        return first
    }

    /// The youngest of the last `count` that fits.
    func last(of count: Int, where fits: (StorageRecord) -> Bool) -> StorageRecord? {
        var next = last
        for _ in 0..<count {
            guard let record = next else { return nil }
            if fits(record) { return record }
            next = record.previous
        }
        return nil
    }

    func forEach(_ body: (StorageRecord) -> Void) {
        var next = first
        while let record = next {
            next = record.next
            body(record)
        }
    }

    /// Checks that the links agree with each other and with the count.
    func checkInvariants() {
        var (found, previous) = (0, StorageRecord?.none)
        forEach { record in
            precondition(record.previous == previous, "the list is linked both ways")
            previous = record
            found += 1
        }
        precondition(found == count && previous == last, "the list ends with its last record")
    }
}
