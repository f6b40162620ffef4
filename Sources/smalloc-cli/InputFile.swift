// What a command reads: a file of any kind, to its end, whatever size the system tells of it.

import Glibc

/// A file, a pipe, or standard input for `-`; closed when it is released.
final class InputFile {
    /// As it was named, or `standard input`.
    let path: String
    private let descriptor: Int32
    private let isOwned: Bool
    /// Whether it has a position, and may have holes.
    private var mayHaveHoles: Bool

    /// Opens it.
    ///
    /// - Throws: `Failure` with a `FileError`, and the path.
    init(_ path: String) throws(Failure) {
        isOwned = path != "-"
        self.path = isOwned ? path : "standard input"
        if !isOwned, Stream.missing.contains(0) {
            throw Failure(self.path, FileError(call: "read", number: EBADF))
        }
        // Opening a FIFO waits for a program that writes to it.
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        descriptor = isOwned ? open(path, O_RDONLY | O_CLOEXEC) : 0
        guard descriptor >= 0 else { throw Failure(path, FileError(call: "open", number: errno)) }
        var status = stat()
        mayHaveHoles = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    deinit {
        if isOwned { close(descriptor) }
    }

    /// Bytes from here to the end, as far as the system tells; nil where it does not.
    ///
    /// A hint: a file may grow or shrink, and one of `/proc` tells nothing, or anything.
    var remaining: Int? {
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            return nil
        }
        guard status.st_size > 0 else { return nil }
        return max(0, Int(status.st_size) - max(0, Int(lseek(descriptor, 0, SEEK_CUR))))
    }

    /// Fills a buffer, unless the end comes first.
    ///
    /// - Returns: Bytes read, less than asked for only at the end.
    /// - Throws: `Failure` with the path.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(Failure) -> Int {
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        var filled = 0
        while filled < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            let count = Glibc.read(descriptor, rest.baseAddress, rest.count)
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                guard errno == EAGAIN else {
                    throw Failure(path, FileError(call: "read", number: errno))
                }
                var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                poll(&waiting, 1, -1)
                continue
            }
            filled += count
        }
        return filled
    }

    /// Goes over the hole that begins here, without reading its zeros.
    ///
    /// - Parameter most: Bytes to go over at the most.
    /// - Returns: How many they were, a multiple of 4,096; 0 where no hole begins, or none can be.
    func skipHole(atMost most: Int) -> Int {
        guard mayHaveHoles else { return 0 }
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        let here = lseek(descriptor, 0, SEEK_CUR)
        // Asked for before the search: what is appended meanwhile is no part of the hole.
        var status = stat()
        let isKnown = fstat(descriptor, &status) == 0
        var data = lseek(descriptor, here, InputFile.seekData)
        if data < 0 {
            guard here >= 0, errno == ENXIO, isKnown else {
                // A file system that does not know holes.
                mayHaveHoles = false
                return 0
            }
            // Nothing but a hole to the end that it had.
            data = status.st_size
        }
        let size = min(max(0, Int(data - here)), most) & ~4095
        // The search has moved it.
        _ = lseek(descriptor, here + off_t(size), SEEK_SET)
        return size
    }

    /// `SEEK_DATA`, which needs a macro of the C library's.
    private static let seekData: Int32 = 3

    /// Goes over bytes.
    ///
    /// - Throws: `Failure` with the path if there are not so many.
    func skip(_ count: Int) throws(Failure) {
        if let remaining, count <= remaining {
            _ = lseek(descriptor, off_t(count), SEEK_CUR)
            return
        }
        var left = count
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { block.deallocate() }
        while left > 0 {
            let wanted = min(left, block.count)
            let size = try read(into: UnsafeMutableRawBufferPointer(rebasing: block[..<wanted]))
            left -= size
            guard size == wanted else {
                throw Failure(
                    path, FileError("has \(count - left) bytes, and \(count) are to be skipped"))
            }
        }
    }
}
