// An address that is served is not bound again.

import Glibc
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import smallocd

private let machine = Machine(memorySize: 1 << 30, cores: 1, descriptorsMax: 1024)

private func open(
    _ addresses: [String], beside handedOver: [ListeningSocket] = []
) throws -> [String] {
    var settings = Settings.standard(machine: machine, runtimeDirectory: nil)
    settings.addresses = try addresses.map { try #require(Address($0)) }
    settings.addressesAreDefault = false
    let sockets = try ListeningSocket.openAll(settings, beside: handedOver)
    defer { for socket in sockets { socket.close() } }
    return sockets.map(\.description)
}

/// A socket as the service manager hands it over.
private func handedOver(_ bind: (Int32) -> Int32, _ family: Int32) throws -> ListeningSocket {
    let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
    try #require(bind(descriptor) == 0 && listen(descriptor, 5) == 0)
    return try ListeningSocket(activated: descriptor, name: "")
}

private func handedOver(path: String) throws -> ListeningSocket {
    var address = try #require(UnixAddress(path))
    return try handedOver({ one in address.withSocketAddress { bind(one, $0, $1) } }, AF_UNIX)
}

/// Listens at an address of IPv4 or IPv6 and any port, the latter for both families, as systemd's
/// sockets do.
private func handedOver(host: String) throws -> (ListeningSocket, port: UInt16) {
    var address = try #require(try ListeningSocket.resolve(host: host, port: 0).first)
    let family = host.contains(":") ? AF_INET6 : AF_INET
    let size = family == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
    let bindIt = { (descriptor: Int32) in
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(size))
            }
        }
    }
    let socket = try handedOver(bindIt, family)
    return (socket, try #require(boundPort(socket.descriptor)))
}

// Serialized: binding sets the process' umask for a moment.
@Suite("Served addresses", .serialized, .timed)
struct ServedAddressTests {
    @Test("a Unix path that was handed over is not bound again, whatever leads to it")
    func unix() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s"
        let socket = try handedOver(path: path)
        defer { socket.close() }
        symlink(folder.path, folder.path + "/link")
        let others = [folder.path + "/link/s", folder.path + "/./s", folder.path + "//s"]
        for same in [path] + others {
            #expect(try open(["unix:\(same)"], beside: [socket]) == [])
        }
        #expect(
            try open(["unix:\(path)", "unix:\(path)2"], beside: [socket]) == ["unix:\(path)2"])
        // Another socket's path is refused as ever.
        #expect(throws: StartFailure.self) { try open(["unix:\(path)"]) }
        #expect(access(path, F_OK) == 0)
        // Whatever stood there, the address is the manager's.
        unlink(path)
        #expect(try open(["unix:\(path)"], beside: [socket]) == [])
    }

    @Test("a TCP address that was handed over is not bound again, also under another word")
    func tcp() throws {
        let (socket, port) = try handedOver(host: "127.0.0.1")
        defer { socket.close() }
        #expect(try open(["tcp:127.0.0.1:\(port)"], beside: [socket]) == [])
        let local = try open(["tcp:localhost:\(port)"], beside: [socket])
        #expect(!local.contains("tcp:127.0.0.1:\(port)"))
        let other = try open(["tcp:127.0.0.2:\(port)"], beside: [socket])
        #expect(other == ["tcp:127.0.0.2:\(port)"])
        #expect(try open(["tcp:127.0.0.1:0"], beside: [socket]).count == 1)
    }

    @Test(
        "a handed-over socket of all addresses serves each of them", arguments: ["0.0.0.0", "::"])
    func all(host: String) throws {
        let (socket, port) = try handedOver(host: host)
        defer { socket.close() }
        #expect(try open(["tcp:127.0.0.1:\(port)"], beside: [socket]) == [])
        #expect(try open(["tcp:0.0.0.0:\(port)"], beside: [socket]) == [])
        if host == "::" {
            for word in ["*", "localhost", "[::1]", "[::]"] {
                #expect(try open(["tcp:\(word):\(port)"], beside: [socket]) == [], "\(word)")
            }
        }
    }

    @Test("two words of the configuration for one address are served once")
    func words() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s"
        #expect(try open(["unix:\(path)", "unix:\(folder.path)/./s"]) == ["unix:\(path)"])
        let (socket, port) = try handedOver(host: "127.0.0.1")
        socket.close()
        let local = "tcp:127.0.0.1:\(port)"
        #expect(try open([local, "tcp:localhost:\(port)"]).filter { $0 == local }.count == 1)
        for words in [[local, "tcp:*:\(port)"], ["tcp:*:\(port)", local]] {
            #expect(try open(words).first == "tcp:0.0.0.0:\(port)")
        }
    }
}
