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
    /// A socket that pages may be lent to.
    struct Borrower {
        let socket: Int32
        /// Of its buffer.
        let bufferSize: Int
        /// Bytes at the end of an answer that have to be copied, so that when they have left none
        /// of its pages is in the socket any more.
        ///
        /// A socket takes a message, of less than half its buffer's size, while its queue is below
        /// that size. It hands out in order: had it still a page when it takes the last of so many
        /// bytes, all of these would be in its queue.
        var tailSize: Int { bufferSize + bufferSize / 2 }
    }

    /// What came of it.
    enum Outcome: Equatable {
        /// So many bytes have left.
        case lent(Int)
        /// The socket takes nothing at the moment.
        case full
        /// The kernel refuses it, now or for good.
        case refused
    }

    /// Before, the kernel waited for whoever was reading from the socket, who may be waiting for a
    /// page of his own: a loop would have stood still for as long.
    static let oldestKernel = KernelRelease(6, 5)
    /// Bytes of the kernel's own for a message, and some to spare.
    private static let messageOverhead = 1024

    let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
    /// Bytes of a message, which are lent at once; and of each buffer full those that are left to
    /// be copied.
    ///
    /// Lent pages are in no cache of the processor that reads them out of the socket, and whoever
    /// sends them has nothing to do meanwhile. So some is copied: with 64 MiB at once that was 1.25
    /// times as fast as lending all, and 1.3 to 1.4 times as copying all.
    let stepSize: Int

    // The two ends; -1 if there is no pipe.
    private var input: Int32 = -1
    private var output: Int32 = -1
    private var capacity = 0
    /// The kernel has refused for good.
    private var isRefused = false

    /// Nil: this kernel is too old.
    init?(kernel: KernelRelease? = .current) {
        guard let kernel, kernel >= PageLender.oldestKernel else { return nil }
        stepSize = max(pageSize, 65_536)
        // Now: when there are as many connections as can be there may be no descriptors left.
        _ = openPipe()
    }

    deinit { closePipe() }

    /// Gets to know a Unix socket; nil: nothing can be lent to it, ever.
    func borrower(_ socket: Int32) -> Borrower? {
        guard let bufferSize = PageLender.bufferSize(socket), bufferSize >= 2 * stepSize else {
            return nil
        }
        return Borrower(socket: socket, bufferSize: bufferSize)
    }

    /// Bytes that can be lent now; 0: what the socket has must be read first; nil: nothing can be
    /// lent.
    func room(_ borrower: Borrower) -> Int? {
        guard !isRefused, openPipe() else { return nil }
        let unread = Int(smalloc_unread_size(borrower.socket))
        guard unread >= 0 else { return nil }
        let free = borrower.bufferSize - stepSize - unread
        // The last message may be larger than what is left.
        let messages = free > 0 ? (free - 1) / (stepSize + PageLender.messageOverhead) + 1 : 0
        return messages * stepSize
    }

    /// Sends pages of memory.
    ///
    /// - Parameters:
    ///   - bytes: Whole pages, for which the socket has room.
    ///   - socket: A Unix socket, non-blocking, with nothing queued elsewhere.
    func lend(_ bytes: UnsafeRawBufferPointer, to socket: Int32) -> Outcome {
        guard openPipe() else { return .refused }
        let taken = smalloc_lend_to_pipe(input, bytes.baseAddress, min(bytes.count, capacity))
        guard taken > 0 else { return refusal(errno) }
        var sent = 0
        while sent < taken {
            let count = smalloc_pipe_to_socket(output, socket, min(taken - sent, stepSize))
            guard count > 0 else {
                let reason = count < 0 ? errno : EAGAIN
                // What it still holds is not for the next socket.
                closePipe()
                _ = openPipe()
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
        // A filter of system calls, or a kernel without them.
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
        capacity = Int(size) / pageSize * pageSize
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
