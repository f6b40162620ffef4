// A file that a command writes: what it replaces stays as it is until the new one is whole.

import Glibc

/// A file, or standard output for `-`.
///
/// A regular file, or one that does not exist yet, is written beside its place, and takes it at the
/// end: whatever ends the command before leaves the old one. Its mode stays, and its owner and
/// group where the system allows. Devices, FIFOs, what `/dev/stdout` leads to, and files that
/// nothing can take the place of are written to as they are.
final class OutputFile {
    /// As it was named, or `standard output`.
    let path: String
    private let out: Output
    private let descriptor: Int32
    private let isOwned: Bool
    /// The place that it takes in the end; nil where it has been there from the start.
    private var target: String?
    /// Its name until then; nil: it has none, and is gone with the process.
    private var temporary: String?

    /// Opens it.
    ///
    /// - Throws: `Failure` with a `FileError`, and the path.
    init(_ path: String) throws(Failure) {
        isOwned = path != "-"
        self.path = isOwned ? path : "standard output"
        guard isOwned else {
            if Stream.missing.contains(1) {
                throw Failure(self.path, FileError(call: "write", number: EBADF))
            }
            descriptor = 1
            out = Output.standard
            return
        }
        // A disk may be slow, and opening a FIFO waits for a program that reads from it.
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        let place: Place
        do throws(FileError) { place = try Place(path) } catch { throw Failure(path, error) }
        guard let found = place.target else {
            descriptor =
                if let own = place.descriptor { fcntl(own, F_DUPFD_CLOEXEC, 3) } else {
                    open(path, O_WRONLY | O_TRUNC | O_CLOEXEC)
                }
            guard descriptor >= 0 else {
                throw Failure(path, FileError(call: "open", number: errno))
            }
            out = Output(descriptor: descriptor)
            return
        }
        let made: (descriptor: Int32, name: String?)
        do throws(FileError) { made = try makeTemporary(beside: found) } catch {
            throw Failure(path, error)
        }
        (descriptor, temporary, target) = (made.descriptor, made.name, found)
        out = Output(descriptor: descriptor)
        if let old = place.old {
            take(descriptor, ownerAndModeOf: old)
        } else if made.name != nil {
            let mask = umask(0)
            umask(mask)
            _ = fchmod(descriptor, 0o666 & ~mask)
        }
    }

    deinit {
        guard isOwned else { return }
        TimeLimit.paused {
            close(descriptor)
            if let temporary { unlink(temporary) }
        }
        Leftover.none()
    }

    /// Adds a text.
    func write(_ text: String) throws(Failure) {
        do throws(FileError) { try out.write(text) } catch { throw Failure(path, error) }
    }

    /// Adds bytes; a file gets holes for zeros.
    func write(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        do throws(FileError) { try out.writeSparse(bytes) } catch { throw Failure(path, error) }
    }

    /// Writes the rest, and puts it in its place.
    ///
    /// - Throws: `Failure` with the path; what was there is there still.
    func finish() throws(Failure) {
        // A slow disk may take longer for it than the daemon took for all the bytes.
        do throws(FileError) { try TimeLimit.paused(putInPlace) } catch {
            throw Failure(path, error)
        }
    }

    private func putInPlace() throws(FileError) {
        try out.flush()
        guard isOwned else { return }
        // Some file systems tell of a full disk only here.
        if fsync(descriptor) != 0, errno != EINVAL, errno != EROFS {
            throw FileError(call: "write", number: errno)
        }
        guard let target else { return }
        if temporary == nil { temporary = try name(descriptor, beside: target) }
        guard let made = temporary, rename(made, target) == 0 else {
            throw FileError(call: "rename it to its place", number: errno)
        }
        temporary = nil
        self.target = nil
    }
}

/// Makes a file belong to whom another one does, as far as the system allows, with its mode.
private func take(_ descriptor: Int32, ownerAndModeOf old: stat) {
    // First, as the system takes some bits of the mode away with it.
    if fchown(descriptor, old.st_uid, old.st_gid) != 0 {
        // Who can't give it to that owner may still be in that group.
        _ = fchown(descriptor, uid_t.max, old.st_gid)
    }
    var mode = old.st_mode & 0o7777
    var made = stat()
    // Nobody is to run it by the rights of others than before.
    if fstat(descriptor, &made) != 0 || made.st_uid != old.st_uid { mode &= ~S_ISUID }
    if made.st_gid != old.st_gid { mode &= ~S_ISGID }
    _ = fchmod(descriptor, mode)
}

/// Where a file is to be, behind all links.
private struct Place {
    /// Its path; nil: what is there is to be written to as it is.
    var target: String?
    /// What is there; nil: nothing yet.
    var old: stat?
    /// The descriptor of this process that it is, as `/dev/stdout` is; what was written to it
    /// before stays.
    var descriptor: Int32?

    init(_ path: String) throws(FileError) {
        guard !path.isEmpty else { throw FileError(call: "open", number: ENOENT) }
        var target = path
        // As many as the system follows.
        for _ in 0..<40 {
            var status = stat()
            guard lstat(target, &status) == 0 else {
                guard errno == ENOENT, !target.hasSuffix("/") else {
                    throw FileError(call: "open", number: errno)
                }
                self.target = target
                return
            }
            // What a process has open is nothing that can be replaced.
            if isOfSystem(folder(of: target)) {
                descriptor = own(target)
                if let own = descriptor, Stream.missing.contains(own) {
                    throw FileError(call: "open", number: EBADF)
                }
                return
            }
            switch status.st_mode & S_IFMT {
            case S_IFREG:
                guard faccessat(AT_FDCWD, target, W_OK, AT_EACCESS) == 0 else {
                    throw FileError(call: "open", number: errno)
                }
                if canReplace(target, status) { (self.target, old) = (target, status) }
                return
            case S_IFLNK:
                let link = try read(link: target)
                target = link.hasPrefix("/") ? link : folder(of: target) + "/" + link
            default: return
            }
        }
        throw FileError(call: "open", number: ELOOP)
    }

