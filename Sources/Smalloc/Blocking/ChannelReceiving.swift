// What comes in on a blocking connection: replies, and the waiting for them.

internal import Glibc
internal import SmallocWire

extension Channel {
    /// Receives the header of the reply to `cookie`, past those that nobody waits for.
    ///
    /// Its payload must be taken before the next header. `extra` nanoseconds are added to the
    /// request timeout.
    mutating func receive(
        _ cookie: UInt64, operation: UInt8, extra: UInt64 = 0
    ) throws(SmallocError) -> FrameHeader {
        let deadline = Deadline.after(timeout == .max ? .max : timeout &+ extra)
        while true {
            while inputEnd - inputStart < FrameHeader.byteCount {
                try fill(deadline, waitFirst: extra != 0)
            }
            let header = FrameHeader(from: input + inputStart)
            inputStart += FrameHeader.byteCount
            guard header.magic == FrameHeader.replyMagic else {
                throw .unexpectedReply("the peer's answer is no smalloc frame")
            }
            if header.cookie == cookie, header.operation == operation { return header }
            // A breach that the daemon found before it could read a cookie ends the connection.
            if Status(rawValue: header.status).closes {
                throw SmallocError(reply: header, message: try message(header))
            }
            guard unread > 0 else {
                throw .unexpectedReply("the answer is to a request that was not made")
            }
            unread -= 1
            try skip(Int(header.payloadSize), deadline)
        }
    }

    /// Moves `size` bytes of payload to `target`.
    ///
    /// What the buffer doesn't hold comes straight there.
    mutating func take(_ size: Int, into target: UnsafeMutableRawPointer) throws(SmallocError) {
        let held = min(size, inputEnd - inputStart)
        if held > 0 {
            target.copyMemory(from: input + inputStart, byteCount: held)
            inputStart += held
        }
        var done = held
        guard done < size else { return }
        let deadline = Deadline.after(timeout)
        var first = true
        while done < size {
            if !first { _ = try wait(Int16(POLLIN), deadline) }
            let got = recv(
                socket.descriptor, target + done, size - done,
                Int32(MSG_WAITALL))
            first = false
            if got > 0 {
                done += got
            } else if got == 0 {
                throw .connectionLost("the daemon closed the connection in the middle of an answer")
            } else if errno != EINTR {
                throw failure(errno, sending: false)
            }
        }
    }

    /// The payload of an error reply as text.
    mutating func message(_ header: FrameHeader) throws(SmallocError) -> String {
        let size = Int(header.payloadSize)
        guard size <= 65_536 else {
            throw .unexpectedReply("an error reply has a payload of \(size) bytes")
        }
        let bytes = try takeArray(size)
        return String(decoding: bytes, as: UTF8.self)
    }

    /// `size` bytes of payload as an array.
    ///
    /// For small replies: the memory is trusted to the header.
    mutating func takeArray(_ size: Int) throws(SmallocError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: size)
        var failure: SmallocError?
        bytes.withUnsafeMutableBytes { target in
            guard let base = target.baseAddress else { return }
            do throws(SmallocError) { try take(size, into: base) } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Throws the payload of a reply away.
    mutating func skipPayload(_ header: FrameHeader) throws(SmallocError) {
        try skip(Int(header.payloadSize), .after(timeout))
    }

    /// Throws `size` bytes of payload away.
    private mutating func skip(_ size: Int, _ deadline: Deadline) throws(SmallocError) {
        var left = size
        while left > 0 {
            if inputStart == inputEnd { try fill(deadline, waitFirst: true) }
            let held = min(left, inputEnd - inputStart)
            inputStart += held
            left -= held
        }
    }

    /// Takes in replies that nobody waits for, as far as they have come.
    mutating func drainUnread(ifOver limit: Int) throws(SmallocError) {
        guard unread > limit else { return }
        while unread > 0 {
            var wait = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
            if inputEnd - inputStart < FrameHeader.byteCount {
                guard poll(&wait, 1, 0) > 0 else { return }
                try fill(.after(timeout), waitFirst: false)
                continue
            }
            let header = FrameHeader(from: input + inputStart)
            inputStart += FrameHeader.byteCount
            unread -= 1
            try skip(Int(header.payloadSize), .after(timeout))
        }
    }

    /// Receives at least a byte into the buffer.
    private mutating func fill(_ deadline: Deadline, waitFirst: Bool) throws(SmallocError) {
        let held = inputEnd - inputStart
        if held > 0, inputStart > 0 { input.copyMemory(from: input + inputStart, byteCount: held) }
        inputStart = 0
        inputEnd = held
        if busyPoll > 0, try spin(deadline) { return }
        // The socket's own timeout serves for the first part of an answer: no extra system call.
        if waitFirst || held > 0 { _ = try wait(Int16(POLLIN), deadline) }
        while true {
            let got = recv(
                socket.descriptor, input + inputEnd, Channel.inputCapacity - inputEnd, 0)
            if got > 0 {
                inputEnd += got
                return
            }
            if got == 0 { throw .connectionLost("the daemon closed the connection") }
            guard errno == EINTR else { throw failure(errno, sending: false) }
            _ = try wait(Int16(POLLIN), deadline)
        }
    }

    /// Asks for bytes again and again for a while.
    ///
    /// - Returns: Whether some have come into the buffer.
    private mutating func spin(_ deadline: Deadline) throws(SmallocError) -> Bool {
        let end = min(Deadline.after(busyPoll).nanoseconds, deadline.nanoseconds)
        repeat {
            let got = recv(
                socket.descriptor, input + inputEnd, Channel.inputCapacity - inputEnd,
                Int32(MSG_DONTWAIT))
            if got > 0 {
                inputEnd += got
                return true
            }
            if got == 0 { throw .connectionLost("the daemon closed the connection") }
            guard errno == EAGAIN || errno == EINTR else { throw failure(errno, sending: false) }
        } while monotonicNanoseconds() < end
        return false
    }

    func wait(_ events: Int16, _ deadline: Deadline) throws(SmallocError) -> Int16 {
        var wait = pollfd(fd: socket.descriptor, events: events, revents: 0)
        while true {
            // A peer that sends a byte now and then must not hold us beyond the deadline.
            let left = deadline.pollMilliseconds
            let ready = left == 0 ? 0 : poll(&wait, 1, left)
            if ready > 0 { return wait.revents }
            if ready == 0 { throw .timedOut("the daemon did not answer in time") }
            guard errno == EINTR else { throw failure(errno, sending: false) }
        }
    }

    func failure(_ number: Int32, sending: Bool) -> SmallocError {
        if number == EAGAIN {
            return .timedOut(
                sending
                    ? "the daemon did not take the request in time"
                    : "the daemon did not answer in time")
        }
        return .connectionLost("the connection to the daemon is lost: \(systemMessage(number))")
    }
}
