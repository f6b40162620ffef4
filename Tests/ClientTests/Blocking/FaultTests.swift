// The client when the daemon is gone, hung, slow or mad: every call ends, with the right error.

import Foundation
import Smalloc
import Synchronization
import Testing
import TestSupport

/// What a peer does wrong, after a good greeting and alloc.
enum Misbehaviour: String, CaseIterable, Sendable {
    case closes, closesInHeader, closesInPayload, hangs, hangsInHeader, hangsInPayload, drips
    case garbage, text, foreignCookie, foreignOperation, tooMuchPayload, tooLittlePayload
    case shuttingDown

    /// What the client says to it.
    var statuses: Set<Smalloc.Status> {
        switch self {
        case .closes, .closesInHeader, .closesInPayload: [.connectionLost]
        case .hangs, .hangsInHeader, .hangsInPayload, .drips: [.timedOut]
        case .garbage, .text, .foreignCookie, .foreignOperation, .tooMuchPayload,
            .tooLittlePayload:
            [.unexpectedReply]
        case .shuttingDown: [.shuttingDown]
        }
    }

    /// Whether the client has to run into its timeout.
    var options: Smalloc.Options {
        statuses == [.timedOut] ? impatient() : impatient(asking: .seconds(20))
    }

    /// Does it to a read of 8 bytes.
    func perform(_ peer: FakePeer, _ request: TestFrame) {
        let good = peer.reply(request, type: 8, size: 8, payload: [UInt8](repeating: 1, count: 8))
        switch self {
        case .closes: break
        case .closesInHeader: peer.send(Array(good.bytes[..<20]))
        case .closesInPayload: peer.send(Array(good.bytes[..<44]))
        case .hangs: peer.waitForEnd()
        case .hangsInHeader:
            peer.send(Array(good.bytes[..<20]))
            peer.waitForEnd()
        case .hangsInPayload:
            peer.send(Array(good.bytes[..<44]))
            peer.waitForEnd()
        case .drips:
            for byte in good.bytes {
                guard peer.send([byte]) else { return }
                usleep(100_000)
            }
            peer.waitForEnd()
        case .garbage:
            peer.send((0..<4096).map { UInt8($0 & 0x7F) })
            peer.waitForEnd()
        case .text:
            peer.send(Array("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".utf8))
            peer.waitForEnd()
        case .foreignCookie:
            var bad = good
            bad.cookie &+= 12345 << 32
            peer.send(bad.bytes)
            peer.waitForEnd()
        case .foreignOperation:
            var bad = good
            bad.operation = 9
            peer.send(bad.bytes)
            peer.waitForEnd()
        case .tooMuchPayload:
            peer.send(
                peer.reply(request, payload: [UInt8](repeating: 1, count: 100_000)).bytes)
            peer.waitForEnd()
        case .tooLittlePayload:
            peer.send(peer.reply(request, payload: [1, 2]).bytes)
            peer.waitForEnd()
        case .shuttingDown:
            var bad = peer.reply(
                request, status: Smalloc.Status.shuttingDown.rawValue, payload: Array("bye".utf8))
            bad.cookie = 0
            peer.send(bad.bytes)
        }
    }

    /// A server that behaves badly at the first read of its first connection, and well after that.
    func server() throws -> FakeServer {
        try FakeServer { peer, number in
            guard number == 0 else {
                _ = peer.behave()
                return
            }
            guard peer.greet() else { return }
            while let request = peer.receiveFrame() {
                if request.operation == 8 { return perform(peer, request) }
                guard peer.answer(request) else { return }
            }
        }
    }
}

/// Options of a client that gives up soon, or, where that is not the point, late enough for a busy
/// machine.
func impatient(
    connecting: Duration = .seconds(20), asking: Duration = .milliseconds(800)
) -> Smalloc.Options {
    var options = Smalloc.Options()
    options.connectTimeout = connecting
    options.requestTimeout = asking
    return options
}

