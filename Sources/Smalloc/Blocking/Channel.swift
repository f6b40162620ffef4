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
    var socket: Socket
    var timeout: UInt64
    /// Nanoseconds to ask again and again for an answer before waiting for it.
    var busyPoll: UInt64 = 0

    private var output = ByteBuffer(capacity: 4096)
    private var frameStart = 0
    /// Whether the last `send` that failed had got rid of nothing: then nobody has seen the
    /// request.
    private var sentNothing = true

    let input: UnsafeMutableRawPointer
    var inputStart = 0
    var inputEnd = 0
    static var inputCapacity: Int { 65_536 }

    /// Cookie of the last request begun.
    private(set) var cookie: UInt64 = 0
    /// Replies to requests that nobody waits for, which will arrive before any other's.
    var unread = 0

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

    /// Whether what has been received begins with a whole header.
    var holdsHeader: Bool { inputEnd - inputStart >= FrameHeader.byteCount }

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
}
