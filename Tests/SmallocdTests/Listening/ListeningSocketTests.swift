import Glibc
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import smallocd

private func inode(_ path: String) -> UInt64? {
    var status = stat()
    return lstat(path, &status) == 0 ? UInt64(status.st_ino) : nil
}

private func mode(_ path: String) -> UInt32 {
    var status = stat()
    return lstat(path, &status) == 0 ? UInt32(status.st_mode & 0o7777) : 0
}

private func connects(_ path: String) -> Bool {
    guard var address = UnixAddress(path) else { return false }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    return address.withSocketAddress { connect(descriptor, $0, $1) } == 0
}

private func listenAt(_ path: String, mode: UInt32 = 0o600) throws -> ListeningSocket {
    try #require(try ListeningSocket.open(.unix(path: path), mode: mode).first)
}

private func failure(_ path: String) -> StartFailure? {
    #expect(throws: StartFailure.self) { try listenAt(path) }
}

/// Leaves a socket file behind that nobody listens at, as a killed daemon does.
private func leaveStaleSocket(_ path: String) throws {
    var address = try #require(UnixAddress(path))
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    try #require(address.withSocketAddress { bind(descriptor, $0, $1) } == 0)
    close(descriptor)
}

// Serialized: binding sets the process' umask for a moment.
@Suite("Listening socket", .timed, .serialized)
struct ListeningSocketTests {
    @Test(
        "a Unix socket is born with its mode, and goes with its lock",
        arguments: [0o600, 0o660, 0o777])
    func lifeTime(bits: UInt32) throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        let socket = try listenAt(path, mode: bits)
        #expect(mode(path) == bits)
        #expect(mode(path + ".lock") == 0o600)
        #expect(socket.kind == .unix)
        #expect(socket.description == "unix:\(path)")
        #expect(connects(path))
        #expect(fcntl(socket.descriptor, F_GETFD) & FD_CLOEXEC != 0)
        #expect(fcntl(socket.descriptor, F_GETFL) & O_NONBLOCK != 0)
        socket.close()
        #expect(inode(path) == nil)
        #expect(inode(path + ".lock") == nil)
    }

    @Test("a stale socket is replaced, with and without its lock file")
    func stale() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        for hasLock in [false, true] {
            try leaveStaleSocket(path)
            if hasLock { folder.write("", to: "s.sock.lock") }
            let socket = try listenAt(path)
            #expect(connects(path))
            socket.close()
        }
    }

    @Test("a live socket is refused and stays reachable, locked or not")
    func live() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        let first = try listenAt(path)
        let locked = try #require(failure(path))
        #expect(locked.exitCode == 69)
        #expect(locked.message == "unix:\(path): already running (\(path).lock is locked)")
        // Somebody removed the lock, or another program listens there.
        unlink(path + ".lock")
        let answered = try #require(failure(path))
        #expect(answered.message == "unix:\(path): already running (something answers there)")
        #expect(connects(path))
        first.close()
    }

    @Test("an older instance that stops does not remove a newer one's socket or lock")
    func olderInstance() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        let older = try listenAt(path)
        unlink(path)
        unlink(path + ".lock")
        let newer = try listenAt(path)
        older.close()
        #expect(connects(path))
        #expect(inode(path + ".lock") != nil)
        newer.close()
        #expect(inode(path) == nil)
    }

    @Test(
        "what is not a socket is left as it is",
        arguments: [
            "file", "folder", "link to a file", "link to a socket", "dangling link", "pipe",
        ]
    )
    func notASocket(kind: String) throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        switch kind {
        case "file": folder.write("precious", to: "s.sock")
        case "folder": mkdir(path, 0o755)
        case "pipe": mkfifo(path, 0o600)
        case "link to a file": symlink(folder.write("precious", to: "target"), path)
        case "link to a socket":
            try leaveStaleSocket(folder.path + "/other.sock")
            symlink(folder.path + "/other.sock", path)
        default: symlink(folder.path + "/nothing", path)
        }
        let before = inode(path)
        #expect(
            failure(path)
                == .system("unix:\(path): exists and is not a socket; it was left as it is"))
        #expect(inode(path) == before)
        #expect(inode(path + ".lock") == nil)
        if kind == "link to a socket" { #expect(inode(folder.path + "/other.sock") != nil) }
    }

    @Test("another user's socket is left as it is", .enabled(if: geteuid() == 0))
    func othersSocket() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        try leaveStaleSocket(path)
        #expect(chown(path, 65534, 65534) == 0)
        #expect(failure(path) == .system("unix:\(path): a socket of user 65534 is there"))
        #expect(inode(path) != nil)
    }

    @Test("a lock that is a link is not followed")
    func lockLink() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        symlink(folder.path + "/victim", path + ".lock")
        #expect(failure(path)?.exitCode == 71)
        #expect(inode(folder.path + "/victim") == nil)
    }

    @Test("a lock that is no regular file is refused and left as it is")
    func lockKinds() throws {
        for kind in ["pipe", "folder", "socket"] {
            let folder = TemporaryFolder()
            let path = folder.path + "/s.sock"
            switch kind {
            case "pipe": mkfifo(path + ".lock", 0o600)
            case "folder": mkdir(path + ".lock", 0o700)
            default: try leaveStaleSocket(path + ".lock")
            }
            let before = inode(path + ".lock")
            let found = try #require(failure(path))
            #expect(found.exitCode == 71, "\(kind)")
            if kind == "pipe" {
                #expect(
                    found.message == "unix:\(path): \(path).lock is not a lock file of this user")
            }
            #expect(inode(path + ".lock") == before, "\(kind)")
            #expect(inode(path) == nil, "\(kind)")
        }
    }

    @Test("another user's lock is refused and left as it is", .enabled(if: geteuid() == 0))
    func othersLock() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        folder.write("", to: "s.sock.lock")
        #expect(chown(path + ".lock", 65534, 65534) == 0)
        #expect(
            failure(path)
                == .system("unix:\(path): \(path).lock is not a lock file of this user"))
        #expect(inode(path + ".lock") != nil)
        #expect(inode(path) == nil)
    }

    @Test("without a descriptor for the socket the lock is given back")
    func noDescriptor() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/s.sock"
        // The lowest free descriptor is for the lock, and then there is none.
        let free = dup(0)
        close(free)
        var limit = rlimit()
        let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        try #require(free > 2 && getrlimit(kind, &limit) == 0)
        var low = limit
        low.rlim_cur = rlim_t(free + 1)
        setrlimit(kind, &low)
        let found = #expect(throws: StartFailure.self) { try listenAt(path) }
        setrlimit(kind, &limit)
        #expect(found?.message == "unix:\(path): no socket: Too many open files")
        #expect(inode(path + ".lock") == nil)
        try listenAt(path).close()
    }

    @Test("a look at a socket whose path is no address leaves no descriptor open")
    func probeOfLongPath() throws {
        let folder = TemporaryFolder()
        let deep = folder.path + "/" + String(repeating: "x", count: 120)
        try #require(mkdir(deep, 0o700) == 0)
        try leaveStaleSocket(folder.path + "/s")
        try #require(rename(folder.path + "/s", deep + "/s") == 0)
        func descriptors() -> Int { (0..<1024).count { fcntl($0, F_GETFD) >= 0 } }
        let before = descriptors()
        for _ in 0..<20 {
            let found = #expect(throws: StartFailure.self) { try UnixSocketFile(path: deep + "/s") }
            #expect(found?.message == "unix:\(deep)/s: not a path")
        }
        #expect(descriptors() == before)
    }

    @Test("a path of 107 bytes works, one of 108 is refused")
    func longPaths() throws {
        let folder = TemporaryFolder()
        let stem = folder.path + "/"
        let longest = stem + String(repeating: "x", count: 107 - stem.utf8.count)
        let socket = try listenAt(longest)
        #expect(connects(longest))
        socket.close()
        #expect(
            failure(longest + "y")
                == .configuration(
                    "unix:\(longest)y: the path has 108 bytes, a socket's path may have 107"))
        #expect(inode(longest) == nil)
    }

    @Test("only the default path gets its folder made, for this user alone")
    func parent() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/made/s.sock"
        #expect(failure(path)?.exitCode == 71)
        let sockets = try ListeningSocket.open(
            .unix(path: path), mode: 0o600, createsParent: true)
        #expect(mode(folder.path + "/made") == 0o700)
        for socket in sockets { socket.close() }
    }

    @Test("of several addresses all are open, or none")
    func allOrNone() throws {
        let folder = TemporaryFolder()
        var settings = Settings.standard(
            machine: Machine(memorySize: 1 << 30, cores: 1, descriptorsMax: 1024),
            runtimeDirectory: nil)
        let (good, bad) = (folder.path + "/good", folder.path + "/bad")
        settings.addresses = [.unix(path: good), .unix(path: bad)]
        settings.addressesAreDefault = false
        folder.write("", to: "bad")
        #expect(throws: StartFailure.self) { try ListeningSocket.openAll(settings) }
        #expect(inode(good) == nil)
        unlink(bad)
        let sockets = try ListeningSocket.openAll(settings)
        #expect(sockets.map(\.description) == ["unix:\(good)", "unix:\(bad)"])
        for socket in sockets { socket.close() }
    }

    @Test("port 0 takes a free port and tells it; the port then is in use")
    func tcp() throws {
        let sockets = try ListeningSocket.open(.tcp(host: "127.0.0.1", port: 0), mode: 0)
        let socket = try #require(sockets.first)
        #expect(sockets.count == 1)
        #expect(socket.kind == .tcp)
        let port = try #require(boundPort(socket.descriptor))
        #expect(port != 0)
        #expect(socket.description == "tcp:127.0.0.1:\(port)")
        #expect(
            throws: StartFailure.unavailable(
                "tcp:127.0.0.1:\(port): the port is in use (is smallocd already running?)")
        ) { try ListeningSocket.open(.tcp(host: "127.0.0.1", port: port), mode: 0) }
        socket.close()
    }

    @Test(
        "a host with several addresses listens at one port on all of them",
        arguments: ["*", "localhost"])
    func allAddresses(host: String) throws {
        let sockets = try ListeningSocket.open(.tcp(host: host, port: 0), mode: 0)
        #expect(!sockets.isEmpty)
        #expect(Set(sockets.map { boundPort($0.descriptor) }).count == 1)
        #expect(Set(sockets.map(\.description)).count == sockets.count)
        for socket in sockets { socket.close() }
    }

    @Test("a host that isn't there, or isn't ours, is one clear line")
    func wrongHosts() {
        for host in ["no-such-host.invalid", "192.0.2.1"] {
            let found = #expect(throws: StartFailure.self) {
                try ListeningSocket.open(.tcp(host: host, port: 0), mode: 0)
            }
            #expect(found?.exitCode == 69)
            #expect(found?.message.hasPrefix("tcp:\(host):0: ") == true)
        }
    }
}
