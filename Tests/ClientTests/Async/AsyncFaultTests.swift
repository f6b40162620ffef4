// The async face when the daemon is gone, hung, slow or mad, and when tasks are cancelled at every
// point where they wait.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Faults, asynchronous", .timed)
struct AsyncFaultTests {
    @Test("nobody there, silence, other tongues")
    func greetings() async throws {
        let nobody = await failure { () async throws(SmallocError) in
            _ = try await AsyncSmalloc("unix:/nonexistent/s")
        }
        #expect(nobody?.status == .cannotConnect)
        let silent = try FakeServer { peer, _ in peer.waitForEnd() }
        let hung = await failure { () async throws(SmallocError) in
            _ = try await AsyncSmalloc(
                silent.address, options: impatient(connecting: .milliseconds(300)))
        }
        #expect(hung?.status == .timedOut)
        #expect(eventually { silent.clientHasClosed(0) })
        let foreign = try FakeServer { peer, _ in
            peer.send(Array("220 mail.example.org ESMTP, and much more than forty bytes\r\n".utf8))
            peer.waitForEnd()
        }
        let tongue = await failure { () async throws(SmallocError) in
            _ = try await AsyncSmalloc(foreign.address, options: impatient())
        }
        #expect(tongue?.status == .unexpectedReply)
    }

