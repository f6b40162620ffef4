// The sockets that the daemon listens at, from their creation to their end. libuv gets them as
// descriptors: its own binding cuts long paths, leaves a window of wrong permissions, and removes
// the socket file by name, even if it is another process's by then.

import CLibuv
import Glibc
import SmallocSystem
import SmallocWire

/// A bound and listening stream socket, non-blocking and close-on-exec.
///
/// Owns its descriptor and, at a Unix path, the socket file and the lock beside it. `close()` is to
/// be called once, at the end.
final class ListeningSocket: Sendable {
    /// What kind of socket it is.
    enum Kind: Sendable, Equatable {
        case unix
        case tcp
    }

    /// The descriptor.
    ///
    /// Watched by the main loop's acceptor.
    let descriptor: Int32
    /// Unix or TCP.
    let kind: Kind
    /// Where it listens, for the log: `unix:/run/smallocd/smallocd.sock`, `tcp:127.0.0.1:7000` with
    /// the port that was chosen, and whether it was handed over.
    let description: String
    private let file: UnixSocketFile?

    /// Connections that may wait to be accepted.
    ///
    /// The kernel caps it at `net.core.somaxconn`.
    static let backlog: Int32 = 4096

    init(descriptor: Int32, kind: Kind, description: String, file: UnixSocketFile? = nil) {
        self.descriptor = descriptor
        self.kind = kind
        self.description = description
        self.file = file
    }

    /// Listens at an address.
    ///
    /// - Parameters:
    ///   - address: A host may resolve to several addresses: each gets a socket, with the same port
    ///     also where port 0 asks for any.
    ///   - mode: Permission bits of a Unix socket.
    ///   - createsParent: Whether the folder of a Unix path is made (0700) if it is missing.
    ///   - served: Sockets that listen already. What they serve gets no socket.
    /// - Returns: The sockets that were made, none if all of the address is served.
    /// - Throws: A `StartFailure` that names the address; nothing stays open or on disk.
    static func open(
        _ address: Address, mode: UInt32, createsParent: Bool = false,
        beside served: [ListeningSocket] = []
    ) throws(StartFailure) -> [ListeningSocket] {
        switch address {
        case .unix(let path):
            if served.contains(where: { $0.serves(path: path) }) { return [] }
            return [try openUnix(path: path, mode: mode, createsParent: createsParent)]
        case .tcp(host: let host, port: let port):
            return try openTCP(host: host, port: port, beside: served)
        }
    }

    /// Listens at all addresses, or at none.
    ///
    /// - Parameters:
    ///   - settings: Addresses and socket mode.
    ///   - handedOver: Sockets that listen already. An address that one of them serves is served by
    ///     it alone.
    /// - Returns: The sockets that were made, in the order of the addresses, but those for all
    ///   addresses of the machine first: they serve the others with their port.
    /// - Throws: The first `StartFailure`, after the sockets opened before it are closed again.
    static func openAll(
        _ settings: Settings, beside handedOver: [ListeningSocket] = []
    ) throws(StartFailure) -> [ListeningSocket] {
        var sockets: [ListeningSocket] = []
        let addresses =
            settings.addresses.filter(isOfAll) + settings.addresses.filter { !isOfAll($0) }
        for address in addresses {
            do {
                sockets += try open(
                    address, mode: settings.socketMode, createsParent: settings.addressesAreDefault,
                    beside: handedOver + sockets)
            } catch {
                for socket in sockets { socket.close() }
                throw error
            }
        }
        return sockets
    }

    private static func isOfAll(_ address: Address) -> Bool {
        if case .tcp(host: let host, port: _) = address {
            return ["*", "0.0.0.0", "::"].contains(host)
        }
        return false
    }

    /// Stops listening; removes the socket file if it is still the one that was made here.
    func close() {
        // The file goes first: while the descriptor is open its inode number can't be used again.
        file?.remove()
        _ = Glibc.close(descriptor)
        file?.unlock()
    }
}

// MARK: - Unix

extension ListeningSocket {
    private static func openUnix(
        path: String, mode: UInt32, createsParent: Bool
    ) throws(StartFailure) -> ListeningSocket {
        try UnixAddress.check(path)
        guard var address = UnixAddress(path) else {
            throw .configuration("unix:\(path): not a path")
        }
        if createsParent { try createParent(of: path) }
        let file = try UnixSocketFile(path: path)
        let descriptor: Int32
        do {
            descriptor = try newSocket(AF_UNIX, "unix:\(path)")
        } catch {
            file.unlock()
            throw error
        }
        do throws(StartFailure) {
            // Bound with all other bits masked the file is born with its final mode: no moment in
            // which another user could connect. The mask belongs to the process, whose other
            // threads have nothing to do yet.
            let mask = umask(mode_t(~mode & 0o777))
            let result = address.withSocketAddress { Glibc.bind(descriptor, $0, $1) }
            let number = errno
            umask(mask)
            guard result == 0 else {
                throw StartFailure.system("unix:\(path): can't bind: \(reason(number))")
            }
            try file.adopt()
            guard listen(descriptor, backlog) == 0 else {
                throw StartFailure.system("unix:\(path): can't listen: \(reason(errno))")
            }
        } catch {
            file.remove()
            _ = Glibc.close(descriptor)
            file.unlock()
            throw error
        }
        return ListeningSocket(
            descriptor: descriptor, kind: .unix, description: "unix:\(path)", file: file)
    }

