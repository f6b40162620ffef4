// Accepts connections and hands each to the loop with the fewest. We accept ourselves rather than
// by uv_listen, because a connection's loop is chosen before libuv sees it, and because libuv spins
// when no descriptors are left.

import CLibuv
import CSmalloc
import Glibc
import Logging
import SmallocCore
import SmallocWire
import Synchronization

/// One listening socket, watched by the main loop.
final class Acceptor {
    /// Connections taken at one wake-up; more come with the next.
    private static let batch = 64
    /// How long accepting rests when there are no descriptors.
    private static let restMilliseconds: UInt64 = 50

    private let socket: ListeningSocket
    private let loops: [Loop]
    private let log: Logger
    private let limits: SharedLimits
    private let poll = allocateUV(uv_poll_t.self)
    private let timer = allocateUV(uv_timer_t.self)
    private var isClosed = false

    init(_ socket: ListeningSocket, loops: [Loop], limits: SharedLimits, log: Logger) {
        self.socket = socket
        self.loops = loops
        self.limits = limits
        self.log = log
        let me = Unmanaged.passUnretained(self).toOpaque()
        check(uv_poll_init(loops[0].uv, poll, socket.descriptor), "uv_poll_init")
        poll.pointee.data = me
        check(uv_timer_init(loops[0].uv, timer), "uv_timer_init")
        timer.pointee.data = me
        start()
    }

    /// Stops accepting and removes the socket file.
    func close() {
        guard !isClosed else { return }
        isClosed = true
        uv_poll_stop(poll)
        uv_close(UnsafeMutableRawPointer(poll).handle, nil)
        uv_close(UnsafeMutableRawPointer(timer).handle, nil)
        socket.close()
    }

    fileprivate func start() {
        guard !isClosed else { return }
        let result = uv_poll_start(poll, Int32(UV_READABLE.rawValue), acceptorReadable)
        guard result == 0 else { return rest(-result) }
        // Before libuv does, which ends the process where the kernel refuses.
        if !smalloc_register(uv_backend_fd(loops[0].uv), socket.descriptor) { rest(errno) }
    }

    fileprivate func accept() {
        for _ in 0..<Acceptor.batch {
            let descriptor = smalloc_accept(socket.descriptor)
            guard descriptor >= 0 else {
                switch errno {
                case EAGAIN: return
                case EINTR, ECONNABORTED: continue
                // What the network had against that one connection: accept(2), Error handling.
                case ENETDOWN, EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP,
                    ENETUNREACH:
                    continue
                default: return rest(errno)
                }
            }
            guard let owner = owner(of: descriptor) else { continue }
            assign(descriptor, owner: owner)
        }
    }

    /// The user that connected; nil: the kernel does not say, and the connection is closed.
    private func owner(of descriptor: Int32) -> UInt32? {
        guard socket.kind == .unix else { return Session.noOwner }
        var user: uid_t = 0
        if smalloc_peer_user(descriptor, &user) { return user }
        log.error(
            "refused a connection: its user is not known",
            metadata: ["errno": "\(errno)", "cause": "owner"])
        Glibc.close(descriptor)
        return nil
    }

    private func assign(_ descriptor: Int32, owner: UInt32) {
        let counts = loops.map { $0.connectionCount.load(ordering: .relaxed) }
        let total = counts.reduce(0, +)
        guard UInt64(total) < limits.connectionsMax else { return refuse(descriptor) }
        let index = counts.indices.min { counts[$0] < counts[$1] } ?? 0
        let loop = loops[index]
        loop.connectionCount.wrappingAdd(1, ordering: .relaxed)
        if socket.kind == .tcp { smalloc_watch_tcp(descriptor) }
        if index == 0 {
            loop.adopt(descriptor, socket.kind, owner: owner)
        } else if !loop.post(.adopt(descriptor, socket.kind, owner: owner)) {
            loop.connectionCount.wrappingSubtract(1, ordering: .relaxed)
            Glibc.close(descriptor)
        }
    }

    /// The mode is not known before the first byte, so it is said in text, which a binary client
    /// tells from a frame by its first byte.
    private func refuse(_ descriptor: Int32) {
        loops[0].context.counters.add(.connectionsRefused)
        log.notice("refused a connection: \(limits.connectionsMax) are open, as many as may be")
        let error = SmallocError(
            .connectionLimit, .error, "the daemon serves as many connections as it may")
        var line = "ERR \(error.status.name) \(error)\n"
        _ = line.withUTF8 { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        shutdown(descriptor, Int32(SHUT_WR))
        Glibc.close(descriptor)
    }

    /// No descriptors or no memory: watching on would spin, as the socket stays readable.
    private func rest(_ error: Int32) {
        log.error(
            "can't accept connections for now", metadata: ["errno": "\(error)", "cause": "accept"])
        uv_poll_stop(poll)
        uv_timer_start(timer, acceptorRested, Acceptor.restMilliseconds, 0)
    }
}

private func acceptor(of data: UnsafeMutableRawPointer?) -> Acceptor? {
    data.map { Unmanaged<Acceptor>.fromOpaque($0).takeUnretainedValue() }
}

private func acceptorReadable(
    _ handle: UnsafeMutablePointer<uv_poll_t>?, _ status: Int32, _ events: Int32
) {
    acceptor(of: handle?.pointee.data)?.accept()
}

private func acceptorRested(_ handle: UnsafeMutablePointer<uv_timer_t>?) {
    acceptor(of: handle?.pointee.data)?.start()
}
