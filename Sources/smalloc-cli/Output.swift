// Files, pipes and terminals: whole reads and writes, and what went wrong with them.

import Glibc

/// A file or a pipe that could not be used.
struct FileError: Error, CustomStringConvertible {
    /// What it was about to do: `read`, `write`, `open`.
    let call: String
    /// The system's error number.
    let number: Int32

    var description: String { "can't \(call): \(String(cString: strerror(number)))" }
}

/// Buffered output to a descriptor.
final class Output {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private static let bufferSize = 1 << 16

    /// Standard output.
    nonisolated(unsafe) static let standard = Output(descriptor: 1)

    /// Writes to a descriptor, which stays open.
    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// Whether it is a terminal.
    var isTerminal: Bool { isatty(descriptor) == 1 }

    /// Adds a text.
    func write(_ text: String) throws(FileError) {
        buffer += text.utf8
        // Errors are seen at once; the rest leaves in large pieces.
        if descriptor == 2 || buffer.count >= Output.bufferSize { try flush() }
    }

    /// Adds bytes; large ones are not copied.
    func write(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        if bytes.count < Output.bufferSize / 2 {
            buffer += bytes
            if buffer.count >= Output.bufferSize { try flush() }
            return
        }
        try flush()
        try writeAll(bytes)
    }

    /// Writes what has been added.
    func flush() throws(FileError) {
        guard !buffer.isEmpty else { return }
        defer { buffer.removeAll(keepingCapacity: true) }
        var failure: FileError?
        buffer.withUnsafeBytes { bytes in
            do throws(FileError) { try writeAll(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private func writeAll(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        if Stream.missing.contains(descriptor) { throw FileError(call: "write", number: EBADF) }
        // How long a reader of ours takes is not the daemon's fault.
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        var rest = bytes
        while !rest.isEmpty {
            let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
            if count < 0 {
                if errno == EINTR { continue }
                guard errno == EAGAIN else { throw FileError(call: "write", number: errno) }
                var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&waiting, 1, -1)
                continue
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
}

/// A file, or standard input or output for `-`, closed when it is released.
final class ByteFile {
    /// The descriptor.
    let descriptor: Int32
    private let isOwned: Bool

    /// Opens a file for reading.
    init(reading path: String) throws(FileError) {
        isOwned = path != "-"
        if !isOwned, Stream.missing.contains(0) { throw FileError(call: "read", number: EBADF) }
        // Opening a FIFO waits for a program that writes to it.
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        descriptor = isOwned ? open(path, O_RDONLY | O_CLOEXEC) : 0
        guard descriptor >= 0 else { throw FileError(call: "open", number: errno) }
    }

    /// Opens a file for writing; what was in it is gone.
    init(writing path: String) throws(FileError) {
        isOwned = path != "-"
        if !isOwned, Stream.missing.contains(1) { throw FileError(call: "write", number: EBADF) }
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        descriptor = isOwned ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666) : 1
        guard descriptor >= 0 else { throw FileError(call: "open", number: errno) }
    }

    deinit {
        if isOwned { close(descriptor) }
    }

    /// Bytes from here to the end of a regular file; nil for pipes and the like.
    var remaining: Int? {
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            return nil
        }
        let position = lseek(descriptor, 0, SEEK_CUR)
        return max(0, Int(status.st_size) - max(0, Int(position)))
    }

    /// Fills a buffer, unless the end comes first.
    ///
    /// - Returns: Bytes read, less than asked for only at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
        let left = TimeLimit.pause()
        defer { TimeLimit.resume(left) }
        var filled = 0
        while filled < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            let count = Glibc.read(descriptor, rest.baseAddress, rest.count)
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                guard errno == EAGAIN else { throw FileError(call: "read", number: errno) }
                var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                poll(&waiting, 1, -1)
                continue
            }
            filled += count
        }
        return filled
    }

    /// Makes sure that what was written arrived: some file systems tell of a full disk only here.
    func finish() throws(FileError) {
        guard isOwned, fsync(descriptor) != 0, errno != EINVAL, errno != EROFS else { return }
        throw FileError(call: "write", number: errno)
    }
}
