// A server that does what a test says, and nothing else: for everything that a good daemon never
// does.

import Foundation
import Smalloc
import TestSupport

/// Listens on a Unix socket and hands every connection to a body, on a thread of its own.
final class FakeServer: Sendable {
    let path: String
    private let listener: Int32
    private let folder: String
    private let peers = Guarded<[FakePeer]>([])

    var address: String { "unix:\(path)" }

    /// Connections accepted so far.
    var accepted: Int { peers.withLock { $0.count } }

    /// - Parameter serve: Called with each connection and its number, from 0; the connection is
    ///   closed when it returns.
    init(_ serve: @escaping @Sendable (FakePeer, Int) -> Void) throws {
        folder = try DaemonProcess.newFolder()
        path = folder + "/s"
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, listen(listener, 16) == 0 else {
            throw RawSocketError.system(call: "bind", number: errno)
        }
        // The thread has a descriptor of its own, and closes it: the number of one that is closed
        // elsewhere may by then be another server's, whose connections it would take.
        let accepting = fcntl(listener, F_DUPFD_CLOEXEC, 0)
        Thread.detachNewThread { [weak self] in
            defer { Glibc.close(accepting) }
            while true {
                let descriptor = accept(accepting, nil, nil)
                guard descriptor >= 0 else { return }
                let peer = FakePeer(descriptor)
                guard let number = self?.add(peer) else { return peer.close() }
                Thread.detachNewThread {
                    serve(peer, number)
                    peer.close()
                }
            }
        }
    }

    private func add(_ peer: FakePeer) -> Int {
        peers.withLock {
            $0.append(peer)
            return $0.count - 1
        }
    }

    /// Answers one request, and the others once the gate is open.
    static func stalling(until gate: Gate) throws -> FakeServer {
        try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            gate.wait()
            while let request = peer.receiveFrame(), peer.answer(request) {}
        }
    }

    /// Whether the client has closed its end of a connection.
    func clientHasClosed(_ number: Int) -> Bool {
        guard let peer = peers.withLock({ number < $0.count ? $0[number] : nil }) else {
            return false
        }
        return peer.isEnded
    }

    deinit {
        // Wakes the accepting thread, which closes its own.
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        for peer in peers.withLock({ $0 }) { peer.end() }
        try? FileManager.default.removeItem(atPath: folder)
    }
}

/// The server's end of a connection.
final class FakePeer: @unchecked Sendable {
    private let lock = NSLock()
    private var descriptor: Int32
    private var ended = false

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        var time = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    func close() {
        lock.withLock {
            guard descriptor >= 0 else { return }
            // A process that another test has just started may have inherited it.
            shutdown(descriptor, Int32(SHUT_RDWR))
            Glibc.close(descriptor)
            descriptor = -1
        }
    }

    /// Ends both directions, so that a serving thread stops.
    func end() {
        lock.withLock {
            if descriptor >= 0 { shutdown(descriptor, Int32(SHUT_RDWR)) }
        }
    }

    /// Whether the client has closed, as far as `receive` or `waitForEnd` have found.
    var isEnded: Bool { lock.withLock { ended } }

    func receive(_ count: Int) -> [UInt8]? {
        var bytes: [UInt8] = []
        while bytes.count < count {
            var part = [UInt8](repeating: 0, count: min(count - bytes.count, 65_536))
            let got = recv(descriptor, &part, part.count, 0)
            if got <= 0 {
                lock.withLock { ended = true }
                return nil
            }
            bytes += part[..<got]
        }
        return bytes
    }

    /// Whether something has come that was not received, after a moment.
    var hasMore: Bool {
        usleep(30_000)
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
            > 0
    }

    /// Whether something has come that was not received.
    func peek(_ byte: inout UInt8) -> Bool {
        recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) > 0
    }

    /// Makes room for little that was not received.
    func shrinkReceiveBuffer() {
        var size: Int32 = 4096
        setsockopt(
            descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    }

    func receiveFrame() -> TestFrame? {
        guard let header = receive(TestFrame.headerSize) else { return nil }
        var frame = TestFrame(header: header)
        guard let payload = receive(Int(frame.payloadSize)) else { return nil }
        frame.payload = payload
        return frame
    }

    /// Waits until the client closes.
    func waitForEnd() { while receive(1) != nil {} }

    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var done = 0
        while done < bytes.count {
            let sent = bytes.withUnsafeBytes {
                Glibc.send(
                    descriptor, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
            }
            guard sent > 0 else {
                lock.withLock { ended = true }
                return false
            }
            done += sent
        }
        return true
    }

    /// A reply to a request.
    func reply(
        _ request: TestFrame, status: UInt16 = 0, type: UInt8 = 0, handle: UInt32 = 0,
        size: UInt64 = 0, payload: [UInt8] = []
    ) -> TestFrame {
        var frame = TestFrame(
            request.operation, type: type, cookie: request.cookie, handle: handle, size: size,
            payload: payload)
        frame.magic = 0xE6
        frame.status = status
        return frame
    }

    /// Answers a hello as a daemon does.
    func greet(_ limits: Smalloc.Limits = Smalloc.Limits()) -> Bool {
        guard let hello = receiveFrame(), hello.operation == 1 else { return false }
        var fields = limits.helloFields
        // It has no memory that could be mapped.
        fields[2] &= ~1
        let payload = fields.flatMap { littleEndian($0) }
        return send(reply(hello, payload: payload).bytes)
    }

    /// Answers one request well enough: handles count up, reads give zeros.
    func answer(_ request: TestFrame) -> Bool {
        switch request.operation {
        case 3:
            send(reply(request, type: request.type, handle: 1, size: request.size).bytes)
        case 8:
            send(
                reply(
                    request, type: 2, size: request.size,
                    payload: [UInt8](repeating: 0, count: Int(request.size))
                ).bytes)
        default:
            send(reply(request, size: request.size).bytes)
        }
    }

    /// Greets and answers `count` requests.
    func behave(_ count: Int = .max) -> Bool {
        guard greet() else { return false }
        for _ in 0..<count {
            guard let request = receiveFrame(), answer(request) else { return false }
        }
        return true
    }
}

/// A value under a lock that the ThreadSanitizer sees, which `Mutex` is not.
final class Guarded<Value>: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Value

    init(_ value: Value) { self.value = value }

    func withLock<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
        lock.lock()
        defer { lock.unlock() }
        return try body(&value)
    }
}
