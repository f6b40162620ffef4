// Descriptors that come over a Unix socket.

internal import CSmalloc
internal import Glibc

/// Receives bytes, and the descriptors that come with them, close-on-exec, as `recv` does.
///
/// - Parameters:
///   - flags: Those of `recv`.
///   - descriptors: Those that came are appended; they are the caller's.
/// - Returns: Bytes; 0 at the end; -1 and `errno`, which is `EMFILE` where the system has dropped
///   descriptors, as the process may open no more.
public func receive(
    on socket: Int32, into room: UnsafeMutableRawBufferPointer, flags: Int32,
    appending descriptors: inout [Int32]
) -> Int {
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: Int(SMALLOC_RECEIVED_MAX)) { list in
        guard let start = room.baseAddress, let first = list.baseAddress else { return 0 }
        var count = 0
        let size = smalloc_receive_descriptors(
            socket, start, room.count, flags, first, list.count, &count)
        // What errno says must outlive what follows.
        let number = errno
        if count > 0 { descriptors += list[..<count] }
        errno = number
        return size
    }
}
