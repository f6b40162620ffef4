// How a peer's bytes travel: a connected socket behind a few verbs. Something else can stand in its
// place later, which changes bytes on their way, as TLS does.

import CLibuv
import CSmalloc
import Glibc

/// A connected byte stream of one loop.
///
/// Memory of the libuv handle lives until the close callback: libuv keeps its address.
struct Transport {
    /// What `send` found.
    enum Sent {
        /// So many bytes were taken, perhaps none: the socket is full where it is not all.
        case taken(Int)
        case failed
    }

    /// What `send` with descriptors found.
    enum Passed {
        /// So many bytes were taken, perhaps none, and the descriptors if it is not none.
        case taken(Int)
        /// This user has too many descriptors under way.
        case refused
        case failed
    }

    let handle: UnsafeMutableRawPointer
    /// Which kind of socket it is: libuv knows.
    var kind: ListeningSocket.Kind {
        handle.handle.pointee.type == UV_NAMED_PIPE ? .unix : .tcp
    }

    /// Whether what is read may go straight to where it belongs.
    var receivesInPlace: Bool { true }
    /// Whether descriptors can travel with the bytes.
    var passesDescriptors: Bool { kind == .unix }
    /// Whether a close takes what was sent away from a reader that has left input unread here.
    var losesSentAtClose: Bool { kind != .unix }

    /// Takes over a connected descriptor.
    ///
    /// Nil: the system or libuv refuses; the descriptor is still the caller's.
    init?(
        _ loop: UnsafeMutablePointer<uv_loop_t>, _ descriptor: Int32, _ kind: ListeningSocket.Kind
    ) {
        let size = kind == .unix ? MemoryLayout<uv_pipe_t>.size : MemoryLayout<uv_tcp_t>.size
        guard let memory = smalloc_allocate(size) else { return nil }
        handle = memory
        let opened: Int32
        if kind == .unix {
            // ipc 0: descriptors that a peer sends along are dropped by the kernel.
            uv_pipe_init(loop, handle.pipe, 0)
            opened = uv_pipe_open(handle.pipe, descriptor)
        } else {
            uv_tcp_init(loop, handle.tcp)
            opened = uv_tcp_open(handle.tcp, descriptor)
            if opened == 0 { uv_tcp_nodelay(handle.tcp, 1) }
        }
        handle.handle.pointee.data = nil
        guard opened == 0 else {
            // Initialised handles must be closed; nothing else looks at this one any more.
            uv_close(handle.handle, transportHandleFree)
            return nil
        }
    }

    /// The socket; -1 once it is closed.
    var descriptor: Int32 {
        var descriptor: Int32 = -1
        uv_fileno(handle.handle, &descriptor)
        return descriptor
    }

    /// Sends as much as the socket takes at once.
    ///
    /// Not while a queued write is under way.
    func send(_ views: UnsafePointer<uv_buf_t>, _ count: Int) -> Sent {
        let written = uv_try_write(handle.stream, views, UInt32(count))
        if written == UVError.again { return .taken(0) }
        return written < 0 ? .failed : .taken(Int(written))
    }

    /// Sends as much as the socket takes at once, with descriptors before or at the first byte.
    ///
    /// Not while a queued write is under way. The descriptors stay the caller's.
    func send(_ bytes: UnsafeRawBufferPointer, passing descriptors: (Int32, Int32)) -> Passed {
        // A client that receives nothing could hold all descriptors that may be under way.
        var view = iovec(
            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        let count = descriptors.1 < 0 ? 1 : 2
        let sent = withUnsafeBytes(of: descriptors) { pair in
            smalloc_send_descriptors(
                descriptor, &view, 1, pair.assumingMemoryBound(to: Int32.self).baseAddress!, count)
        }
        if sent >= 0 { return .taken(sent) }
        switch errno {
        case EAGAIN, ENOBUFS: return .taken(0)
        case ETOOMANYREFS: return .refused
        default: return .failed
        }
    }

    /// Whether the other side has received all that was sent.
    var isAllReceived: Bool { smalloc_unread_size(descriptor) == 0 }

    /// Leaves bytes to libuv; `peerWrote` follows.
    ///
    /// - Returns: False: it is broken, and the request is still the caller's.
    func queue(_ request: WriteRequest) -> Bool {
        var buffer = uv_buf_t(request.bytes)
        guard register() else { return false }
        return uv_write(request.uv, handle.stream, &buffer, 1, peerWrote) == 0
    }

    /// Has `peerAllocate` and `peerRead` called for what arrives.
    ///
    /// - Returns: False: it is broken, or the system can't watch it.
    func startReading() -> Bool {
        register() && uv_read_start(handle.stream, peerAllocate, peerRead) == 0
    }

    /// Has the kernel watch the socket before libuv asks for it, which ends the process where the
    /// kernel refuses.
    private func register() -> Bool {
        smalloc_register(uv_backend_fd(handle.handle.pointee.loop), descriptor)
    }

    /// Whether the other side is gone altogether, and takes no reply any more.
    ///
    /// Cost: a system call.
    var isGone: Bool {
        var look = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&look, 1, 0) > 0
    }

    func stopReading() { uv_read_stop(handle.stream) }

    /// No more output.
    func shutdownOutput() -> Bool { shutdown(descriptor, Int32(SHUT_WR)) == 0 }

    /// Ends it; queued writes end before `peerClosed`, after which `free` is due.
    func close() { uv_close(handle.handle, peerClosed) }

    func free() { Glibc.free(handle) }
}

extension uv_buf_t {
    init(_ bytes: UnsafeRawBufferPointer) {
        self.init(
            base: UnsafeMutableRawPointer(mutating: bytes.baseAddress)?
                .assumingMemoryBound(to: CChar.self), len: bytes.count)
    }
}

private func transportHandleFree(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
    Glibc.free(UnsafeMutableRawPointer(handle))
}
