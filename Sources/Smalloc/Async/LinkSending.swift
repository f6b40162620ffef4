// Which thread sends what has gathered on a multiplexed connection, and when.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

extension Link {
    /// What is to be done after the lock was let go.
    enum Step { case nothing, flush, flushSoon }

    // These belong to the object, as a method that names its class reads the object's first word
    // for it, which the ThreadSanitizer takes for a race with changes of any field.

    /// Few enough requests in flight that waiting for others is not worth it.
    var fewInFlight: Int { 8 }
    /// Enough bytes that a system call is well used.
    var enoughBytes: Int { 32_768 }

    /// Under the lock.
    func nextStep() -> Step {
        if threadState == .sleeping { wakeThread() }
        if isFlushing || isStalled || session.output.isEmpty { return .nothing }
        if session.output.frameSize >= enoughBytes { return .flush }
        // The thread sends when it has run all that can run on it now.
        if isHere { return .nothing }
        if session.inFlight <= fewInFlight { return .flush }
        if isFlushScheduled { return .nothing }
        isFlushScheduled = true
        // The executor's threads may all be busy for long: the thread sees to it within a
        // millisecond.
        if threadState > .working { wakeThread() }
        return .flushSoon
    }

    /// Under the lock.
    private func wakeThread() {
        threadState = .working
        executor.wake()
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

    /// Sends what has gathered, unless another thread is at it.
    func flush() {
        lock.lock()
        isFlushScheduled = false
        guard !isFlushing, !isStalled, session.ended == nil else { return lock.unlock() }
        isFlushing = true
        while var piece = session.output.takeFirst() {
            lock.unlock()
            let failure = send(&piece)
            lock.lock()
            if piece.left > 0, failure == 0 {
                session.output.putBack(piece)
                isStalled = true
                executor.wake()
                break
            }
            session.output.recycle(piece)
            if failure != 0 {
                isFlushing = false
                lock.unlock()
                // What the daemon said before it closed may still be in the socket, and tells more.
                _ = shutdown(socket.descriptor, Int32(SHUT_WR))
                return
            }
        }
        isFlushing = false
        lock.unlock()
    }

    /// - Returns: The system's error number, 0 if the socket is only full.
    private func send(_ piece: inout OutgoingPiece) -> Int32 {
        let descriptor = socket.descriptor
        while piece.left > 0 {
            var number: Int32 = 0
            let sent = piece.send { first, second in
                let sent = Socket.send(first, second, on: descriptor)
                if sent < 0 { number = errno }
                return sent
            }
            if sent < 0, number == EAGAIN { return 0 }
            if sent < 0, number != EINTR { return number }
        }
        return 0
    }
}
