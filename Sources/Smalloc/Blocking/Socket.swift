// A connected stream socket and the few system calls on it. Knows nothing of frames.

internal import Glibc
internal import SmallocSystem
internal import SmallocWire

/// Owns the descriptor of a connected stream socket; closes it when it goes.
struct Socket: ~Copyable {
    let descriptor: Int32

    deinit { _ = Glibc.close(descriptor) }

    /// Takes over a descriptor that is a connected stream socket.
    init(owning descriptor: Int32) { self.descriptor = descriptor }

    /// Connects, blocking, within `timeout` nanoseconds.
    ///
    /// - Throws: `.cannotConnect` with the system's reason, `.timedOut`.
    init(connectingTo address: Address, timeout: UInt64) throws(SmallocError) {
        switch address {
        case .unix(let path): descriptor = try connectUnix(path, timeout, address)
        case .tcp(let host, let port):
            descriptor = try connectTCP(host, port, timeout, address)
        }
    }

    /// Sends without waiting.
    ///
    /// - Returns: Bytes sent, or -1 and errno.
    @inline(__always)
    static func send(_ bytes: UnsafeRawBufferPointer, on descriptor: Int32) -> Int {
        Glibc.send(
            descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
    }

    /// Sends two parts in one system call.
    ///
    /// - Parameter waits: Whether to wait, within the socket's timeout, until the socket takes
    ///   them; at most a MiB is sent at a time then.
    /// - Returns: Bytes sent of both, or -1 and errno.
    static func send(
        _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, on descriptor: Int32,
        waits: Bool = false
    ) -> Int {
        if second.isEmpty, !waits { return send(first, on: descriptor) }
        let most = waits ? 1 << 20 : Int.max
        var parts = (
            iovec(
                iov_base: UnsafeMutableRawPointer(mutating: first.baseAddress),
                iov_len: min(first.count, most)),
            iovec(
                iov_base: UnsafeMutableRawPointer(mutating: second.baseAddress),
                iov_len: first.count > most ? 0 : min(second.count, most))
        )
        return withUnsafeMutablePointer(to: &parts) { pointer in
            pointer.withMemoryRebound(to: iovec.self, capacity: 2) { vector in
                var message = msghdr()
                message.msg_iov = vector
                message.msg_iovlen = 2
                return sendmsg(
                    descriptor, &message,
                    Int32(MSG_NOSIGNAL) | (waits ? 0 : Int32(MSG_DONTWAIT)))
            }
        }
    }

    /// `POLLRDHUP`, which needs a macro of the C library's.
    private static var hangUp: Int16 { 0x2000 }

    /// Whether the peer has not closed, as far as is known here.
    ///
    /// Cost: one system call.
    var isOpen: Bool {
        var wait = pollfd(fd: descriptor, events: Socket.hangUp, revents: 0)
        return poll(&wait, 1, 0) == 0
    }

    /// Lets a blocking `recv` or `send` end after this long; `.max` is never.
    func setTimeouts(nanoseconds: UInt64) { applyTimeouts(descriptor, nanoseconds) }

    /// Gives a dead TCP peer up after this long; does nothing on Unix sockets.
    func setUserTimeout(nanoseconds: UInt64) {
        guard nanoseconds != .max else { return }
        var milliseconds = UInt32(clamping: nanoseconds / 1_000_000)
        setsockopt(
            descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &milliseconds,
            socklen_t(MemoryLayout<UInt32>.size))
    }
}

private func applyTimeouts(_ descriptor: Int32, _ nanoseconds: UInt64) {
    var time = timeval(tv_sec: 0, tv_usec: 0)  // 0 is for ever.
    if nanoseconds != .max {
        let microseconds = max(1, nanoseconds / 1000)
        time.tv_sec = Int(clamping: microseconds / 1_000_000)
        time.tv_usec = Int(microseconds % 1_000_000)
    }
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, size)
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, size)
}

private func refusal(_ address: Address, _ number: Int32) -> SmallocError {
    // A blocking connect that runs into SO_SNDTIMEO says one of the first two.
    if number == EAGAIN || number == EINPROGRESS || number == ETIMEDOUT {
        return .timedOut("no connection to \(address) in time")
    }
    return .cannotConnect("no connection to \(address): \(systemMessage(number))")
}

private func connectUnix(
    _ path: String, _ timeout: UInt64, _ address: Address
) throws(SmallocError) -> Int32 {
    guard path.utf8.count <= UnixAddress.pathSizeMax else {
        throw .cannotConnect("the socket path is over \(UnixAddress.pathSizeMax) bytes: \(path)")
    }
    guard var name = UnixAddress(path) else {
        throw .cannotConnect("\(address) is no address of a socket")
    }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw refusal(address, errno) }
    applyTimeouts(descriptor, timeout)
    let failure = name.withSocketAddress { connectRetrying(descriptor, $0, $1) }
    if failure != 0 {
        _ = Glibc.close(descriptor)
        throw refusal(address, failure)
    }
    return descriptor
}

private func connectTCP(
    _ host: String, _ port: UInt16, _ timeout: UInt64, _ address: Address
) throws(SmallocError) -> Int32 {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_NUMERICSERV
    var found: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &found)
    guard code == 0, let first = found else {
        throw .cannotConnect("no address for \(host): \(String(cString: gai_strerror(code)))")
    }
    defer { freeaddrinfo(first) }
    let deadline = Deadline.after(timeout)
    var failure: Int32 = ETIMEDOUT
    var candidate: UnsafeMutablePointer<addrinfo>? = first
    while let info = candidate?.pointee {
        candidate = info.ai_next
        let left = deadline.pollMilliseconds
        guard left != 0 else { break }
        let descriptor = socket(
            info.ai_family, info.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), info.ai_protocol)
        guard descriptor >= 0 else {
            failure = errno
            continue
        }
        applyTimeouts(descriptor, left < 0 ? .max : UInt64(left) * 1_000_000)
        failure = connectRetrying(descriptor, info.ai_addr, info.ai_addrlen)
        if failure == 0 {
            var on: Int32 = 1
            setsockopt(
                descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on,
                socklen_t(MemoryLayout<Int32>.size))
            return descriptor
        }
        _ = Glibc.close(descriptor)
    }
    throw refusal(address, failure)
}

/// `connect`, also over signals.
///
/// An interrupted one goes on by itself, and `EISCONN` is its end.
private func connectRetrying(
    _ descriptor: Int32, _ name: UnsafePointer<sockaddr>?, _ size: socklen_t
) -> Int32 {
    while true {
        if connect(descriptor, name, size) == 0 || errno == EISCONN { return 0 }
        let failure = errno
        if failure == EALREADY {
            var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            _ = poll(&wait, 1, 100)
        } else if failure != EINTR {
            return failure
        }
    }
}
