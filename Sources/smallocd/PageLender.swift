// How pages get into a Unix socket without a copy: through a pipe, since only what a pipe holds can
// be spliced into a socket.

import CSmalloc
import Glibc

/// A loop's way to send memory without a copy.
///
/// The socket then holds the pages, not what was in them: until the other side has read them it may
/// find what was written since. Whoever lends sends the last `tailSize` bytes of an answer by a
/// copy, and so knows from their leaving that all before them was read.
final class PageLender {
    /// What came of it.
    enum Outcome: Equatable {
        /// So many bytes have left.
        case lent(Int)
        /// The socket takes nothing at the moment.
        case full
        /// The kernel refuses it, for this socket or for all.
        case refused
    }

    /// Pages that the kernel puts into one message of a Unix socket.
    private static let messagePages = 16
    /// Bytes of the kernel's own for a message, and some to spare.
    private static let messageOverhead = 1024
    /// A send buffer with less room than that is not worth it: Linux gives 212,992 bytes.
    private static let bufferSizeMin = 128 << 10

    let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
    /// Bytes that are lent in one go at least, a message's; and of each buffer full those that are
    /// left to be copied.
    ///
    /// Lent pages are in no cache of the processor that reads them out of the socket, and whoever
    /// sends them has nothing to do meanwhile. So he copies some: measured with 64 MiB at once,
    /// 1.25 times as fast as if he copied none, and 1.3 to 1.4 times as if he copied all.
    var stepSize: Int { PageLender.messagePages * pageSize }

    // The two ends; -1 if there is no pipe.
    private var input: Int32 = -1
    private var output: Int32 = -1
    private var capacity = 0
    /// The kernel has refused for good.
    private var isRefused = false

    deinit { closePipe() }

    /// Bytes at the end of an answer that have to be copied, so that when they have left none of
    /// its pages is in the socket any more.
    ///
    /// A socket takes a message, of less than half its buffer's size, while its queue is below that
    /// size. It hands out in order: had it still a page when it takes the last of so many bytes,
    /// all of these would be in its queue.
    ///
    /// - Returns: Nil: nothing can be lent to this socket.
    func tailSize(_ socket: Int32) -> Int? {
        guard !isRefused, let size = PageLender.bufferSize(socket),
            size >= PageLender.bufferSizeMin
        else { return nil }
        return size + size / 2
    }

    /// Sends pages of memory.
    ///
    /// - Parameters:
    ///   - bytes: Whole pages; what the socket has no room for is left.
    ///   - socket: A Unix socket, non-blocking, with nothing queued elsewhere.
    func lend(_ bytes: UnsafeRawBufferPointer, to socket: Int32) -> Outcome {
        guard !isRefused, let bufferSize = PageLender.bufferSize(socket) else { return .refused }
        let unread = Int(smalloc_unread_size(socket))
        guard unread >= 0 else { return .refused }
        let room = bufferSize - stepSize - unread
        guard room > 0 else { return .full }
        guard openPipe() else { return .refused }
        // The last message may be larger than what is left.
        let messages = (room - 1) / (stepSize + PageLender.messageOverhead) + 1
        let size = min(bytes.count, messages * stepSize, capacity)
        let taken = smalloc_lend_to_pipe(input, bytes.baseAddress, size)
        guard taken > 0 else { return refusal(errno) }
        var sent = 0
        while sent < taken {
            let count = smalloc_pipe_to_socket(output, socket, taken - sent)
            guard count > 0 else {
                let reason = count < 0 ? errno : EAGAIN
                // What it still holds is not for the next socket.
                closePipe()
                return sent > 0 ? .lent(sent) : refusal(reason)
            }
            sent += count
        }
        return .lent(sent)
    }

    private func refusal(_ reason: Int32) -> Outcome {
        switch reason {
        case EAGAIN, EINTR: return .full
        // Of this socket, or of the moment.
        case EPIPE, ECONNRESET, ENOTCONN, ENOMEM, ENOBUFS, EFAULT: return .refused
        // An older kernel, or a filter of system calls.
        default:
            isRefused = true
            return .refused
        }
    }

    private static func bufferSize(_ socket: Int32) -> Int? {
        var size: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, &length) == 0 else { return nil }
        return Int(size)
    }

    // MARK: The pipe

    private func openPipe() -> Bool {
        if input >= 0 { return true }
        var ends: [Int32] = [-1, -1]
        // As much as a socket takes.
        let size = smalloc_pipe(&ends, Int32(4 * stepSize))
        (output, input) = (ends[0], ends[1])
        capacity = Int(size) / stepSize * stepSize
        if size > 0, capacity > 0 { return true }
        closePipe()
        return false
    }

    private func closePipe() {
        guard input >= 0 else { return }
        close(input)
        close(output)
        (input, output) = (-1, -1)
    }
}
