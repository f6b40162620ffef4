import Glibc

/// Where a server listens.
enum Address {
    case unix(String)
    case tcp(port: Int)

    /// A listening port that nobody has now.
    static func freeTCP() throws -> Address {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, size) == 0 && getsockname(fd, $0, &size) == 0
            }
        }
        guard bound else { throw BenchError.last("bind") }
        return .tcp(port: Int(UInt16(bigEndian: address.sin_port)))
    }

    /// Calls `body` with the address in the system's form.
    func withSocketAddress<Result>(
        _ body: (UnsafePointer<sockaddr>, socklen_t, _ family: Int32) throws -> Result
    ) rethrows -> Result {
        switch self {
        case .unix(let path):
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { place in
                place.copyBytes(from: Array(path.utf8.prefix(place.count - 1)))
            }
            let size = socklen_t(MemoryLayout<sockaddr_un>.size)
            return try withUnsafePointer(to: &address) {
                try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    try body($0, size, AF_UNIX)
                }
            }
        case .tcp(let port):
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = in_port_t(port).bigEndian
            address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
            let size = socklen_t(MemoryLayout<sockaddr_in>.size)
            return try withUnsafePointer(to: &address) {
                try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    try body($0, size, AF_INET)
                }
            }
        }
    }
}

private let INADDR_LOOPBACK: in_addr_t = 0x7f00_0001

/// A blocking connection, for everything but the measured exchanges: greeting, making allocations,
/// opening handles, looking afterwards at what was written.
final class Wire {
    let fd: Int32
    let dialect: any Dialect
    /// Bytes that one system call moves at most: a kernel may let nobody else have the processor
    /// until the call is over, whatever priority he has.
    var callSizeMax = Int.max

    /// Replies are waited for this long, in seconds.
    private static let patience = 120

