import Glibc

/// What one connection of the load does: a batch out, its replies in and compared.
extension Load {
    @inline(__always)
    func begin(_ lane: UnsafeMutablePointer<Lane>, _ now: UInt64) {
        let batch = lane.pointee.batches + lane.pointee.batch
        batch.pointee.number(from: lane.pointee.cookie)
        lane.pointee.cookie &+= UInt64(truncatingIfNeeded: batch.pointee.cookieCount)
        if lane.pointee.isFresh { lane.pointee.started = now }
        lane.pointee.sendIndex = 0
        lane.pointee.sendOffset = 0
        lane.pointee.replyIndex = 0
        lane.pointee.replyOffset = 0
        lane.pointee.active = true
    }

    /// Sends what the socket takes.
    ///
    /// True once the whole batch has left.
    @inline(__always)
    func send(_ lane: UnsafeMutablePointer<Lane>) throws -> Bool {
        let batch = lane.pointee.batches + lane.pointee.batch
        while lane.pointee.sendIndex < batch.pointee.requestCount {
            let index = lane.pointee.sendIndex
            let vector = batch.pointee.request + index
            let offset = lane.pointee.sendOffset
            var sent: Int
            if offset > 0 || index + 1 == batch.pointee.requestCount {
                sent = write(
                    lane.pointee.fd, vector.pointee.iov_base + offset,
                    vector.pointee.iov_len - offset)
            } else {
                let count = min(batch.pointee.requestCount - index, 64)
                sent = writev(lane.pointee.fd, vector, Int32(truncatingIfNeeded: count))
            }
            if sent < 0 {
                guard errno == EAGAIN else { throw BenchError.last("write") }
                lane.pointee.sending = true
                return false
            }
            while sent > 0 {
                let left =
                    batch.pointee.request[lane.pointee.sendIndex].iov_len
                    &- lane.pointee.sendOffset
                if sent < left {
                    lane.pointee.sendOffset &+= sent
                    break
                }
                sent &-= left
                lane.pointee.sendOffset = 0
                lane.pointee.sendIndex &+= 1
            }
        }
        lane.pointee.sending = false
        return true
    }

    /// Receives once and compares.
    ///
    /// The jobs done if that completed the batch, else `unfinished` or `nothing`, both negative.
    @inline(__always)
    func receive(_ lane: UnsafeMutablePointer<Lane>) throws -> Int {
        let received = recv(lane.pointee.fd, buffer, Self.bufferSize, 0)
        guard received > 0 else {
            if received == 0 { throw BenchError.closed }
            guard errno == EAGAIN || errno == EINTR else { throw BenchError.last("recv") }
            if waiting == .blocking { throw BenchError.timeout("a measured run") }
            return Self.nothing
        }
        let batch = lane.pointee.batches + lane.pointee.batch
        var done = 0
        while done < received {
            guard lane.pointee.active, lane.pointee.replyIndex < batch.pointee.replyCount else {
                throw BenchError.setup("\(received - done) bytes more than the replies")
            }
            let expected = batch.pointee.reply[lane.pointee.replyIndex]
            let offset = lane.pointee.replyOffset
            let count = min(expected.iov_len &- offset, received &- done)
            if memcmp(buffer + done, expected.iov_base + offset, count) != 0 {
                throw wrongReply(
                    at: offset,
                    expected: iovec(iov_base: expected.iov_base + offset, iov_len: count),
                    received: buffer + done, count: count)
            }
            done &+= count
            lane.pointee.replyOffset &+= count
            if lane.pointee.replyOffset == expected.iov_len {
                lane.pointee.replyOffset = 0
                lane.pointee.replyIndex &+= 1
            }
        }
        guard lane.pointee.replyIndex == batch.pointee.replyCount else { return Self.unfinished }
        lane.pointee.active = false
        lane.pointee.isFresh = batch.pointee.jobs > 0
        lane.pointee.batch &+= 1
        if lane.pointee.batch == lane.pointee.batchCount { lane.pointee.batch = 0 }
        return batch.pointee.jobs
    }
}
