// A blocking socket with nothing between the test and the bytes.

import Foundation

/// What can go wrong on a `RawSocket`.
public enum RawSocketError: Error, Equatable, Sendable {
    /// A system call failed.
    case system(call: String, number: Int32)
    /// Nothing happened within the socket's time.
    case timeout
    /// The other side ended the connection before all that was wanted had come.
    case ended
}

/// A connected stream socket, blocking, with a limit on every wait.
///
/// Not for use by two threads at once, except one that sends and one that receives.
public final class RawSocket: @unchecked Sendable {
    /// The descriptor, -1 after `close`.
    public private(set) var descriptor: Int32
    private var received: [UInt8] = []
    private var taken = 0

    /// Connects to a Unix socket.
    public convenience init(unix path: String, seconds: Double = 20) throws {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let size = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < size else {
            throw RawSocketError.system(call: "path", number: ENAMETOOLONG)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        try self.init(family: AF_UNIX, seconds: seconds) { descriptor in
            withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
        }
    }

    /// Connects to a TCP port of this machine, or of another IPv4 address.
    public convenience init(
        port: UInt16, address host: String = "127.0.0.1", seconds: Double = 20
    ) throws {
        var address = RawSocket.loopback(port)
        guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else {
            throw RawSocketError.system(call: "inet_pton", number: EINVAL)
        }
        try self.init(family: AF_INET, seconds: seconds) { descriptor in
            withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    }

    private init(family: Int32, seconds: Double, connect: (Int32) -> Int32) throws {
        descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw RawSocketError.system(call: "socket", number: errno) }
        var time = timeval(tv_sec: Int(seconds), tv_usec: Int((seconds - floor(seconds)) * 1e6))
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, size)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, size)
        guard connect(descriptor) == 0 else {
            let number = errno
            Glibc.close(descriptor)
            descriptor = -1
            throw RawSocketError.system(call: "connect", number: number)
        }
    }

    deinit { close() }

    /// Closes the socket. Repeats do nothing.
    public func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }

    /// Ends this side; what the other side still sends can be received.
    public func endOutput() {
        shutdown(descriptor, Int32(SHUT_WR))
    }

    /// Closes so that the other side gets a reset rather than an end (on TCP; on a Unix socket if
    /// something was left unread).
    public func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    /// A TCP port of this machine that is free at the moment.
    public static func freePort() throws -> UInt16 {
        let descriptor = socket(
            AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { Glibc.close(descriptor) }
        var address = loopback(0)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) == 0 ? getsockname(descriptor, $0, &size) : -1
            }
        }
        guard result == 0 else { throw RawSocketError.system(call: "bind", number: errno) }
        return UInt16(bigEndian: address.sin_port)
    }

    private static func loopback(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }
}

// MARK: - Sending

extension RawSocket {
    /// Sends all bytes.
    ///
    /// - Throws: `.timeout`, or `.ended` if the other side has gone.
    public func send(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let count = Glibc.send(
                    descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count,
                    Int32(MSG_NOSIGNAL))
                if count < 0 && errno == EINTR { continue }
                guard count >= 0 else { throw RawSocket.failure("send") }
                rest = rest.dropFirst(count)
            }
        }
    }

    /// Sends a line of text.
    public func send(line: String) throws { try send(Array(line.utf8) + [0x0A]) }

    /// Sends what the kernel takes at once.
    ///
    /// - Returns: How many bytes that was; 0 if none.
    public func sendSome(_ bytes: ArraySlice<UInt8>) throws -> Int {
        let count = bytes.withUnsafeBytes {
            Glibc.send(
                descriptor, $0.baseAddress, $0.count,
                Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        }
        if count < 0 && (errno == EAGAIN || errno == EINTR) { return 0 }
        guard count >= 0 else { throw RawSocket.failure("send") }
        return count
    }

    /// Sends bytes one by one, each after the other side has read the one before.
    ///
    /// Unix sockets only, whose kernel tells when the queue is empty.
    public func drip(_ bytes: [UInt8]) throws {
        for byte in bytes {
            try send([byte])
            try waitUntilTaken()
        }
    }

    /// Waits until the other side has read all that was sent, or has gone.
    public func waitUntilTaken() throws {
        let end = Date().addingTimeInterval(20)
        while true {
            var queued: Int32 = 0
            guard ioctl(descriptor, UInt(TIOCOUTQ), &queued) == 0 else {
                throw RawSocket.failure("ioctl")
            }
            if queued == 0 { return }
            var state = pollfd(fd: descriptor, events: 0, revents: 0)
            if poll(&state, 1, 0) > 0, state.revents & Int16(POLLHUP | POLLERR) != 0 { return }
            guard Date() < end else { throw RawSocketError.timeout }
            sched_yield()
        }
    }

    /// Sends bytes with descriptors beside them, as a client of a careless server might.
    public func send(_ bytes: [UInt8], descriptors: [Int32]) throws {
        // A control message is its size, level and kind, then the descriptors, all aligned to 8.
        let size = 16 + descriptors.count * 4
        var control = [UInt64](repeating: 0, count: (size + 7) / 8)
        control[0] = UInt64(size)
        control[1] = UInt64(UInt32(SOL_SOCKET)) | UInt64(SCM_RIGHTS) << 32
        control.withUnsafeMutableBytes { target in
            descriptors.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(rebasing: target[16...]).copyMemory(from: $0)
            }
        }
        var bytes = bytes
        let sent = bytes.withUnsafeMutableBytes { data in
            control.withUnsafeMutableBytes { control in
                var vector = iovec(iov_base: data.baseAddress, iov_len: data.count)
                return withUnsafeMutablePointer(to: &vector) { vector in
                    var message = msghdr()
                    message.msg_iov = vector
                    message.msg_iovlen = 1
                    message.msg_control = control.baseAddress
                    message.msg_controllen = control.count
                    return sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
                }
            }
        }
        guard sent >= 0 else { throw RawSocket.failure("sendmsg") }
        if sent < bytes.count { try send(Array(bytes[sent...])) }
    }

    private static func failure(_ call: String) -> RawSocketError {
        switch errno {
        case EPIPE, ECONNRESET: .ended
        case EAGAIN: .timeout
        default: .system(call: call, number: errno)
        }
    }
}