    /// Connects, and greets unless told not to.
    init(to address: Address, speaking dialect: any Dialect, greeting: Bool = true) throws {
        self.dialect = dialect
        fd = try address.withSocketAddress { raw, size, family in
            let fd = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            guard fd >= 0 else { throw BenchError.last("socket") }
            guard connect(fd, raw, size) == 0 else {
                let error = BenchError.last("connect")
                close(fd)
                throw error
            }
            if family == AF_INET {
                var on: Int32 = 1
                setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
            }
            var wait = timeval(tv_sec: Self.patience, tv_usec: 0)
            let waitSize = socklen_t(MemoryLayout<timeval>.size)
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, waitSize)
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, waitSize)
            return fd
        }
        guard greeting else { return }
        if let smalloc = dialect as? SmallocDialect { try greet(smalloc) }
        if let disk = dialect as? NBDDialect {
            try disk.greet(
                send: { bytes in
                    var bytes = bytes
                    try bytes.withUnsafeMutableBytes {
                        try send(iovec(iov_base: $0.baseAddress, iov_len: $0.count))
                    }
                },
                receive: { count in
                    var bytes = [UInt8](repeating: 0, count: count)
                    try bytes.withUnsafeMutableBytes {
                        if let base = $0.baseAddress { try receive(base, count) }
                    }
                    return bytes
                })
        }
    }

    deinit { close(fd) }

    func setNonBlocking() {
        _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)
    }

    /// Sends what `render` appends and compares what comes back, byte for byte.
    func exchange(_ pattern: Pattern, _ render: (inout BatchBuilder) -> Void) throws {
        var builder = BatchBuilder(pattern)
        render(&builder)
        let arena = Arena()
        let batch = builder.finish(jobs: 1, in: arena)
        try withExtendedLifetime(arena) { try exchange(batch) }
    }

    func exchange(_ batch: Batch) throws {
        for index in 0..<batch.requestCount { try send(batch.request[index]) }
        let size = 1 << 20
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        defer { buffer.deallocate() }
        var at = 0
        for index in 0..<batch.replyCount {
            var expected = batch.reply[index]
            while expected.iov_len > 0 {
                let count = min(size, expected.iov_len)
                try receive(buffer, count)
                guard let base = expected.iov_base, memcmp(buffer, base, count) == 0 else {
                    throw wrongReply(at: at, expected: expected, received: buffer, count: count)
                }
                expected = iovec(iov_base: base + count, iov_len: expected.iov_len - count)
                at += count
            }
        }
    }

    /// Makes a target and fills it with its content.
    ///
    /// By handle where there are handles, so that a value as large as a frame may be goes into one.
    func makeFilled(_ target: Target, size: Int, _ pattern: Pattern) throws {
        guard dialect is SmallocDialect else {
            return try exchange(pattern) { dialect.createFilled(target, size: size, &$0) }
        }
        try exchange(pattern) { dialect.create(target, size: size, &$0) }
        let opened = try open([target])[0]
        try exchange(pattern) { dialect.write(opened, size: size, &$0) }
    }

    /// Opens targets of a smalloc daemon on this connection, which gives them handles.
    func open(_ targets: [Target]) throws -> [Target] {
        guard let smalloc = dialect as? SmallocDialect else { return targets }
        var opened: [Target] = []
        let size = SmallocDialect.headerSize
        let header = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
        defer { header.deallocate() }
        for start in stride(from: 0, to: targets.count, by: 256) {
            let some = targets[start..<min(start + 256, targets.count)]
            var bytes = ByteBuilder()
            for target in some { smalloc.open(target, &bytes) }
            try send(iovec(iov_base: bytes.base, iov_len: bytes.count))
            for var target in some {
                try receive(header, size)
                let status = header.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
                target.handle = header.loadUnaligned(fromByteOffset: 16, as: UInt32.self)
                guard status == 0, target.handle != 0 else {
                    throw BenchError.setup("open failed with status \(status)")
                }
                opened.append(target)
            }
        }
        return opened
    }

    private func greet(_ smalloc: SmallocDialect) throws {
        var bytes = ByteBuilder()
        smalloc.hello(&bytes)
        try send(iovec(iov_base: bytes.base, iov_len: bytes.count))
        let size = SmallocDialect.headerSize
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 8)
        defer { buffer.deallocate() }
        try receive(buffer, size)
        let status = buffer.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
        let payload = Int(buffer.loadUnaligned(fromByteOffset: 20, as: UInt32.self))
        guard buffer.load(as: UInt8.self) == 0xe6, status == 0, payload <= 4096 else {
            throw BenchError.setup("hello was answered with status \(status)")
        }
        try receive(buffer, payload)
    }

    func send(_ bytes: iovec) throws {
        var sent = 0
        while sent < bytes.iov_len {
            let left = min(callSizeMax, bytes.iov_len - sent)
            let count = Glibc.write(fd, bytes.iov_base + sent, left)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw BenchError.last("write") }
            sent += count
        }
    }

    func receive(_ place: UnsafeMutableRawPointer, _ size: Int) throws {
        var received = 0
        while received < size {
            let left = min(callSizeMax, size - received)
            let count = Glibc.read(fd, place + received, left)
            if count < 0 && errno == EINTR { continue }
            if count == 0 { throw BenchError.closed }
            guard count > 0 else { throw BenchError.last("read") }
            received += count
        }
    }
}

/// Describes the first difference between what was expected and what came.
func wrongReply(
    at offset: Int, expected: iovec, received: UnsafeRawPointer, count: Int
) -> BenchError {
    func hex(_ bytes: UnsafeRawPointer, _ range: Range<Int>) -> String {
        range.map { index in
            let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
            return (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }
    guard let base = expected.iov_base else { return .closed }
    let differs = (0..<count).first {
        received.load(fromByteOffset: $0, as: UInt8.self)
            != base.load(fromByteOffset: $0, as: UInt8.self)
    }
    let from = max(0, (differs ?? 0) - 8)
    let range = from..<min(from + 48, count)
    return .wrongReply(
        at: offset + (differs ?? 0), expected: hex(base, range), received: hex(received, range))
}
