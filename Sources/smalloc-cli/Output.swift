// Buffered output to files, pipes and terminals, and what goes wrong with those.

import Glibc

/// A file or a pipe that could not be used.
struct FileError: Error, CustomStringConvertible {
    /// What is wrong with it.
    let description: String

    /// What is wrong, in words.
    init(_ description: String) { self.description = description }

    /// What the system said.
    ///
    /// - Parameters:
    ///   - call: What was about to be done: `read`, `write`, `open`.
    ///   - number: The system's error number.
    init(call: String, number: Int32) {
        description = "can't \(call): \(String(cString: strerror(number)))"
    }
}

/// Buffered output to a descriptor.
final class Output {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private static let bufferSize = 1 << 16
    /// Zeros at the end that the file has no blocks for yet.
    private var hole = 0

    /// Standard output.
    nonisolated(unsafe) static let standard = Output(descriptor: 1)

    /// Writes to a descriptor, which stays open.
    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// Whether zeros may be left out of it: it is a file that ends where the next byte goes, and
    /// nothing is appended to it by others.
    private lazy var takesHoles: Bool = {
        var status = stat()
        let flags = fcntl(descriptor, F_GETFL)
        return fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && flags >= 0
            && flags & O_APPEND == 0 && lseek(descriptor, 0, SEEK_CUR) == status.st_size
    }()

    /// Whether it is a terminal.
    var isTerminal: Bool { isatty(descriptor) == 1 }

    /// Adds a text.
    func write(_ text: String) throws(FileError) {
        buffer += text.utf8
        // Errors are seen at once; the rest leaves in large pieces.
        if descriptor == 2 || buffer.count >= Output.bufferSize { try flushBuffer() }
    }

    /// Adds bytes; large ones are not copied.
    func write(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        if bytes.count < Output.bufferSize / 2 {
            buffer += bytes
            if buffer.count >= Output.bufferSize { try flushBuffer() }
            return
        }
        try flushBuffer()
        try writeAll(bytes)
    }

    /// Adds bytes of which many may be zeros: a file gets holes for those.
    func writeSparse(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        var done = 0
        while done < bytes.count {
            let run = zeroRun(in: bytes, from: done)
            let part = UnsafeRawBufferPointer(rebasing: bytes[done..<(done + run.size)])
            done += run.size
            guard run.isZero else {
                try write(part)
                continue
            }
            try flushBuffer()
            if takesHoles {
                hole += part.count
            } else {
                try writeAll(part)
            }
        }
    }

    /// Writes what has been added.
    func flush() throws(FileError) {
        try flushBuffer()
        guard hole > 0 else { return }
        // A hole at the end is no part of the file before the file has its size.
        let end = lseek(descriptor, off_t(hole), SEEK_CUR)
        guard end >= 0, ftruncate(descriptor, end) == 0 else {
            throw FileError(call: "write", number: errno)
        }
        hole = 0
    }

    private func flushBuffer() throws(FileError) {
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
        if hole > 0 {
            guard lseek(descriptor, off_t(hole), SEEK_CUR) >= 0 else {
                throw FileError(call: "write", number: errno)
            }
            hole = 0
        }
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

/// Bytes that are looked at for zeros together: less is not worth a request, or a hole.
let zeroRunSize = 64 << 10

/// The zeros, or the other bytes, that begin at a place.
///
/// - Parameters:
///   - bytes: Looked at in steps of `zeroRunSize` from `start` on.
///   - start: Less than their number.
/// - Returns: How many, and whether all of them are zeros.
func zeroRun(
    in bytes: UnsafeRawBufferPointer, from start: Int
) -> (size: Int, isZero: Bool) {
    func isZero(_ at: Int) -> Bool {
        let size = min(zeroRunSize, bytes.count - at)
        guard let base = bytes.baseAddress.map({ $0 + at }) else { return false }
        // The first byte is zero, and each one is as the one before it.
        return base.load(as: UInt8.self) == 0 && memcmp(base, base + 1, size - 1) == 0
    }
    let kind = isZero(start)
    var end = start + min(zeroRunSize, bytes.count - start)
    while end < bytes.count, isZero(end) == kind {
        end += min(zeroRunSize, bytes.count - end)
    }
    return (end - start, kind)
}
