// A connected stream socket and the few system calls on it. Knows nothing of frames.

internal import Glibc
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
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    let capacity = MemoryLayout.size(ofValue: name.sun_path)
    guard path.utf8.count < capacity else {
        throw .cannotConnect("the socket path is over \(capacity - 1) bytes: \(path)")
    }
    withUnsafeMutableBytes(of: &name.sun_path) { target in
        for (index, byte) in path.utf8.enumerated() { target[index] = byte }
    }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw refusal(address, errno) }
    applyTimeouts(descriptor, timeout)
    let failure = withUnsafePointer(to: &name) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connectRetrying(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
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
