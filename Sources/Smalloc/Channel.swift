// The blocking core: frames out, frames in, on one socket. One user at a time; its connection
// locks.

internal import Glibc
internal import SmallocWire

/// One socket, a buffer for requests on their way out and one for replies on their way in.
///
/// A call is `begin`, perhaps `append`s, `send`, `receive`: one `send` and one `recv` in the usual
/// case, and no memory is allocated. Errors thrown from here mean that the stream is unusable;
/// error *replies* are returned as headers.
struct Channel: ~Copyable {
    private var socket: Socket
    private var timeout: UInt64
    /// Nanoseconds to ask again and again for an answer before waiting for it.
    var busyPoll: UInt64 = 0

    private var output = ByteBuffer(capacity: 4096)
    private var frameStart = 0
    /// Whether the last `send` that failed had got rid of nothing: then nobody has seen the
    /// request.
    private var sentNothing = true

    private let input: UnsafeMutableRawPointer
    private var inputStart = 0
    private var inputEnd = 0
    private static var inputCapacity: Int { 65_536 }

    /// Cookie of the last request begun.
    private(set) var cookie: UInt64 = 0
    /// Replies to requests that nobody waits for, which will arrive before any other's.
    private var unread = 0

    init(_ socket: consuming Socket, timeout: UInt64) {
        self.socket = socket
        self.timeout = timeout
        self.socket.setTimeouts(nanoseconds: timeout)
        input = .allocate(byteCount: Channel.inputCapacity, alignment: 16)
    }

    deinit { input.deallocate() }

    /// Sets the nanoseconds in which each request must be answered; `.max` is for ever.
    mutating func setTimeout(_ nanoseconds: UInt64) {
        timeout = nanoseconds
        socket.setTimeouts(nanoseconds: nanoseconds)
    }

    mutating func takeSentNothing() -> Bool { sentNothing }

    // MARK: Out

