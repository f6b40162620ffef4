// Who sends what has gathered on a multiplexed connection, and when.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Link {
    /// What is to be done after the lock was let go.
    enum Step { case nothing, flush, flushSoon }

    // These belong to the object, as a method that names its class reads the object's first word
    // for it, which the ThreadSanitizer takes for a race with changes of any field.

    /// Few enough requests under way that waiting for company is not worth it.
    var fewInFlight: Int { 8 }
    /// Enough bytes that a system call is well used.
    var enoughBytes: Int { 32_768 }

    /// Under the lock.
    func nextStep() -> Step {
        if sleeping {
            sleeping = false
            executor.wake()
        }
        if flushing || stalled || outgoing.isEmpty { return .nothing }
        if outgoing.frameSize >= enoughBytes { return .flush }
        // The thread sends when it has run all that can run on it now.
        if isHere { return .nothing }
        if inFlight <= fewInFlight { return .flush }
        if flushScheduled { return .nothing }
        flushScheduled = true
        // The executor's threads may all be busy for long: the thread sees to it within a
        // millisecond.
        if parked {
            parked = false
            executor.wake()
        }
        return .flushSoon
    }

    func perform(_ step: Step) {
        switch step {
        case .nothing: break
        case .flush: flush()
        case .flushSoon: flushSoon()
        }
    }

    /// Not where it is called, whose every call would make room for a priority.
    @inline(never)
    private func flushSoon() {
        Task.detached(priority: Task.currentPriority) { self.flush() }
    }

    /// Sends what has gathered, unless somebody is at it.
    func flush() {
        lock.lock()
        flushScheduled = false
        guard !flushing, !stalled, ended == nil else { return lock.unlock() }
        flushing = true
        while var part = outgoing.takeFirst() {
            lock.unlock()
            let failure = send(&part)
            lock.lock()
            if part.offset < part.end, failure == 0 {
                outgoing.putBack(part)
                stalled = true
                executor.wake()
                break
            }
            outgoing.recycle(part)
            if failure != 0 {
                flushing = false
                lock.unlock()
                // What the daemon said before it closed may still be in the socket, and tells more.
                _ = shutdown(socket.descriptor, Int32(SHUT_WR))
                return
            }
        }
        flushing = false
        lock.unlock()
    }

    /// - Returns: The system's error number, 0 if the socket is only full.
    private func send(_ part: inout OutgoingPart) -> Int32 {
        while part.offset < part.end {
            let (offset, size) = (part.offset, part.end - part.offset)
            var number: Int32 = 0
            func attempt(_ bytes: UnsafeRawBufferPointer) -> Int {
                let sent = Glibc.send(
                    socket.descriptor, bytes.baseAddress!, bytes.count,
                    Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
                if sent < 0 { number = errno }
                return sent
            }
            let sent: Int
            switch part.content {
            case .frames(let buffer):
                sent = attempt(
                    UnsafeRawBufferPointer(rebasing: buffer.bytes.bytes[offset..<offset + size]))
            case .batch(let record):
                sent = record.withMemory(offset, size, attempt)
            case .data(let source):
                sent = source.withMemory(offset, size, attempt)
            }
            if sent >= 0 {
                part.offset += sent
            } else if number == EAGAIN {
                return 0
            } else if number != EINTR {
                return number
            }
        }
        return 0
    }
}