// MARK: - Receiving

extension RawSocket {
    /// Receives some bytes; empty at the end of the connection, a reset being one too.
    ///
    /// - Throws: `.timeout`
    public func receive(_ most: Int = 65_536) throws -> [UInt8] {
        if taken < received.count {
            let count = min(most, received.count - taken)
            defer { taken += count }
            return Array(received[taken..<taken + count])
        }
        return try receiveFresh(most)
    }

    private func receiveFresh(_ most: Int) throws -> [UInt8] {
        while true {
            var count = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: most) { buffer, initialized in
                count = recv(descriptor, buffer.baseAddress, most, 0)
                initialized = max(0, count)
            }
            if count >= 0 { return bytes }
            if errno == ECONNRESET { return [] }
            guard errno == EINTR else { throw RawSocket.failure("recv") }
        }
    }

    /// Receives exactly `count` bytes.
    ///
    /// - Throws: `.timeout`, `.ended`
    public func receive(exactly count: Int) throws -> [UInt8] {
        while received.count - taken < count {
            let more = try receiveFresh(max(65_536, min(count, 1 << 20)))
            guard !more.isEmpty else { throw RawSocketError.ended }
            if taken > 1 << 20 {
                received.removeFirst(taken)
                taken = 0
            }
            received.append(contentsOf: more)
        }
        defer { drop(count) }
        return Array(received[taken..<taken + count])
    }

    private func drop(_ count: Int) {
        taken += count
        if taken == received.count {
            received.removeAll(keepingCapacity: received.capacity <= 1 << 20)
            taken = 0
        }
    }

    /// Receives a line, without its end.
    ///
    /// - Throws: `.timeout`, `.ended`
    public func receiveLine() throws -> String {
        var seen = taken
        while true {
            if let end = received[seen...].firstIndex(of: 0x0A) {
                let line = String(decoding: received[taken..<end], as: UTF8.self)
                drop(end + 1 - taken)
                return line
            }
            seen = received.count
            let more = try receiveFresh(65_536)
            guard !more.isEmpty else { throw RawSocketError.ended }
            received.append(contentsOf: more)
        }
    }

    /// Receives all until the other side ends the connection.
    ///
    /// - Throws: `.timeout`
    public func receiveToEnd() throws -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let more = try receive()
            if more.isEmpty { return all }
            all.append(contentsOf: more)
        }
    }

    /// Receives one frame with its payload.
    ///
    /// - Throws: `.timeout`, `.ended`
    public func receiveFrame() throws -> TestFrame {
        var frame = TestFrame(header: try receive(exactly: TestFrame.headerSize))
        frame.payload = try receive(exactly: Int(frame.payloadSize))
        return frame
    }

    /// Whether the other side has ended the connection, and nothing is left to receive.
    public func isEnded() throws -> Bool {
        try receive(1).isEmpty
    }

    /// Whether bytes, or the end, are there to be received now.
    public var isReadable: Bool {
        if taken < received.count { return true }
        var state = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&state, 1, 0) > 0
    }
}
