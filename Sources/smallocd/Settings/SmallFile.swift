// Reading a whole small file, with the system's own reason where that fails.

import CLibuv
import Glibc

/// Reads a regular file (or one of /proc and /sys) whole.
///
/// - Parameters:
///   - path: The file.
///   - sizeMax: Bytes it may have.
/// - Returns: Its bytes.
/// - Throws: What stood in the way, as a clause without the path.
func readFile(_ path: String, sizeMax: Int) throws(InvalidValue) -> [UInt8] {
    // Opening a named pipe must not wait for its other end.
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { throw InvalidValue(reason: reason(errno)) }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { throw InvalidValue(reason: reason(errno)) }
    guard status.st_mode & S_IFMT == S_IFREG else {
        throw InvalidValue(reason: "not a regular file")
    }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16384)
    while true {
        let count = read(file, &chunk, chunk.count)
        if count < 0 {
            if errno == EINTR { continue }
            throw InvalidValue(reason: reason(errno))
        }
        if count == 0 { return bytes }
        guard bytes.count + count <= sizeMax else {
            throw InvalidValue(reason: "larger than \(sizeMax) bytes")
        }
        bytes += chunk[..<count]
    }
}

/// The system's sentence for an error number, such as "Permission denied".
func reason(_ number: Int32) -> String {
    // Safe on any thread since glibc 2.32.
    String(cString: strerror(number))
}
