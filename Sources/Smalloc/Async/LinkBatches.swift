// Batches on a multiplexed connection: a place for all of their requests, and one waiter.

internal import SmallocSystem
internal import SmallocWire

extension Link {
    /// Asks what a batch has gathered, for somebody who waits already, and is resumed when all
    /// replies have come or whatever else happens.
    ///
    /// - Parameter remotes: The allocations that it is about.
    func ask(
        _ record: BatchRecord, _ remotes: [AsyncRemote], extraTime: UInt64, _ waiter: Waiter
    ) {
        record.prepare()
        lock.lock()
        record.withdrawGone(remotes)
        guard ended == nil, record.unanswered > 0 else {
            let answer = ended.map { Answer($0.afterwards) } ?? Answer()
            lock.unlock()
            return waiter.resume(returning: answer)
        }
        let index = slots.insert(0)
        let slot = slots.at(index)
        slot.pointee.batch = record
        record.carrier = index
        let cookie = slots.cookie(of: slot)
        let asker = expect(slot, waiter, extraTime)
        if let rest = put(record, from: 0, record.unanswered) { backlog.append(rest) }
        asked(asker, cookie, waiter)
    }
}

extension LinkReader {
    /// Files the good replies to a batch that the buffer holds, as far as they follow each other.
    ///
    /// Under the lock.
    ///
    /// - Returns: Whether there were any.
    @inline(__always)
    mutating func takeBatch(_ index: Int, _ record: BatchRecord, _ first: FrameHeader) -> Bool {
        let next = UnsafeRawPointer(input + start)
        let taken = record.takeGood(
            next, UnsafeRawPointer(input + end), first.cookie >> 32)
        guard taken.count > 0 else { return false }
        start += taken.end - next
        batchReplied(index, record, taken.count)
        return true
    }

    /// Under the lock.
    mutating func batchReplied(_ index: Int, _ record: BatchRecord, _ count: Int) {
        if record.unanswered == 0 {
            let slot = link.slots.at(index)
            if slot.pointee.state == .waiting, let waiter = slot.pointee.waiter {
                link.slots.remove(at: index)
                resumed.append(waiter, Answer())
            } else {
                _ = link.slots.finish(index, Answer(), replied: true)
            }
        }
        link.replied(count)
    }
}
