import Glibc

/// Two connected Unix sockets, non-blocking, closed with this.
final class SocketPair {
    let ours: Int32
    private(set) var theirs: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        let kind = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
        precondition(socketpair(AF_UNIX, Int32(kind), 0, &ends) == 0)
        (ours, theirs) = (ends[0], ends[1])
    }

    deinit {
        close(ours)
        closeTheirs()
    }

    func closeTheirs() {
        if theirs >= 0 { close(theirs) }
        theirs = -1
    }

    /// What there is to be received, up to a number of bytes.
    func receive(_ most: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: most) { buffer, count in
            count = max(0, recv(theirs, buffer.baseAddress, most, 0))
        }
    }

    /// Sends a copy of what the socket takes.
    ///
    /// - Returns: Bytes that it took.
    func send(_ bytes: UnsafeRawBufferPointer) -> Int {
        max(0, Glibc.send(ours, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)))
    }
}
