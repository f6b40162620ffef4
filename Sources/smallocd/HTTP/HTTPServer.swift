// The HTTP listener: a thread of libmicrohttpd's that answers monitoring, beside the loops and
// never on the port of the data.

import CMicroHTTPD
import Glibc
import SmallocCore
import SmallocSystem
import SmallocWire
import Synchronization

/// Serves one listening socket, for reading only.
///
/// Its methods are the main thread's. What clients can make it take is limited: connections, memory
/// for each, and the time from one answer to the next.
final class HTTPServer: @unchecked Sendable {
    /// Connections at once; more wait to be accepted.
    static let connectionsMax = 64
    /// Of these, those that may be there before the one which has been silent longest is ended: so
    /// clients that are slow on purpose keep no other from an answer.
    private static let crowd = 48
    /// Descriptors that it takes: those, its listening socket with the lock of its file, a wake-up,
    /// and what a document reads.
    static let descriptorsMax = connectionsMax + 6
    /// Bytes of a connection for what it receives and for headers.
    private static let memorySize = 32 << 10
    /// Seconds that a connection may be silent.
    private static let silentSeconds: UInt32 = 10
    /// Nanoseconds in which a request must be whole and its answer taken.
    private static let requestTime: UInt64 = 15_000_000_000

    private let socket: ListeningSocket
    private let answers: HTTPAnswers
    private var daemon: OpaquePointer?

    /// A connection, and when it is over unless an answer was taken before.
    private struct Open: Sendable {
        let descriptor: Int32
        var deadline: UInt64
    }

    private let open = Locked<[Open]>([])

    /// - Parameters:
    ///   - socket: Listening already.
    ///   - tellsNames: Whether names may be told; over a Unix socket they are in any case.
    init(_ socket: ListeningSocket, _ registry: Registry, tellsNames: Bool) {
        self.socket = socket
        answers = HTTPAnswers(
            HTTPDocuments(registry, tellsNames: tellsNames || socket.kind == .unix),
            port: socket.kind == .tcp ? boundPort(socket.descriptor) : nil)
        open.withLock { $0.reserveCapacity(HTTPServer.connectionsMax) }
    }

    /// Begins to serve.
    ///
    /// - Throws: A `StartFailure` if the system refuses it; the socket is closed then.
    func start() throws(StartFailure) {
        daemon = smalloc_http_start(
            smalloc_http_options(
                listener: socket.descriptor, connections: UInt32(HTTPServer.connectionsMax),
                connections_of_address: UInt32(HTTPServer.connectionsMax),
                memory_size: HTTPServer.memorySize, timeout_seconds: HTTPServer.silentSeconds,
                answer: httpAsked, connection: httpConnected, completed: httpAnswered,
                context: Unmanaged.passUnretained(self).toOpaque()))
        guard daemon == nil else { return }
        socket.close()
        throw .system("\(socket.description): HTTP can't be served: \(reason(errno))")
    }

    /// Where it listens, for the log.
    var description: String { socket.description }

    /// Takes no more connections, as the daemon stops; those that are open are told so.
    func close() {
        guard let daemon, !answers.isStopping.load(ordering: .relaxed) else { return }
        answers.isStopping.store(true, ordering: .relaxed)
        // The socket is ours again, and its file with it.
        _ = MHD_quiesce_daemon(daemon)
        socket.close()
    }

    /// Ends the thread, and all connections.
    ///
    /// After `close`.
    func stop() {
        if let daemon { MHD_stop_daemon(daemon) }
        daemon = nil
    }

    /// Ends connections that have taken too long for a request.
    func expire() {
        let now = Clock.now
        open.withLock { open in
            // Closed by its own thread, which notices the end.
            for one in open where one.deadline <= now {
                shutdown(one.descriptor, Int32(SHUT_RDWR))
            }
        }
    }

    // MARK: On its thread

    fileprivate func asked(
        _ connection: OpaquePointer, _ path: String, _ method: String
    ) -> MHD_Result { answers.answer(connection, path, method) }

    fileprivate func connected(_ connection: OpaquePointer, isOver: Bool) {
        let descriptor = smalloc_http_descriptor(connection)
        open.withLock { open in
            open.removeAll { $0.descriptor == descriptor }
            guard !isOver else { return }
            if open.count >= HTTPServer.crowd,
                let oldest = open.indices.min(by: { open[$0].deadline < open[$1].deadline })
            {
                // Closed by its own thread, as in `expire`. It is the first to go once.
                shutdown(open[oldest].descriptor, Int32(SHUT_RDWR))
                open[oldest].deadline = .max
            }
            open.append(
                Open(descriptor: descriptor, deadline: Clock.now + HTTPServer.requestTime))
        }
    }

    fileprivate func answered(_ connection: OpaquePointer) {
        let descriptor = smalloc_http_descriptor(connection)
        open.withLock { open in
            guard let index = open.firstIndex(where: { $0.descriptor == descriptor }) else {
                return
            }
            open[index].deadline = Clock.now + HTTPServer.requestTime
        }
    }
}

private func server(of context: UnsafeMutableRawPointer?) -> HTTPServer? {
    context.map { Unmanaged<HTTPServer>.fromOpaque($0).takeUnretainedValue() }
}

private func httpAsked(
    _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?,
    _ path: UnsafePointer<CChar>?, _ method: UnsafePointer<CChar>?,
    _ version: UnsafePointer<CChar>?, _ body: UnsafePointer<CChar>?,
    _ bodySize: UnsafeMutablePointer<Int>?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> MHD_Result {
    guard let server = server(of: context), let connection, let path, let method, let bodySize,
        let state
    else { return smalloc_http_no }
    // It is called when the headers are there, for each piece of a body, and at the end.
    if state.pointee == nil {
        state.pointee = context
        return smalloc_http_yes
    }
    if bodySize.pointee > 0 {
        bodySize.pointee = 0
        return smalloc_http_yes
    }
    return server.asked(connection, String(cString: path), String(cString: method))
}

private func httpConnected(
    _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ event: MHD_ConnectionNotificationCode
) {
    guard let connection else { return }
    server(of: context)?.connected(
        connection, isOver: event == smalloc_http_closed)
}

private func httpAnswered(
    _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ end: MHD_RequestTerminationCode
) {
    guard let connection else { return }
    server(of: context)?.answered(connection)
}
