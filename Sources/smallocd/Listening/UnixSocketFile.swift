// The file of a Unix socket and the lock beside it. Two daemons may start at once, one may have
// been killed or be stopping still, and the file may be something else. So only the daemon that
// holds the lock replaces or removes the file, and only if it is a socket of the daemon's own user.

import CLibuv
import Glibc
import SmallocCore
import SmallocSystem

/// A path at which this process alone may have its socket.
final class UnixSocketFile: Sendable {
    private let path: String
    private let lockPath: String
    private let lock: Int32
    private let identity = Locked<FileIdentity?>(nil)

    /// Locks a path and clears it of a socket that no process listens at.
    ///
    /// - Parameter path: May exist only as a socket of this user that refuses connections.
    /// - Throws: A `StartFailure`: "already running", or what is in the way.
    init(path: String) throws(StartFailure) {
        self.path = path
        lockPath = path + ".lock"
        lock = try UnixSocketFile.acquire(lockPath, for: path)
        do {
            try UnixSocketFile.clear(path)
        } catch {
            UnixSocketFile.release(lock, lockPath)
            throw error
        }
    }

    /// Remembers the socket just bound there as ours.
    func adopt() throws(StartFailure) {
        guard let found = FileIdentity(path: path), found.isSocket else {
            throw .system("unix:\(path): the socket was replaced while it was made")
        }
        identity.withLock { $0 = found }
    }

    /// Removes the socket, if what is there is still the one that was adopted.
    ///
    /// To be called while its descriptor is open: until then its inode number can't be given to
    /// another file.
    func remove() {
        identity.withLock { identity in
            if let ours = identity, FileIdentity(path: path) == ours {
                unlink(path)
            }
            identity = nil
        }
    }

    /// Gives the path free for others.
    ///
    /// To be called last, and once.
    func unlock() {
        UnixSocketFile.release(lock, lockPath)
    }

    /// Opens and locks the lock file.
    ///
    /// It may vanish in between, as its holder removes it when it leaves; the lock counts only if
    /// the file is still the one at the path.
    private static func acquire(_ lockPath: String, for path: String) throws(StartFailure) -> Int32
    {
        for _ in 0..<1000 {
            let file = open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
            guard file >= 0 else {
                throw .system("unix:\(path): can't open \(lockPath): \(reason(errno))")
            }
            guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
                let number = errno
                close(file)
                if number == EINTR { continue }
                guard number == EWOULDBLOCK else {
                    throw .system("unix:\(path): can't lock \(lockPath): \(reason(number))")
                }
                throw .unavailable("unix:\(path): already running (\(lockPath) is locked)")
            }
            let opened = FileIdentity(descriptor: file)
            if let opened, opened == FileIdentity(path: lockPath) {
                guard opened.isRegular, opened.owner == geteuid() else {
                    close(file)
                    throw .system("unix:\(path): \(lockPath) is not a lock file of this user")
                }
                return file
            }
            close(file)
        }
        throw .unavailable("unix:\(path): \(lockPath) is taken again and again")
    }

    private static func release(_ lock: Int32, _ lockPath: String) {
        if let held = FileIdentity(descriptor: lock), held == FileIdentity(path: lockPath) {
            unlink(lockPath)
        }
        close(lock)
    }

    /// Removes a dead socket of ours.
    ///
    /// Symbolic links are not followed: a link is not a socket.
    private static func clear(_ path: String) throws(StartFailure) {
        guard let found = FileIdentity(path: path) else {
            guard errno == ENOENT else {
                throw .system("unix:\(path): \(reason(errno))")
            }
            return
        }
        guard found.isSocket else {
            throw .system("unix:\(path): exists and is not a socket; it was left as it is")
        }
        guard found.owner == geteuid() else {
            throw .system("unix:\(path): a socket of user \(found.owner) is there")
        }
        try probe(path)
        // Still the same one, and not something that was put there meanwhile.
        guard FileIdentity(path: path) == found, unlink(path) == 0 || errno == ENOENT else {
            throw .system("unix:\(path): can't remove the stale socket: \(reason(errno))")
        }
    }

    /// Returns if no process listens at the path, throws if one does or may.
    private static func probe(_ path: String) throws(StartFailure) {
        guard var address = UnixAddress(path) else {
            throw .configuration("unix:\(path): not a path")
        }
        let flags =
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, flags, 0)
        guard descriptor >= 0 else {
            throw .system("unix:\(path): no socket: \(reason(errno))")
        }
        defer { close(descriptor) }
        let result = address.withSocketAddress { connect(descriptor, $0, $1) }
        switch result == 0 ? 0 : errno {
        case ECONNREFUSED, ENOENT: return
        case 0, EAGAIN, EINPROGRESS:
            throw .unavailable("unix:\(path): already running (something answers there)")
        case let number:
            throw .unavailable(
                "unix:\(path): a socket is there, and whether it is in use can't be told: "
                    + reason(number))
        }
    }
}

/// Which file it is, whatever its name.
private struct FileIdentity: Equatable {
    private let device: UInt64
    private let inode: UInt64
    private let kind: mode_t
    let owner: uid_t

    var isSocket: Bool { kind == S_IFSOCK }
    var isRegular: Bool { kind == S_IFREG }

    /// The file at a path, a link itself and not what it leads to; nil with `errno` set.
    init?(path: String) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        self.init(status)
    }

    /// The file behind a descriptor.
    init?(descriptor: Int32) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return nil }
        self.init(status)
    }

    private init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        kind = status.st_mode & S_IFMT
        owner = status.st_uid
    }
}