    /// Starts a frame behind what the output holds.
    ///
    /// Its cookie becomes the next number.
    mutating func begin(_ header: FrameHeader) {
        cookie &+= 1
        var header = header
        header.cookie = cookie
        frameStart = output.count
        output.append(header)
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) { output.append(bytes) }
    mutating func append<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
        output.append(value)
    }

    /// Ends the frame: what was appended since `begin`, and `following` bytes given to `send`.
    mutating func end(following: Int = 0) {
        let size = output.count - frameStart - FrameHeader.byteCount + following
        output.set(UInt32(size), at: frameStart + 20)
    }

    /// Sends all that the output holds and then `payload`, in one system call if the socket takes
    /// it.
    mutating func send(
        payload: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) throws(SmallocError) {
        defer { output.removeAll() }
        sentNothing = true
        if payload.count <= 2048 {
            if payload.count > 0 { output.append(payload) }
            try sendAll(output.bytes)
        } else {
            let head = output.bytes
            var parts = (
                iovec(
                    iov_base: UnsafeMutableRawPointer(mutating: head.baseAddress),
                    iov_len: head.count),
                iovec(
                    iov_base: UnsafeMutableRawPointer(mutating: payload.baseAddress),
                    iov_len: payload.count)
            )
            let sent = withUnsafeMutablePointer(to: &parts) { pointer in
                pointer.withMemoryRebound(to: iovec.self, capacity: 2) { vector in
                    var message = msghdr()
                    message.msg_iov = vector
                    message.msg_iovlen = 2
                    return sendmsg(socket.descriptor, &message, Int32(MSG_NOSIGNAL))
                }
            }
            var done = 0
            if sent >= 0 {
                sentNothing = false
                done = sent
            } else if errno != EINTR {
                throw failure(errno, sending: true)
            }
            if done < head.count {
                try sendAll(UnsafeRawBufferPointer(rebasing: head[done...]))
                done = head.count
            }
            try sendAll(UnsafeRawBufferPointer(rebasing: payload[(done - head.count)...]))
        }
    }

    private mutating func sendAll(_ bytes: UnsafeRawBufferPointer) throws(SmallocError) {
        var done = 0
        var deadline: Deadline?
        while done < bytes.count {
            let sent = Glibc.send(
                socket.descriptor, bytes.baseAddress! + done, bytes.count - done,
                Int32(MSG_NOSIGNAL))
            if sent >= 0 {
                sentNothing = false
                done += sent
                // A peer that takes a byte now and then must not hold us for ever.
                if done < bytes.count, let deadline, deadline.pollMilliseconds == 0 {
                    throw .timedOut("the daemon did not take the request in time")
                }
                if deadline == nil { deadline = .after(timeout) }
            } else if errno != EINTR {
                throw failure(errno, sending: true)
            }
        }
    }

    /// Sends a whole frame, or nothing of it, without waiting.
    ///
    /// For requests nobody waits for.
    ///
    /// - Returns: Whether it was sent; false if the socket has no room now.
    mutating func sendUnwaited(_ header: FrameHeader) throws(SmallocError) -> Bool {
        begin(header)
        defer { output.removeAll() }
        let bytes = output.bytes
        let sent = Glibc.send(
            socket.descriptor, bytes.baseAddress!, bytes.count,
            Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        if sent < 0 {
            guard errno == EAGAIN || errno == EINTR else { throw failure(errno, sending: true) }
            return false
        }
        unread += 1
        if sent < bytes.count { try sendAll(UnsafeRawBufferPointer(rebasing: bytes[sent...])) }
        return true
    }

    /// Waits until the socket takes more, taking in replies that nobody waits for.
    ///
    /// - Returns: Whether it does.
    mutating func waitForRoom(milliseconds: Int) throws(SmallocError) -> Bool {
        let deadline = Deadline.after(UInt64(milliseconds) * 1_000_000)
        while true {
            let left = deadline.pollMilliseconds
            guard left > 0 else { return false }
            var wait = pollfd(
                fd: socket.descriptor, events: Int16(POLLIN) | Int16(POLLOUT), revents: 0)
            guard poll(&wait, 1, left) > 0 else { continue }
            if wait.revents & Int16(POLLOUT) != 0 { return true }
            guard unread > 0 else { throw .connectionLost("the daemon closed the connection") }
            try drainUnread(ifOver: 0)
        }
    }

    /// Sends what the socket takes of `bytes` without waiting: for batches.
    mutating func sendSome(_ bytes: UnsafeRawBufferPointer) throws(SmallocError) -> Int {
        let sent = Glibc.send(
            socket.descriptor, bytes.baseAddress!, bytes.count,
            Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        if sent >= 0 {
            sentNothing = false
            return sent
        }
        guard errno == EAGAIN || errno == EINTR else { throw failure(errno, sending: true) }
        return 0
    }

    /// To be called before `sendSome` is used for the first part of something.
    mutating func markUnsent() { sentNothing = true }

    /// Waits until the socket takes or has something.
    ///
    /// - Returns: Whether there is something to receive.
    mutating func waitForEither(_ extra: UInt64) throws(SmallocError) -> Bool {
        if inputEnd > inputStart { return true }
        let deadline = Deadline.after(timeout == .max ? .max : timeout &+ extra)
        let events = try wait(Int16(POLLIN) | Int16(POLLOUT), deadline)
        return events & ~Int16(POLLOUT) != 0
    }

    // MARK: In

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

    private func wait(_ events: Int16, _ deadline: Deadline) throws(SmallocError) -> Int16 {
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

    private func failure(_ number: Int32, sending: Bool) -> SmallocError {
        if number == EAGAIN {
            return .timedOut(
                sending
                    ? "the daemon did not take the request in time"
                    : "the daemon did not answer in time")
        }
        return .connectionLost("the connection to the daemon is lost: \(systemMessage(number))")
    }
}