    /// Whether another file can take the place of one: else that would be told when all bytes have
    /// come.
    private func canReplace(_ path: String, _ status: stat) -> Bool {
        let parent = folder(of: path)
        var around = Glibc.stat()
        guard faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) == 0, stat(parent, &around) == 0
        else { return false }
        // In a folder as /tmp a file goes only by its owner, or the folder's.
        let mayRemove = [0, status.st_uid, around.st_uid].contains(geteuid())
        guard around.st_mode & S_ISVTX == 0 || mayRemove else { return false }
        return mount(of: path) == mount(of: parent)
    }

    /// The number of the mount that a file is in; nil where the system does not tell.
    private func mount(of path: String) -> Int? {
        // `O_PATH`, which needs a macro of the C library's.
        let file = open(path, 0o10_000_000 | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        let info = open("/proc/self/fdinfo/\(file)", O_RDONLY | O_CLOEXEC)
        guard info >= 0 else { return nil }
        defer { close(info) }
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = Glibc.read(info, &bytes, bytes.count)
        guard count > 0 else { return nil }
        let lines = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
        let words = lines.map { $0.split { $0.isWhitespace } }
        return words.first { $0.first == "mnt_id:" }?.last.flatMap { Int($0) }
    }

    private func read(link path: String) throws(FileError) -> String {
        var characters = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &characters, characters.count)
        guard count >= 0 else { throw FileError(call: "open", number: errno) }
        return String(decoding: characters[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private func own(_ path: String) -> Int32? {
        guard let real = realpath(folder(of: path), nil) else { return nil }
        defer { free(real) }
        guard String(cString: real) == "/proc/\(getpid())/fd" else { return nil }
        return path.split(separator: "/").last.flatMap { Int32($0) }
    }

    /// Whether the files of a folder are the kernel's.
    private func isOfSystem(_ folder: String) -> Bool {
        var here = stat()
        guard stat(folder, &here) == 0 else { return false }
        return ["/proc", "/sys"].contains { root in
            var there = stat()
            return stat(root, &there) == 0 && there.st_dev == here.st_dev
        }
    }
}

private func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}

/// A new file beside another one.
///
/// - Returns: Its descriptor, and its name if it has one already. Without one nothing is left of it
///   when the process is killed.
private func makeTemporary(
    beside path: String
) throws(FileError) -> (descriptor: Int32, name: String?) {
    // By this a file without a name gets one later.
    if access("/proc/self/fd", X_OK) == 0 {
        // `O_TMPFILE`, which needs a macro of the C library's.
        let withoutName: Int32 = 0o20_000_000 | O_DIRECTORY
        let descriptor = open(folder(of: path), O_WRONLY | O_CLOEXEC | withoutName, 0o666)
        if descriptor >= 0 { return (descriptor, nil) }
        guard [EOPNOTSUPP, EISDIR, EINVAL].contains(errno) else { throw refusal(errno) }
    }
    for _ in 0..<100 {
        let name = temporaryName(beside: path)
        let descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        if descriptor >= 0 {
            Leftover.is(name)
            return (descriptor, name)
        }
        guard errno == EEXIST else { break }
    }
    throw refusal(errno)
}

/// Why there can't be a file in a folder.
private func refusal(_ number: Int32) -> FileError {
    let isMissing = number == ENOENT || number == ENOTDIR
    return FileError(call: isMissing ? "open" : "make a file in its folder", number: number)
}

/// Gives a file without a name one.
private func name(_ descriptor: Int32, beside path: String) throws(FileError) -> String {
    for _ in 0..<100 {
        let name = temporaryName(beside: path)
        let source = "/proc/self/fd/\(descriptor)"
        if linkat(AT_FDCWD, source, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0 { return name }
        guard errno == EEXIST else { break }
    }
    throw FileError(call: "name it", number: errno)
}

private func temporaryName(beside path: String) -> String {
    let name = path.split(separator: "/").last.map(String.init) ?? ""
    let mark = String(UInt32.random(in: .min ... .max), radix: 36)
    // A name's bytes are limited in number.
    let start = String(decoding: name.utf8.prefix(100), as: UTF8.self)
    return "\(folder(of: path))/.\(start).\(mark)"
}

/// The file that is to be removed if a signal ends the tool before it is whole.
enum Leftover {
    nonisolated(unsafe) private static var path: UnsafeMutablePointer<CChar>?

    /// There is one.
    static func `is`(_ name: String) {
        path = strdup(name)
        for number in [SIGINT, SIGTERM, SIGHUP] {
            var action = sigaction()
            var before = sigaction()
            action.__sigaction_handler.sa_handler = { number in
                Leftover.remove()
                raise(number)
            }
            action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND) | UInt32(SA_NODEFER))
            sigaction(number, nil, &before)
            // A background job of a shell ignores some.
            if before.isDefault { sigaction(number, &action, nil) }
        }
    }

    /// There is none any more.
    static func none() { path = nil }

    /// Removes it; may be called by a handler of a signal.
    static func remove() {
        if let path { unlink(path) }
    }
}

extension sigaction {
    /// Whether the signal does what it does by itself.
    var isDefault: Bool {
        withUnsafeBytes(of: __sigaction_handler) { $0.load(as: UInt.self) } == 0
    }
}
