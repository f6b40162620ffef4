// The requests of one loop that watch names.

/// A queue of them, in the order of how far they have looked: the first is furthest behind.
///
/// One that has looked at all events goes to its end, and so does a new one. Linked through the
/// places that waits on a cell have for their queues. Used by its loop's thread only.
struct LoopWatches: ~Copyable {
    private(set) var first: Wait?
    private var last: Wait?

    mutating func append(_ wait: Wait) {
        wait.place(.cell).pointee.previous = last
        if let last { last.place(.cell).pointee.next = wait } else { first = wait }
        last = wait
    }

    mutating func remove(_ wait: Wait) {
        let place = wait.place(.cell).pointee
        if let previous = place.previous {
            previous.place(.cell).pointee.next = place.next
        } else {
            first = place.next
        }
        if let next = place.next {
            next.place(.cell).pointee.previous = place.previous
        } else {
            last = place.previous
        }
        wait.place(.cell).pointee = Wait.Place()
    }

    /// Traps where one has looked further than one behind it; the first may be in the middle.
    ///
    /// - Returns: How many there are.
    func checkInvariants() -> Int {
        var count = 0
        var next = first
        while let wait = next {
            precondition(wait.isWatch && wait.fields.pointee.isQueued)
            next = wait.place(.cell).pointee.next
            precondition(next.map { $0.place(.cell).pointee.previous == wait } ?? (last == wait))
            precondition(
                wait == first
                    || next.map { $0.fields.pointee.number >= wait.fields.pointee.number } ?? true)
            count += 1
        }
        return count
    }
}