@Suite("Faults, synchronous", .timed)
struct FaultTests {
    @Test("nobody there, or no address")
    func nobody() {
        for address in [
            "unix:/nonexistent/s", "unix:\(String(repeating: "x", count: 200))", "tcp:127.0.0.1:1",
            "nonsense", "tcp:localhost", "",
        ] {
            let error = failure { () throws(SmallocError) in _ = try Smalloc(address) }
            #expect(error?.status == .cannotConnect, "\(address): \(error?.message ?? "")")
            #expect(error?.isTransport == true)
        }
    }

    @Test("a peer that never greets, or greets in other tongues")
    func greetings() throws {
        let silent = try FakeServer { peer, _ in peer.waitForEnd() }
        let start = Date()
        #expect(
            failure { () throws(SmallocError) in
                _ = try Smalloc(silent.address, options: impatient(connecting: .milliseconds(300)))
            }?
            .status == .timedOut)
        #expect(Date().timeIntervalSince(start) < 10)
        #expect(eventually { silent.clientHasClosed(0) })
        let closing = try FakeServer { peer, _ in _ = peer.receive(10) }
        #expect(
            failure { () throws(SmallocError) in
                _ = try Smalloc(closing.address, options: impatient())
            }?
            .status == .connectionLost)
        let foreign = try FakeServer { peer, _ in
            peer.send(Array("220 mail.example.org ESMTP, and much more than forty bytes\r\n".utf8))
            peer.waitForEnd()
        }
        #expect(
            failure { () throws(SmallocError) in
                _ = try Smalloc(foreign.address, options: impatient())
            }?
            .status == .unexpectedReply)
        let full = try FakeServer { peer, _ in
            guard let hello = peer.receiveFrame() else { return }
            let status = Smalloc.Status.connectionLimit.rawValue
            peer.send(peer.reply(hello, status: status, payload: Array("full".utf8)).bytes)
        }
        let refused = failure { () throws(SmallocError) in
            _ = try Smalloc(full.address, options: impatient())
        }
        #expect(refused?.status == .connectionLimit)
        #expect(refused?.message == "full")
    }

    @Test(
        "every misbehaviour ends the call with its error, and the connection",
        arguments: Misbehaviour.allCases)
    func misbehaviour(_ kind: Misbehaviour) throws {
        let server = try kind.server()
        let smalloc = try Smalloc(server.address, options: kind.options)
        let a = try smalloc.alloc(4, .double)
        let start = Date()
        let error = failure { () throws(SmallocError) in _ = try a.get(0) }
        #expect(Date().timeIntervalSince(start) < 10)
        #expect(kind.statuses.contains(error?.status ?? .ok), "\(error?.description ?? "no error")")
        #expect(!smalloc.isConnected)
        // The allocation went with the connection; what needs none connects again.
        #expect(failure { () throws(SmallocError) in _ = try a.get(0) }?.status.closes == true)
        #expect(server.accepted == 1)
        try smalloc.ping()
        #expect(server.accepted == 2)
        #expect(failure { () throws(SmallocError) in _ = try a.get(0) }?.status == .connectionLost)
        if kind != .closes, !kind.rawValue.hasPrefix("closes"), kind != .shuttingDown {
            #expect(eventually { server.clientHasClosed(0) })
        }
        a[0] = 1
        #expect(failure(a.throwIfFailed)?.status == .connectionLost)
    }

    @Test(
        "bulk reads end well, too",
        arguments: [Misbehaviour.closesInPayload, .hangsInPayload, .garbage])
    func bulk(_ kind: Misbehaviour) throws {
        let server = try FakeServer { peer, _ in
            guard peer.greet() else { return }
            var reads = 0
            while let request = peer.receiveFrame() {
                if request.operation == 8 { reads += 1 }
                if reads == 2 {
                    let header = peer.reply(
                        request, size: request.size,
                        payload: [UInt8](repeating: 1, count: Int(request.size))
                    ).bytes
                    if kind == .garbage {
                        peer.send([UInt8](repeating: 0x20, count: 100))
                    } else {
                        peer.send(Array(header[..<5000]))
                    }
                    if kind != .closesInPayload { peer.waitForEnd() }
                    return
                }
                guard peer.answer(request) else { return }
            }
        }
        var options = kind.options
        options.chunkSize = 8192
        let smalloc = try Smalloc(server.address, options: options)
        let a = try smalloc.alloc(100_000)
        let error = failure { () throws(SmallocError) in _ = try a.read(UInt8.self) }
        #expect(kind.statuses.contains(error?.status ?? .ok), "\(error?.description ?? "no error")")
    }

    @Test("a peer that reads nothing holds nobody for ever")
    func stalledWrite() throws {
        let gate = Gate()
        let server = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            gate.wait()
        }
        defer { gate.open() }
        let smalloc = try Smalloc(server.address, options: impatient())
        let a = try smalloc.alloc(64 << 20)
        let error = failure { () throws(SmallocError) in
            try a.write([UInt8](repeating: 1, count: 3 << 20))
        }
        #expect(error?.status == .timedOut)
        // This one asks nothing, so that nothing of it can be late.
        let next = failure { () throws(SmallocError) in _ = try a.get(0) }
        #expect(next?.status == .connectionLost)
    }

    @Test("a call that spins for its answer gets it, and ends in time")
    func busyPoll() throws {
        var options = Smalloc.Options()
        options.busyPoll = .microseconds(50)
        let smalloc = try SharedDaemon.connect(options)
        let a = try smalloc.alloc(100_000, .int32)
        try a.write((0..<100_000).map { Int32($0) })
        #expect(try a.get(77) == 77)
        #expect(try a.read(Int32.self) == (0..<100_000).map { Int32($0) })
        for (kind, spin) in [(Misbehaviour.hangs, Duration.seconds(9)), (.closes, .seconds(9))] {
            let server = try kind.server()
            var options = kind.options
            options.busyPoll = spin
            let smalloc = try Smalloc(server.address, options: options)
            let a = try smalloc.alloc(4, .double)
            let start = Date()
            let error = failure { () throws(SmallocError) in _ = try a.get(0) }
            #expect(kind.statuses.contains(error?.status ?? .ok))
            #expect(Date().timeIntervalSince(start) < 7)
        }
    }

    @Test("without reconnecting, the first failure stays")
    func noReconnect() throws {
        let server = try Misbehaviour.closes.server()
        var options = impatient(asking: .seconds(20))
        options.reconnects = false
        let smalloc = try Smalloc(server.address, options: options)
        let a = try smalloc.alloc(1)
        #expect(failure { () throws(SmallocError) in _ = try a.get(0) }?.status == .connectionLost)
        #expect(
            failure { () throws(SmallocError) in try smalloc.ping() }?.status == .connectionLost)
        #expect(server.accepted == 1)
        smalloc.close()
        #expect(failure { () throws(SmallocError) in try smalloc.ping() }?.status == .closed)
    }

    @Test("a daemon that is killed, started anew, stopped and continued")
    func realDaemon() throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let first = try DaemonProcess(folder: folder)
        let smalloc = try Smalloc("unix:\(first.path)", options: impatient(asking: .seconds(2)))
        let a = try smalloc.alloc(4, named: "kept")
        first.kill()
        #expect(failure { () throws(SmallocError) in _ = try a.get(0) }?.status == .connectionLost)
        #expect(failure { () throws(SmallocError) in try smalloc.ping() }?.status == .cannotConnect)
        let second = try DaemonProcess(folder: folder)
        try smalloc.ping()
        #expect(
            failure { () throws(SmallocError) in _ = try smalloc.open("kept") }?.status == .noData)
        let b = try smalloc.alloc(4)
        second.signal(SIGSTOP)
        let start = Date()
        #expect(failure { () throws(SmallocError) in _ = try b.get(0) }?.status == .timedOut)
        #expect(Date().timeIntervalSince(start) < 10)
        second.signal(SIGCONT)
        try smalloc.ping()
        // A daemon that went while nobody asked is noticed before the next request is lost with it.
        #expect(second.stop() == 0)
        let third = try DaemonProcess(folder: folder)
        try smalloc.ping()
        #expect(third.isRunning)
    }
}

/// Lets threads wait for a test.
final class Gate: Sendable {
    private let opened = Atomic<Bool>(false)
    func open() { opened.store(true, ordering: .releasing) }
    func wait() { while !opened.load(ordering: .acquiring) { usleep(1000) } }
}
