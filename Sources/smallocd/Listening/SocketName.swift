// What a socket is, asked of the socket: family, address, port. And the check of sockets that
// another process opened.

import CLibuv
import Glibc
import SmallocWire

/// The address a socket is bound to, with its size; nil if it is no socket.
func boundAddress(_ descriptor: Int32) -> (storage: sockaddr_storage, size: socklen_t)? {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            getsockname(descriptor, $0, &size)
        }
    }
    return result == 0 ? (storage, size) : nil
}

/// The address a socket is bound to, as a connection string; nil for other families.
func socketName(_ descriptor: Int32) -> String? {
    guard let (storage, size) = boundAddress(descriptor) else { return nil }
    switch Int32(storage.ss_family) {
    case AF_UNIX:
        return withUnsafeBytes(of: storage) { bytes in
            let path = bytes[unixHead..<max(unixHead, min(bytes.count, Int(size)))]
            if path.isEmpty { return "unix:(unnamed)" }
            if path.first == 0 { return "unix:@" + escaped(path.dropFirst()) }
            return "unix:" + String(decoding: path.prefix { $0 != 0 }, as: UTF8.self)
        }
    case AF_INET, AF_INET6:
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let found = withUnsafePointer(to: storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getnameinfo($0, size, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST)
            }
        }
        guard found == 0, let port = boundPort(descriptor) else { return nil }
        let text = String(
            decoding: host.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        return "\(Address.tcp(host: text, port: port))"
    default:
        return nil
    }
}

/// The path of a Unix socket in the file system; nil for other sockets.
func boundPath(_ descriptor: Int32) -> String? {
    guard let (storage, size) = boundAddress(descriptor), Int32(storage.ss_family) == AF_UNIX,
        Int(size) > unixHead
    else { return nil }
    return withUnsafeBytes(of: storage) { bytes in
        let path = bytes[unixHead..<min(bytes.count, Int(size))].prefix { $0 != 0 }
        return path.isEmpty ? nil : String(validating: path, as: UTF8.self)
    }
}

/// Bytes before the path in the address of a Unix socket.
private let unixHead = MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? 2

/// The TCP port a socket is bound to, 1 to 65535; nil for other kinds.
func boundPort(_ descriptor: Int32) -> UInt16? {
    boundAddress(descriptor).flatMap { port(of: $0.storage) }
}

/// The port in an IPv4 or IPv6 address; nil for other families.
func port(of storage: sockaddr_storage) -> UInt16? {
    let family = Int32(storage.ss_family)
    guard family == AF_INET || family == AF_INET6 else { return nil }
    // sin_port and sin6_port lie at the same place: after the family.
    return withUnsafeBytes(of: storage) { bytes in
        UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
    }
}

/// Puts a port into an IPv4 or IPv6 address.
func setPort(_ port: UInt16, in storage: inout sockaddr_storage) {
    withUnsafeMutableBytes(of: &storage) { bytes in
        bytes.storeBytes(of: port.bigEndian, toByteOffset: 2, as: UInt16.self)
    }
}

extension ListeningSocket {
    /// Takes over a socket that the service manager opened, after a look at what it is.
    ///
    /// - Parameters:
    ///   - descriptor: Becomes close-on-exec and non-blocking.
    ///   - name: From `LISTEN_FDNAMES`, for the log; may be empty.
    /// - Throws: A `StartFailure` if it is no listening stream socket over Unix, IPv4 or IPv6.
    convenience init(activated descriptor: Int32, name: String) throws(StartFailure) {
        let label = "activated descriptor \(descriptor)" + (name.isEmpty ? "" : " (\(name))")
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw .configuration("\(label): \(reason(errno))")
        }
        guard status.st_mode & S_IFMT == S_IFSOCK,
            socketOption(descriptor, SO_TYPE) == Int32(SOCK_STREAM.rawValue)
        else { throw .configuration("\(label): not a stream socket") }
        guard socketOption(descriptor, SO_ACCEPTCONN) == 1 else {
            throw .configuration("\(label): not listening (Accept=no is needed in the socket unit)")
        }
        let kind: Kind
        switch socketOption(descriptor, SO_DOMAIN) {
        case AF_UNIX: kind = .unix
        case AF_INET, AF_INET6: kind = .tcp
        default: throw .configuration("\(label): neither a Unix nor a TCP socket")
        }
        let flags = fcntl(descriptor, F_GETFL)
        guard fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0,
            fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0
        else { throw .system("\(label): \(reason(errno))") }
        let place = socketName(descriptor) ?? label
        let giver = name.isEmpty ? "activated" : "activated as \(singleLine(name))"
        self.init(descriptor: descriptor, kind: kind, description: "\(place) (\(giver))")
    }
}

/// An option of a socket that is a number; nil if it has none such.
func socketOption(
    _ descriptor: Int32, _ option: Int32, level: Int32 = SOL_SOCKET
) -> Int32? {
    var value: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    return getsockopt(descriptor, level, option, &value, &size) == 0 ? value : nil
}