    @Test("every misbehaviour ends every call with a typed error", arguments: Misbehaviour.allCases)
    func misbehaviour(_ kind: Misbehaviour) async throws {
        let server = try kind.server()
        var options = kind.options
        // A wrong size ends one call, and the others wait in vain.
        let inStep = kind == .tooMuchPayload || kind == .tooLittlePayload
        if inStep { options = impatient() }
        let smalloc = try await AsyncSmalloc(server.address, options: options)
        let a = try await smalloc.alloc(40, .double)
        let statuses = await withTaskGroup(of: Smalloc.Status?.self) { group in
            for index in 0..<20 {
                group.addTask {
                    await failure { () async throws(SmallocError) in _ = try await a.get(index) }?
                        .status
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(statuses.count == 20)
        var expected = kind.statuses
        if inStep { expected.insert(.timedOut) }
        #expect(statuses.contains { kind.statuses.contains($0 ?? .ok) })
        // What is asked when it is over already.
        if !smalloc.isConnected { expected.insert(.connectionLost) }
        for status in statuses {
            #expect(expected.contains(status ?? .ok), "\(status?.symbol ?? "no error")")
        }
        switch kind {
        case .hangs, .hangsInHeader, .hangsInPayload, .drips:
            // A hung daemon costs the calls their time, not the connection.
            #expect(smalloc.isConnected || kind == .drips)
        case .tooLittlePayload, .tooMuchPayload:
            #expect(smalloc.isConnected)
        default:
            #expect(eventually { !smalloc.isConnected })
            try await smalloc.ping()
            #expect(server.accepted == 2)
            let error = await failure { () async throws(SmallocError) in _ = try await a.get(0) }
            #expect(error?.isTransport == true || error?.status == .shuttingDown)
        }
        withExtendedLifetime(server) {}
        smalloc.close()
        let closed = await failure { () async throws(SmallocError) in try await smalloc.ping() }
        #expect(closed?.status == .closed)
    }

    @Test("a late answer is thrown away, and the connection goes on")
    func late() async throws {
        let gate = Gate()
        let server = try FakeServer { peer, _ in
            guard peer.behave(1), let request = peer.receiveFrame() else { return }
            gate.wait()
            guard peer.answer(request) else { return }
            while let request = peer.receiveFrame(), peer.answer(request) {}
        }
        let smalloc = try await AsyncSmalloc(server.address, options: impatient())
        let a = try await smalloc.alloc(1)
        let error = await failure { () async throws(SmallocError) in _ = try await a.get(0) }
        #expect(error?.status == .timedOut)
        gate.open()
        try await smalloc.ping()
        #expect(try await a.get(0) == 0)
        #expect(server.accepted == 1)
    }

    @Test("cancelling ends the waiting wherever it is: connecting, asking, moving bulk, listing")
    func cancelEverywhere() async throws {
        var options = Smalloc.Options()
        options.requestTimeout = nil
        options.connectTimeout = .seconds(60)
        func cancelled(
            _ body: @escaping @Sendable () async throws -> Void
        ) async -> Smalloc.Status? {
            let task = Task { () -> Smalloc.Status? in
                do {
                    try await body()
                    return nil
                } catch let error as SmallocError {
                    return error.status
                } catch {
                    return .ok
                }
            }
            try? await Task.sleep(for: .milliseconds(50))
            task.cancel()
            return await task.value
        }
        let silent = try FakeServer { peer, _ in peer.waitForEnd() }
        let patient = options
        let connecting = await cancelled {
            _ = try await AsyncSmalloc(silent.address, options: patient)
        }
        #expect(connecting == .cancelled)
        let gate = Gate()
        defer { gate.open() }
        let deaf = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            gate.wait()
        }
        let smalloc = try await AsyncSmalloc(deaf.address, options: options)
        let a = try await smalloc.alloc(64 << 20)
        let data = [UInt8](repeating: 1, count: 8 << 20)
        let waits: [@Sendable () async throws -> Void] = [
            { _ = try await a.get(0) },
            { try await a.set(1, at: 0) },
            { _ = try await a.read(UInt8.self) },
            { try await a.write(data) },
            { _ = try await a.read(UInt8.self, ranges: [0..<9]) },
            { for try await _ in smalloc.list() {} },
            { _ = try await smalloc.alloc(1) },
            { try await a.dispose() },
        ]
        for wait in waits {
            let status = await cancelled(wait)
            #expect(status == .cancelled)
        }
        // It was asked for, so nothing more is asked by this handle.
        let error = await failure { () async throws(SmallocError) in _ = try await a.get(0) }
        #expect(error?.status == .noData)
        smalloc.close()
    }

    @Test("a call that gets no answer among busy others is cancelled and timed out all the same")
    func unanswered() async throws {
        let server = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            while let request = peer.receiveFrame() {
                if request.offset == 0, !peer.answer(request) { return }
            }
        }
        for options in [impatient(asking: .milliseconds(300)), impatient(asking: .seconds(600))] {
            let smalloc = try await AsyncSmalloc(server.address, options: options)
            let a = try await smalloc.alloc(8)
            let busy = (0..<40).map { number in
                Task(executorPreference: number % 2 == 0 ? smalloc.executor : nil) {
                    while !Task.isCancelled { _ = try? await a.get(0) }
                }
            }
            let start = ContinuousClock.now
            for executor in [smalloc.executor, nil] as [AsyncSmalloc.Executor?] {
                for pause in [0, 1, 5, 100] {
                    let victim = Task(executorPreference: executor) {
                        await failure { () async throws(SmallocError) in _ = try await a.get(7) }
                    }
                    try await Task.sleep(for: .milliseconds(pause))
                    if options.requestTimeout == .seconds(600) { victim.cancel() }
                    let status = await victim.value?.status
                    #expect(status == (victim.isCancelled ? .cancelled : .timedOut))
                }
            }
            #expect(ContinuousClock.now - start < .seconds(10))
            for task in busy { task.cancel() }
            for task in busy { await task.value }
            try await smalloc.ping()
        }
    }

    @Test("a stalled peer is written to when it reads again, and gets every byte once")
    func stalled() async throws {
        let gate = Gate()
        let size = 9 << 20
        /// What was written, by its first byte, and at which offset.
        let written = Guarded<[UInt64: [UInt8]]>([:])
        let server = try FakeServer { peer, _ in
            guard peer.behave(1) else { return }
            gate.wait()
            while let request = peer.receiveFrame() {
                if request.operation == 9 {
                    let isOnce = written.withLock {
                        $0.updateValue(request.payload, forKey: request.offset) == nil
                    }
                    guard isOnce else { return }
                }
                guard peer.answer(request) else { return }
            }
        }
        let smalloc = try await AsyncSmalloc(server.address)
        let a = try await smalloc.alloc(64 << 20)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for part in 0..<4 {
                group.addTask {
                    let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ part) }
                    try await a.write(bytes, at: part * size)
                }
                group.addTask {
                    let read = try await a.read(UInt8.self, count: size)
                    #expect(read.count == size)
                }
                group.addTask {
                    for _ in 0..<50 {
                        let number = try await a.get(0)
                        #expect(number == 0)
                    }
                }
            }
            try await Task.sleep(for: .milliseconds(100))
            gate.open()
            try await group.waitForAll()
        }
        var total = 0
        for (offset, bytes) in written.withLock({ $0 }) {
            let (part, start) = Int(offset).quotientAndRemainder(dividingBy: size)
            let isRight = bytes.indices.allSatisfy {
                bytes[$0] == UInt8(truncatingIfNeeded: (start + $0) &* 31 &+ part)
            }
            #expect(isRight, "at \(offset)")
            total += bytes.count
        }
        #expect(total == 4 * size)
        #expect(server.accepted == 1)
    }

    @Test("a daemon that is killed and started anew, stopped and continued")
    func realDaemon() async throws {
        let folder = try DaemonProcess.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let first = try DaemonProcess(folder: folder)
        let smalloc = try await AsyncSmalloc(
            "unix:\(first.path)", options: impatient(asking: .seconds(2)))
        let a = try await smalloc.alloc(4)
        first.signal(SIGSTOP)
        let statuses = await withTaskGroup(of: Smalloc.Status?.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    await failure { () async throws(SmallocError) in _ = try await a.get(0) }?
                        .status
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(statuses == Array(repeating: .timedOut, count: 50))
        first.signal(SIGCONT)
        #expect(try await a.get(0) == 0, "the connection outlives the timeouts")
        first.kill()
        let lost = await failure { () async throws(SmallocError) in _ = try await a.get(0) }
        #expect(lost?.status == .connectionLost)
        let nobody = await failure { () async throws(SmallocError) in try await smalloc.ping() }
        #expect(nobody?.status == .cannotConnect)
        let second = try DaemonProcess(folder: folder)
        try await smalloc.ping()
        let still = await failure { () async throws(SmallocError) in _ = try await a.get(0) }
        #expect(still?.status == .connectionLost)
        #expect(second.isRunning)
    }
}