    private static func createParent(of path: String) throws(StartFailure) {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
        let folder = String(path[..<slash])
        guard mkdir(folder, 0o700) != 0, errno != EEXIST else { return }
        throw .system(
            "unix:\(path): can't create \(folder): \(reason(errno))"
                + " (--listen unix:PATH names another place)")
    }

    private static func newSocket(_ family: Int32, _ name: String) throws(StartFailure) -> Int32 {
        let flags =
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(family, flags, 0)
        guard descriptor >= 0 else { throw .system("\(name): no socket: \(reason(errno))") }
        return descriptor
    }
}

// MARK: - TCP

extension ListeningSocket {
    /// Asks what addresses a host has, without listening at any.
    ///
    /// - Parameters:
    ///   - host: A name, an address, or a star for every address of the machine.
    ///   - port: Put into the addresses.
    /// - Returns: IPv4 and IPv6 addresses.
    /// - Throws: A `StartFailure` if the host is unknown.
    static func resolve(host: String, port: UInt16) throws(StartFailure) -> [sockaddr_storage] {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(host == "*" ? nil : host, String(port), &hints, &list)
        guard result == 0 else {
            let why = result == EAI_SYSTEM ? reason(errno) : String(cString: gai_strerror(result))
            throw .unavailable(
                "\(Address.tcp(host: host, port: port)): can't resolve the host: \(why)")
        }
        defer { freeaddrinfo(list) }
        var addresses: [sockaddr_storage] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ai_next
            guard entry.ai_family == AF_INET || entry.ai_family == AF_INET6 else { continue }
            var storage = sockaddr_storage()
            memcpy(&storage, entry.ai_addr, Int(entry.ai_addrlen))
            addresses.append(storage)
        }
        return addresses
    }

    private static func openTCP(
        host: String, port: UInt16, beside served: [ListeningSocket]
    ) throws(StartFailure) -> [ListeningSocket] {
        let name = "\(Address.tcp(host: host, port: port))"
        var isServed = false
        var sockets: [ListeningSocket] = []
        var chosenPort = port
        for var address in try resolve(host: host, port: port) {
            setPort(chosenPort, in: &address)
            guard !(served + sockets).contains(where: { $0.serves(address) }) else {
                isServed = true
                continue
            }
            do {
                // A machine without IPv6 may still have an IPv6 address for localhost.
                guard let socket = try bound(address, name: name) else { continue }
                sockets.append(socket)
                chosenPort = boundPort(socket.descriptor) ?? chosenPort
            } catch {
                for socket in sockets { socket.close() }
                throw error
            }
        }
        guard isServed || !sockets.isEmpty else {
            throw .unavailable("\(name): no address of this host can be listened at here")
        }
        return sockets
    }

    /// One socket of a host's several; nil if the machine lacks the address family or the address.
    private static func bound(
        _ address: sockaddr_storage, name: String
    ) throws(StartFailure) -> ListeningSocket? {
        let isIPv6 = Int32(address.ss_family) == AF_INET6
        let flags =
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(Int32(address.ss_family), flags, 0)
        guard descriptor >= 0 else {
            if errno == EAFNOSUPPORT { return nil }
            throw .system("\(name): no socket: \(reason(errno))")
        }
        var on: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        // A restart must not wait for the old connections' last packets.
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, size)
        if isIPv6 {
            // Else :: would take IPv4's port too, and 0.0.0.0 be refused.
            setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &on, size)
        }
        let length = isIPv6 ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size
        let result = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(descriptor, $0, socklen_t(length))
            }
        }
        guard result == 0, listen(descriptor, backlog) == 0 else {
            let number = errno
            _ = Glibc.close(descriptor)
            switch number {
            case EADDRNOTAVAIL where isIPv6: return nil
            case EADDRINUSE:
                throw .unavailable("\(name): the port is in use (is smallocd already running?)")
            case EADDRNOTAVAIL:
                throw .unavailable("\(name): this machine does not have the address")
            default: throw .system("\(name): can't listen: \(reason(number))")
            }
        }
        return ListeningSocket(
            descriptor: descriptor, kind: .tcp,
            description: socketName(descriptor) ?? name)
    }
}

extension UnixAddress {
    /// Refuses a path that is too long to listen at.
    static func check(_ path: String) throws(StartFailure) {
        guard path.utf8.count > pathSizeMax else { return }
        throw .configuration(
            "unix:\(path): the path has \(path.utf8.count) bytes, a socket's path may have"
                + " \(pathSizeMax)")
    }
}
